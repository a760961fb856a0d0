"""A long conversation with memory: what has long been trimmed away is found and cited."""

from __future__ import annotations

import re

import pytest
from llmspell import Client

from tests.integration.agent_calls import asking
from tests.models.openai_wire import say

FACT = "Please remember: the code of my locker at the swimming pool is 7319."
QUESTION = "Which code opens my locker?"
TOPICS = (
    "the weather in Oslo", "a recipe with leeks", "the rules of chess", "my neighbour's dog",
    "the history of printing", "how tides come about", "a film about trains", "growing tomatoes",
    "the price of copper", "a walk in the mountains", "mending a bicycle", "the moons of Jupiter",
)  # fmt: skip


@pytest.fixture(scope="module")
def tenants(wired):
    for name in ("memory-a", "memory-b"):
        wired.up.tenant(name)
    keys = {"a": wired.up.keys["memory-a"], "b": wired.up.keys["memory-b"]}
    with asking(wired.up.address, **keys) as found:
        yield found


def answers_from_passages(request):
    """Knows nothing but what it was told: quotes the passage that has a code, with its number."""
    told = request.json["messages"]
    asked = told[-1]["content"]
    if "code" not in asked or "remember" in asked:
        return say("Noted.")
    for one in told:
        found = re.search(r"\[(\d+)\] [^\[]*code [^\[]*?(\d{4})", one["content"] or "")
        if found:
            return say(f"It is {found[2]} [{found[1]}].")
    return say("I do not know.")


def agent(model):
    return {
        "name": "companion",
        "model": model,
        "system_prompt": "You keep company.",
        "memory": {"limit": 4},
        "max_conversation_length": 6,
    }


def test_an_early_fact_is_found_and_cited_after_fifty_turns(wired, tenants):
    """The model is no longer shown what was said first; memory tells it, and it says from where."""
    model = wired.models.behave("companion", answers_from_passages)
    a, b = tenants["a"], tenants["b"]
    session = a.session()
    a.answer(agent(model), FACT, session_id=session)
    for turn in range(2, 50):
        topic = TOPICS[turn % len(TOPICS)]
        a.answer(agent(model), f"Turn {turn}: tell me about {topic}.", session_id=session)
    output = a.answer(agent(model), QUESTION, session_id=session)
    assert len(wired.models.asked("companion")) == 50
    system, *conversation = wired.models.asked("companion")[-1].json["messages"]
    assert len(conversation) <= 6
    assert not any("7319" in (one["content"] or "") for one in conversation)
    assert "7319" in system["content"]
    cited = [one for one in output.citations if one.cited]
    assert [(FACT in one.text, f"[{one.number}]" in output.text) for one in cited] == [(True, True)]
    assert output.text.startswith("It is 7319 [")
    assert len(output.citations) == 4
    # Another session of the tenant has another memory, and so has the other tenant.
    for who in (a, b):
        assert who.answer(agent(model), QUESTION, session_id=who.session()).text == (
            "I do not know."
        )
    assert b.answer(agent(model), QUESTION).text == "I do not know."


def test_documents_that_somebody_ingested_are_read_only(wired, tenants):
    """`read_only` answers from a collection and adds nothing to it."""
    model = wired.models.behave("reader", answers_from_passages)
    key = wired.up.keys["memory-a"]
    with Client(wired.up.address, key) as client:
        client.ingest(["The code of the safe is 4242."], collection="house-rules")
        spec = agent(model) | {
            "memory": {"collection": "house-rules", "scope": "global", "read_only": True}
        }
        output = tenants["a"].answer(spec, "Which code has the safe?")
        assert output.text == "It is 4242 [1]."
        assert [one.cited for one in output.citations] == [True]
        listed = list(client.list_documents(collection="house-rules"))
    assert len(listed) == 1
