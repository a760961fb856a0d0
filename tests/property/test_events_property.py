"""Patterns and the order of events, for all inputs."""

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.clock import FakeClock
from services.state.event_model import NewEvent
from services.state.events import Events
from services.state.items import Items
from services.state.model import Encoding, Value
from services.state.patterns import Pattern
from tests.state_engines import memory_keeper

PART = st.text("ab", min_size=1, max_size=3)
TYPES = st.lists(PART, min_size=1, max_size=4).map(".".join)


@st.composite
def patterns(draw):
    """A type in which pieces were replaced by stars."""
    pieces = draw(st.lists(st.one_of(PART, st.just("*"), st.just("**")), min_size=1, max_size=4))
    return draw(st.sampled_from([".", ""])).join(pieces)


@given(patterns(), TYPES)
@settings(max_examples=500)
def test_a_pattern_matches_what_a_regular_expression_would(pattern, event_type):
    """A star is `.*`, everything else is itself."""
    expected = re.fullmatch(pattern.replace(".", r"\.").replace("*", ".*"), event_type)
    assert Pattern(pattern).matches(event_type) == (expected is not None)


STEPS = st.lists(
    st.one_of(st.lists(TYPES, min_size=1, max_size=5), st.sampled_from(["set", "delete"])),
    min_size=1,
    max_size=12,
)


@given(STEPS, patterns(), st.lists(st.integers(1, 4), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_whoever_comes_back_sees_each_event_once_and_in_order(steps, pattern, limits):
    """However it is cut into polls, what is read is what happened, in its order."""
    asyncio.run(_story(steps, pattern, limits))


async def _story(steps, pattern, limits):
    keeper = memory_keeper(FakeClock())
    events, items = Events(keeper), Items(keeper)
    happened = []
    there = False
    for step in steps:
        if isinstance(step, list):
            await events.publish("acme", [NewEvent(each, "1") for each in step])
            happened += step
        elif step == "set":
            await items.set("acme", "global", "k", Value(Encoding.TEXT, b""))
            happened.append("state.set")
            there = True
        else:
            await items.delete("acme", "global", "k")
            happened += ["state.deleted"] if there else []
            there = False
    for asked in (pattern, "*"):
        seen, after, turn = [], 0, 0
        while True:
            limit = limits[turn % len(limits)]
            reading = await events.poll(
                "acme", Pattern(asked), caller="me", after=after, limit=limit
            )
            seen += reading.events
            after, turn = reading.position.sequence, turn + 1
            if reading.complete:
                break
        assert [event.type for event in seen] == [
            each for each in happened if Pattern(asked).matches(each)
        ]
        sequences = [event.sequence for event in seen]
        assert sequences == sorted(set(sequences))
