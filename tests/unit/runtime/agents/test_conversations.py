"""What is shown of a conversation, what is kept of it, and what is found in memory by meaning."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.common.limits import CONVERSATION_BYTES_MAX, CONVERSATION_MESSAGES_KEPT
from services.runtime.agents.conversation import place_of
from services.runtime.agents.memory import INGEST, RETRIEVE
from services.runtime.agents.trimming import trimmed
from services.runtime.providers.model import Message, Role, ToolUse
from tests.agent_world import World, calls, context, says

NUMBER = {"type": "number"}


def user(text):
    return Message(role=Role.USER, text=text)


def agent(text, *ids):
    uses = [ToolUse(call_id=one, name="t", arguments="{}") for one in ids]
    return Message(role=Role.ASSISTANT, text=text, tool_uses=uses)


def tool(call_id):
    return Message(role=Role.TOOL, text="r", call_id=call_id)


EXCHANGES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8)


@given(EXCHANGES, st.integers(0, 12), st.booleans())
def test_no_answer_is_separated_from_its_call(exchanges, most, with_system):
    """Whatever the limit: an answer follows its call, and a call has all of its answers."""
    messages = [Message(role=Role.SYSTEM, text="s")] if with_system else []
    for number, (rounds, uses) in enumerate(exchanges):
        messages.append(user(f"q{number}"))
        for turn in range(rounds):
            ids = [f"{number}.{turn}.{use}" for use in range(uses)]
            messages += [agent("", *ids), *map(tool, ids)]
        messages.append(agent(f"a{number}"))
    messages.append(user("now"))
    left = trimmed(messages, most=most)
    asked = [use.call_id for message in left for use in message.tool_uses]
    answered = [message.call_id for message in left if message.role is Role.TOOL]
    assert asked == answered
    assert left[-1].text == "now"
    assert (left[0].role is Role.SYSTEM) == with_system
    past = left[1:] if with_system else left
    assert past[0].role is Role.USER
    assert len(past) <= max(most, 1)
    places = {id(message): place for place, message in enumerate(messages)}
    where = [places[id(message)] for message in left]
    assert where == sorted(where)


def test_the_newest_that_fit_are_shown():
    """By number, and by tokens; the system's message counts as tokens and always stays."""
    system = Message(role=Role.SYSTEM, text="s")
    told = [system, *(m for n in range(9) for m in (user(f"q{n}"), agent(f"a{n}"))), user("now")]
    assert [m.text for m in trimmed(told, most=5)] == ["s", "q7", "a7", "q8", "a8", "now"]
    by_tokens = trimmed(told, most=100, most_tokens=40, tokens_of=lambda _: 10)
    assert [m.text for m in by_tokens] == ["s", "q8", "a8", "now"]


def test_what_is_answered_now_always_stays():
    """Though it is more than the limits allow: question, and the newest calls with answers."""
    told = [
        user("old"),
        agent("a"),
        user("now"),
        agent("", "1"),
        tool("1"),
        agent("", "2"),
        tool("2"),
    ]
    left = trimmed(told, most=1)
    assert [(m.role, m.text or m.call_id) for m in left] == [
        (Role.USER, "now"), (Role.ASSISTANT, ""), (Role.TOOL, "r"),
    ]  # fmt: skip
    assert left[1].tool_uses[0].call_id == left[2].call_id == "2"


async def test_a_conversation_goes_on_in_its_session():
    """The second question is asked with the first exchange before it, tools and all."""
    world = World(calls(("add", {"a": 1, "b": 2})), says("3"), says("I said 3."))
    world.tools.add("add", lambda a, b: a + b, a=NUMBER, b=NUMBER)
    await world.ask({"tools": ["add"]}, "1+2?", session_id="s1")
    output = await world.ask({"tools": ["add"]}, "what did you say?", session_id="s1")
    assert output.conversation_id == "s1"
    told = [(message.role.value, message.text) for message in world.last.messages]
    assert told == [
        ("user", "1+2?"), ("assistant", ""), ("tool", "3"), ("assistant", "3"),
        ("user", "what did you say?"),
    ]  # fmt: skip
    use = world.last.messages[1].tool_uses[0]
    assert (use.name, json.loads(use.arguments)) == ("add", {"a": 1, "b": 2})
    kept = await world.conversations.read(context(), place_of("clerk", "s1", ""))
    assert len(kept.messages) == 6


