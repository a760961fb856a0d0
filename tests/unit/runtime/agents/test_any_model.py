"""Whatever a model says: an agent ends, within its limits, and its conversation stays whole."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.runtime.agents.conversation import messages_of, place_of
from services.runtime.providers.model import ChatAnswer, Finish, Role, ToolUse
from tests.agent_world import World, context

NAMES = st.sampled_from(["add", "fail", "add ", "", "unknown", "\ud800"])
ARGUMENTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ['{"a": 1, "b": 2}', '{"a": 1}', "{}", "[]", "null", "[" * 5000, '{"a":1e999}']
    ),
)
IDS = st.sampled_from(["", "x", "y", "call_1_1", "call_2_1"])
USES = st.lists(st.builds(ToolUse, call_id=IDS, name=NAMES, arguments=ARGUMENTS), max_size=4)
TEXTS = st.one_of(st.text(max_size=30), st.sampled_from(["", "\ud83d", "```json\n{}\n```", "[1]"]))
ANSWERS = st.lists(
    st.builds(ChatAnswer, text=TEXTS, tool_uses=USES, finish=st.sampled_from(list(Finish))),
    min_size=1,
    max_size=6,
)
ENDS = {
    Reason.AGENT_TURN_LIMIT, Reason.AGENT_CALL_LIMIT, Reason.PROVIDER_ANSWER_INVALID,
}  # fmt: skip


def is_whole(messages):
    """Whether each call is answered, at once and once, and ids differ within an answer."""
    waiting = []
    for message in messages:
        if message.role is Role.TOOL:
            assert message.call_id == waiting.pop(0)
        else:
            assert not waiting
            waiting = [use.call_id for use in message.tool_uses]
            assert len(set(waiting)) == len(waiting)
    return not waiting


@settings(max_examples=60)
@given(ANSWERS, st.booleans(), st.integers(1, 6))
def test_an_agent_ends_whatever_its_model_says(answers, with_schema, shown):
    """With an answer or an error that says why; no more is asked, called or kept than it may."""

    def fail():
        raise ServiceError(Reason.TOOL_FAILED, "no")

    async def ask():
        ends = []
        world = World(*answers)
        number = {"type": "number"}
        world.tools.add("add", lambda a, b: a + b, a=number, b=number)
        world.tools.add("fail", fail)
        agent = {
            "tools": ["add", "fail"],
            "limits": {"max_turns": 5, "max_tool_calls": 6},
            "max_conversation_length": shown,
        }
        if with_schema:
            agent["answer_schema"] = '{"type": "object"}'
        try:
            output = await world.ask(agent, session_id="s1")
            output.SerializeToString()
        except ServiceError as error:
            ends.append(error)
        assert all(one.reason in ENDS and "tokens" in one.metadata for one in ends)
        assert len(world.model.requests) <= 5
        assert len(world.tools.made) <= 6
        assert all(is_whole(request.messages) for request in world.model.requests)
        kept = await world.conversations.read(context(), place_of("clerk", "s1", ""))
        assert is_whole(messages_of(kept.messages))

    asyncio.run(ask())
