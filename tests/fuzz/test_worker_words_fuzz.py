"""Frames of every kind with any payload, as a hijacked worker could send them, against the host."""

import asyncio
import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.runtime.budgets import Budget, Budgets
from services.runtime.frames import FrameError, Kind
from services.runtime.runs import Reply, Run, RunSpec
from services.runtime.shares import Shares


class Pool:
    """What a run asks of its pool."""

    shares = Shares(lambda _: 1)
    budgets = Budgets(Budget(0, 0, 0))


class Worker:
    """Takes whatever is sent to it."""

    pid = 1

    async def send(self, kind, *parts):
        """Taken."""

    def kill(self):
        """Nothing is there to be killed."""


texts = st.text(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=15,
)
WORDS = (
    "kind", "message", "line", "level", "module", "data", "counters", "gauges", "histograms",
    "method", "args", "tenant", "reason", "traceback", "error", "memory", "info", "1e999",
)  # fmt: skip
words = st.sampled_from(WORDS)
known = st.dictionaries(words, plain | words, max_size=6)
payloads = st.one_of(
    st.binary(max_size=200),
    (plain | known).map(lambda tree: json.dumps(tree).encode()),
    (plain | known).map(msgspec.msgpack.encode),
    st.integers(1, 3000).map(lambda depth: b"[" * depth),
    st.integers(1, 3000).map(lambda depth: b'{"a":' * depth),
    st.integers(1, 3000).map(lambda depth: b"\x91" * depth),
    st.binary(min_size=8, max_size=8).map(lambda tail: b"m" + tail),
)


@given(st.sampled_from(Kind), payloads)
def test_any_word_of_a_worker_is_an_event_or_the_end(kind, payload):
    """Nothing but an event, a broken protocol, or a reason of the contract."""
    with contextlib.suppress(FrameError):
        error = asyncio.run(_told(kind, payload))
        assert error is None or len(error.message) <= 4096
        assert error is None or all(len(value) <= 4096 for value in error.metadata.values())


async def _told(kind, payload):
    run = Run(Worker(), RunSpec("return 1"), Pool())

    async def call(call):
        assert isinstance(call.method, str)
        return Reply(ok=True, tree=None)

    with run.watch.on_the_clock():
        try:
            await run.take(kind, payload, call)
        except ServiceError as error:
            return error


def test_the_fuzz_sees_events(monkeypatch):
    """What is well formed gets through, so that the test above tests something."""
    asyncio.run(_told(Kind.OUTPUT, b"x"))
    asyncio.run(_told(Kind.RESULT, b"null"))
    assert asyncio.run(_told(Kind.FAILURE, b'{"kind":"error","message":"m"}')).message == "m"
    with pytest.raises(FrameError):
        asyncio.run(_told(Kind.RUN, b""))
