"""Whatever a server sends as an answer, reading it fails in no other way than it may."""

import json

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.providers import failures, listing
from services.runtime.providers.answering import Answer
from services.runtime.providers.asking import ToolNames
from services.runtime.providers.messages_answer import MessagesAnswer
from services.runtime.providers.model import ChatRequest, Message, Role
from services.runtime.providers.sse import events

NAMES = [
    "choices", "delta", "message", "content", "tool_calls", "function", "name", "arguments",
    "index", "id", "finish_reason", "usage", "prompt_tokens", "completion_tokens", "model", "error",
    "code",
    "type", "text", "data", "meta", "content_block", "stop_reason", "input", "partial_json",
    "input_tokens", "prompt_tokens_details", "cached_tokens", "refusal", "function_call", "detail",
]  # fmt: skip
WORDS = [
    "message", "message_start", "content_block_start", "content_block_delta", "message_delta",
    "text", "text_delta", "tool_use", "input_json_delta", "stop", "\ud83d", "\ude00", "",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8)
REQUEST = ChatRequest(model="m", messages=[Message(role=Role.USER, text="hello")])


def check(coming, chunks):
    """Text that was heard is the answer's, whole characters; uses have ids; counts are counts."""
    heard = "".join(coming.take(chunk) for chunk in chunks)
    answer = coming.answer(REQUEST, attempts=1)
    assert answer.text.startswith(heard)
    for use in answer.tool_uses:
        use.arguments.encode()
        assert use.call_id
    assert answer.usage.input_tokens >= answer.usage.cached_tokens >= 0
    assert answer.usage.output_tokens >= 0
    assert coming.tokens(REQUEST) >= 0
    return answer


@given(st.lists(OBJECTS, max_size=6))
def test_pieces_of_openai_s_protocol(chunks):
    """Any objects make an answer, of whole characters."""
    check(Answer(ToolNames.of(REQUEST)), chunks).text.encode()


@given(st.lists(OBJECTS, max_size=6), st.booleans())
def test_pieces_of_anthropic_s_protocol(chunks, is_held):
    """Any objects make an answer."""
    check(MessagesAnswer(ToolNames.of(REQUEST), is_held=is_held), chunks)


@given(VALUES)
def test_lists_of_models_and_errors(value):
    """Any value is a list of models, and an error with words."""
    assert all(model.name for model in listing.models(value))
    facts = failures.error_facts(value)
    assert set(facts) == {"code", "message"}
    assert all(isinstance(told, str) for told in facts.values())
    failures.within_answer("p", value, model="m", key="k")


@given(st.lists(st.text(max_size=8), max_size=6), st.data())
async def test_events_wherever_they_are_cut(texts, data):
    """Events come out as they went in, wherever the network cuts their bytes."""
    sent = [json.dumps({"t": text}, ensure_ascii=False) for text in texts]
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    body = "".join(f"data: {one}{end}{end}" for one in sent).encode("utf-8", "surrogatepass")
    places = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))

    async def pieces():
        for start, stop in zip([0, *places], [*places, len(body)], strict=True):
            yield body[start:stop]

    expected = [one.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for one in sent]
    assert [event async for event in events(pieces())] == expected