async def test_conversations_are_apart():
    """By tenant, session, agent and conversation; without a session and an id none is kept."""
    world = World(says("ok"))
    await world.ask(None, "first", session_id="s1")
    await world.ask(None, "other id", session_id="s1", conversation_id="c2")
    await world.ask(None, "of the agent", conversation_id="c2")
    await world.ask(None, "kept nowhere")
    for more in (
        {"session_id": "s2"}, {"session_id": "s1", "tenant": "rival"}, {"conversation_id": "c3"},
        {"agent": {"name": "other"}, "session_id": "s1"}, {},
    ):  # fmt: skip
        await world.ask(more.pop("agent", None), "now", **more)
        assert [message.text for message in world.last.messages] == ["now"]
    await world.ask(None, "now", conversation_id="c2")
    assert [m.text for m in world.last.messages] == ["of the agent", "ok", "now"]


async def test_an_agent_within_another_has_no_part_in_the_conversation():
    """What one asks another is between them; the session keeps what the caller was told."""
    inner = {"agent": {"spec": {"name": "inner", "model": "m"}}, "tool_name": "ask_inner"}
    world = World(calls(("ask_inner", {"input": "2+2"})), says("4"), says("It is 4."))
    await world.ask({"agents": [inner]}, session_id="s1")
    assert [m.text for m in world.model.requests[1].messages] == ["2+2"]
    keys = [key for _, scope, key in world.state.items if scope == "session:s1"]
    assert keys == ["agent/clerk/conversation"]


async def test_a_failure_keeps_nothing():
    """A conversation has no question without an answer."""
    world = World(ServiceError(Reason.PROVIDER_UNAVAILABLE, "Gone."))
    with pytest.raises(ServiceError):
        await world.ask(None, session_id="s1")
    assert world.state.items == {}


async def test_two_at_once_lose_nothing():
    """Both exchanges are kept, though each has read what was there before the other."""
    world = World(says("ok"))
    before = world.state.before

    async def meanwhile():
        await world.ask(None, "quicker", session_id="s1")

    before["SetState"] = meanwhile
    await world.ask(None, "slower", session_id="s1")
    kept = await world.conversations.read(context(), place_of("clerk", "s1", ""))
    assert [m.text for m in kept.messages] == ["quicker", "ok", "slower", "ok"]


async def test_an_answer_is_not_lost_where_its_conversation_cannot_be_kept():
    """It has been paid for; why it is not kept is told beside it."""
    world = World(says("ok"))
    world.state.fail_next = ["SetState"]
    output = await world.ask(None, session_id="s1")
    assert output.text == "ok"
    told = output.metadata.fields["conversation_failure"].string_value
    assert told == "SERVICE_UNAVAILABLE: Away."


async def test_nothing_is_kept_for_a_tenant_that_has_gone():
    """It was there when the agent began, and is not when it has answered."""
    world = World(says("ok"))
    world.gone.add("acme")
    output = await world.ask(None, session_id="s1")
    assert "TENANT_NOT_FOUND" in output.metadata.fields["conversation_failure"].string_value
    assert world.state.items == {}


async def test_what_is_kept_is_bounded():
    """In messages and in bytes; what went is counted."""
    world = World(says("y" * 1000))
    place = place_of("clerk", "", "c")
    for text in ("x" * 100_000, *["m" * 20_000] * 3):
        said = [user(text), agent("y" * 1000)]
        await world.conversations.add(context(), place, said * 4)
    kept = await world.conversations.read(context(), place)
    assert kept.ByteSize() <= CONVERSATION_BYTES_MAX + 50_000
    assert kept.trimmed_count > 0
    assert kept.trimmed_count + len(kept.messages) == 32
    await world.conversations.add(context(), place, [user("a"), agent("b")] * 600)
    kept = await world.conversations.read(context(), place)
    assert len(kept.messages) == CONVERSATION_MESSAGES_KEPT


async def test_an_exchange_that_is_too_much_is_kept_as_question_and_answer():
    """Its tools' answers go; the conversation stays whole."""
    world = World(calls(*[("read", {})] * 60), says("end"))
    world.tools.add("read", lambda: "z" * 20_000)
    await world.ask({"tools": ["read"]}, "read all", session_id="s1")
    kept = await world.conversations.read(context(), place_of("clerk", "s1", ""))
    assert [(m.role, m.text) for m in kept.messages] == [
        ("user", "read all"), ("assistant", "end"),
    ]  # fmt: skip


