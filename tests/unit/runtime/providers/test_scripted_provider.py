"""Does a script go the same way each time, and the way its author means?"""

import json

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.providers.model import (
    Capabilities,
    ChatRequest,
    Finish,
    Message,
    Role,
    ToolUse,
)
from services.runtime.providers.scripted import ScriptedProvider, Scripts

WEATHER = {
    "replies": [
        {"when": "weather", "tools": [{"name": "weather", "arguments": {"of": "{{input}}"}}]},
        {"when": "weather", "text": "It is {{result.sky}} ({{result.of.0}})."},
        {"text": "Hello."},
        {"text": "Bye."},
    ]
}


def user(text):
    return Message(role=Role.USER, text=text)


def said(text="", *uses):
    return Message(role=Role.ASSISTANT, text=text, tool_uses=uses)


def provider(script=None, folder=None):
    inline = f"data:application/json,{json.dumps(script)}" if script else ""
    return ScriptedProvider("scripted", Capabilities(), Scripts(folder), inline)


async def ask(one, *messages, model="inline", **more):
    return await one.chat(ChatRequest(model=model, messages=messages, **more))


async def test_a_script_calls_a_tool_and_speaks_of_its_answer():
    """The reply that fits the user's words comes first, then one with what the tool said."""
    one, asked = provider(WEATHER), user("The weather, please")
    first = await ask(one, asked)
    assert first.finish is Finish.TOOL_CALLS
    assert first.tool_uses == (
        ToolUse(call_id="call_1", name="weather", arguments='{"of": "The weather, please"}'),
    )
    answer = Message(role=Role.TOOL, text='{"sky": "clear", "of": [7]}', call_id="call_1")
    second = await ask(one, asked, said("", *first.tool_uses), answer)
    assert (second.text, second.finish) == ("It is clear (7).", Finish.STOP)
    assert second.usage.estimated


async def test_replies_without_a_condition_go_with_the_conversation():
    """They are played one after the other, and the last one from then on."""
    one = provider(WEATHER)
    texts, messages = [], []
    for _ in range(3):
        messages.append(user("Hi"))
        answer = await ask(one, *messages)
        texts.append(answer.text)
        messages.append(said(answer.text))
    assert texts == ["Hello.", "Bye.", "Bye."]


async def test_the_operator_s_files_are_played_and_read_again(tmp_path):
    """`scripted/NAME` is NAME.json; a change of it counts; no name leads out of the folder."""
    one = provider(folder=tmp_path)
    (tmp_path / "a.json").write_text('{"replies": [{"text": "One."}]}')
    assert (await ask(one, user(""), model="a")).text == "One."
    (tmp_path / "a.json").write_text('{"replies": [{"text": "Another."}]}')
    assert (await ask(one, user(""), model="a")).text == "Another."
    assert [model.name for model in await one.models()] == ["a", "echo"]
    for name in ("b", "../a", "/a"):
        with pytest.raises(ServiceError) as failed:
            await ask(one, user(""), model=name)
        assert failed.value.reason == Reason.MODEL_NOT_FOUND


async def test_echo_says_it_back_in_words():
    """`echo` streams what the user said last, word by word."""
    pieces = []

    class Heard:
        def text(self, piece):
            pieces.append(piece)

        def again(self, why):
            raise AssertionError(why)

    request = ChatRequest(model="echo", messages=[user("a"), said("b"), user(" two  words\n")])
    answer = await provider().chat(request, hears=Heard())
    assert pieces == [" two", "  words", "\n"]
    assert answer.text == " two  words\n"


async def test_a_script_can_fail_and_take_time():
    """A reply may be an error of the contract, or take longer than the caller allows."""
    failing = provider({"replies": [{"error": "PROVIDER_RATE_LIMITED", "text": "Later."}]})
    slow = provider({"replies": [{"text": "x", "wait_s": 30}]})
    for one, reason in ((failing, "PROVIDER_RATE_LIMITED"), (slow, "PROVIDER_TIME_LIMIT")):
        with pytest.raises(ServiceError) as failed:
            await ask(one, user(""), timeout_s=0.05)
        assert failed.value.reason == Reason.Value(reason)


async def test_an_answer_keeps_to_max_tokens_and_says_its_usage():
    """Words beyond `max_tokens` are cut with the reason `length`; usage may be written down."""
    one = provider({"replies": [{"text": "a b c d", "input_tokens": 9, "output_tokens": 4}]})
    answer = await ask(one, user(""), max_tokens=2)
    assert (answer.text, answer.finish) == ("a b", Finish.LENGTH)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 4)
    assert not answer.usage.estimated


@pytest.mark.parametrize(
    "inline", ["http://x", "data:application/json,{", "data:application/json,{}"]
)
def test_a_script_that_cannot_be_read_is_refused(inline):
    """What is no script is FIELD_INVALID of the field that holds it."""
    with pytest.raises(ServiceError) as failed:
        ScriptedProvider("scripted", Capabilities(), Scripts(), inline)
    assert (failed.value.reason, failed.value.metadata["field"]) == (
        Reason.FIELD_INVALID,
        "base_url",
    )