@pytest.mark.parametrize("conversation_id", ["a/b", "x" * 129, "ä", ".."])
async def test_an_id_that_cannot_be_is_refused(conversation_id):
    """By field, before the model is asked."""
    world = World(says("ok"))
    with pytest.raises(ServiceError) as raised:
        await world.ask(None, conversation_id=conversation_id)
    assert raised.value.metadata["field"] == "conversation_id"
    assert world.model.requests == []


def passage(number, text):
    return {
        "document_id": f"d{number}",
        "text": text,
        "score": 0.9,
        "metadata": {"kind": "exchange"},
    }


async def test_memory_is_read_before_and_written_after():
    """Passages are told with numbers, those referred to are marked, the exchange is stored."""
    world = World(says("In Ulm [2], as you said."))
    found, stored = [], []

    def retrieve(args):
        found.append(args)
        return {"passages": [passage(1, "Likes tea."), passage(2, "Lives in Ulm.")]}

    def ingest(args):
        stored.append(args)
        return {}

    world.calls.others |= {RETRIEVE: retrieve, INGEST: ingest}
    output = await world.ask({"memory": {"limit": 3}}, "Where do I live?", session_id="s1")
    assert found == [{
        "scope": "session:s1", "collection_id": "clerk-memory", "text": "Where do I live?",
        "limit": 3,
    }]  # fmt: skip
    assert "[2] Lives in Ulm." in world.last.messages[0].text
    assert [(one.number, one.source_id, one.cited) for one in output.citations] == [
        (1, "d1", False), (2, "d2", True),
    ]  # fmt: skip
    (document,) = stored[0]["documents"]
    assert document["text"] == "User: Where do I live?\nAgent: In Ulm [2], as you said."
    assert stored[0]["collection_id"] == "clerk-memory"


async def test_a_memory_that_only_reads_stores_nothing():
    """`read_only` is for documents that somebody else has put there."""
    world = World(says("ok"))
    world.calls.others[RETRIEVE] = lambda _: {"passages": []}
    memory = {"collection": "documents", "scope": "global", "read_only": True}
    output = await world.ask({"memory": memory})
    assert output.text == "ok"
    assert not output.HasField("metadata")


async def test_a_memory_without_a_past_is_empty_and_one_that_cannot_be_read_is_told():
    """No collection yet is no error; a caller who may not read is one."""
    world = World(says("ok"))

    def absent(_):
        raise ServiceError(Reason.COLLECTION_NOT_FOUND, "None.")

    def refused(_):
        raise ServiceError(Reason.PERMISSION_DENIED, "No.", permission="rag.read")

    world.calls.others |= {RETRIEVE: absent, INGEST: lambda _: {}}
    assert (await world.ask({"memory": {}})).text == "ok"
    world.calls.others[RETRIEVE] = refused
    with pytest.raises(ServiceError) as raised:
        await world.ask({"memory": {}})
    assert raised.value.reason == Reason.PERMISSION_DENIED


async def test_an_answer_is_not_lost_where_it_cannot_be_stored():
    """It has been paid for; why memory has not kept it is told beside it."""
    world = World(says("ok"))

    def full(_):
        raise ServiceError(Reason.STORAGE_FULL, "Full.")

    world.calls.others |= {RETRIEVE: lambda _: {"passages": []}, INGEST: full}
    output = await world.ask({"memory": {}})
    assert output.text == "ok"
    assert output.metadata.fields["memory_failure"].string_value == "STORAGE_FULL: Full."


async def test_the_window_of_the_model_bounds_what_it_is_shown():
    """Where the agent says no number of tokens; where it does, that counts."""
    world = World(says("y" * 400), window=1000)
    for _ in range(10):
        await world.ask(None, "x" * 400, session_id="s1")
    shown = len(world.last.messages)
    assert 3 <= shown < 8
    await world.ask({"max_conversation_tokens": 400}, "x" * 400, session_id="s1")
    assert len(world.last.messages) == 3
    await world.ask({"max_conversation_length": 1}, "x", session_id="s1")
    assert len(world.last.messages) == 1
