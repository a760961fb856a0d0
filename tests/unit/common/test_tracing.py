"""Spans and trace context: which are kept, what travels, what a stranger can bring about."""

import asyncio
import re

import pytest

from services.common import tracing
from services.common.errors import Reason, ServiceError
from tests.unit.common.kept_spans import Kept

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _left_as_found():
    """What a test without a task begins would else be the span of all tests after it."""
    token = tracing._current.set(None)
    yield
    tracing._current.reset(token)


@pytest.fixture
def kept():
    """What is kept where a hundred traces a second may be."""
    sink = Kept()
    tracing.record_with(tracing.Recorder((sink,), traces_a_second=100, slow_s=0.05))
    yield sink
    tracing.record_with(None)


def begin(traceparent="", *, request_id="r1", is_trusted=False, **more):
    return tracing.begin_call(
        "/llmspell.v1.StateService/GetState",
        request_id=request_id,
        traceparent=traceparent,
        is_trusted=is_trusted,
        **more,
    )


def test_a_callers_trace_goes_on(kept):
    """Its id and its wish are taken over, and the caller's span is the parent."""
    span = begin(PARENT)
    assert (span.trace_id, span.parent_id, span.is_kept) == (PARENT[3:35], PARENT[36:52], True)
    assert span.span_id != PARENT[36:52]
    assert tracing.current_traceparent() == f"00-{span.trace_id}-{span.span_id}-01"
    assert not begin(PARENT[:-1] + "0").is_kept


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "00",
        PARENT.upper(),
        PARENT[:-1],
        "ff" + PARENT[2:],
        PARENT.replace("-", "_"),
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        PARENT + "\n",
        "x" * 100_000,
        PARENT.replace("0af7", "\u0660af7"),
    ],
)
def test_what_is_no_traceparent_begins_a_trace(kept, bad):
    """A malformed one is as none, never an error."""
    span = begin(bad)
    assert not span.parent_id
    assert re.fullmatch("[0-9a-f]{32}", span.trace_id)
    assert span.trace_id != "0" * 32


def test_a_later_version_may_say_more(kept):
    """W3C has readers of an older version ignore what comes after."""
    assert begin("01" + PARENT[2:] + "-more").trace_id == PARENT[3:35]


def test_the_request_id_is_the_traces(kept):
    """So that whoever has the one finds the other; an id of another form is not."""
    assert begin(request_id="ab" * 16).trace_id == "ab" * 16
    assert begin(request_id="mine").trace_id != "mine"


def test_only_so_many_traces_a_second_are_kept():
    """More only where they are slow or failed for reasons of ours."""
    sink, now = Kept(), [0.0]
    rate = tracing.Rate(2, monotonic=lambda: now[0])
    assert [rate.take() for _ in range(4)] == [True, True, False, False]
    now[0] += 0.5
    assert [rate.take(), rate.take()] == [True, False]
    recorder = tracing.Recorder((sink,), traces_a_second=1, slow_s=0.05)
    span = tracing.Span("x", "a" * 32, "b" * 16, "", is_kept=False, begin_ns=0, end_ns=10**6)
    assert not recorder.keeps(span)
    assert recorder.keeps(span, is_notable=True)
    span.end_ns = 10**8
    assert recorder.keeps(span)
    assert not recorder.keeps(span, may_be_long=True)


def test_a_strangers_wish_is_limited(kept):
    """Whoever asks for traces with every call gets so many a second; our own are trusted."""
    wished = [begin(PARENT).is_kept for _ in range(200)]
    assert 40 <= sum(wished) <= 70
    assert all(begin(PARENT, is_trusted=True).is_kept for _ in range(200))


def test_what_a_process_does_for_itself_begins_no_trace(kept):
    """It would be most of what there is."""
    assert not begin(is_wanted=False).is_kept


def test_slow_and_failing_calls_do_not_flood(kept):
    """In an overload every call is slow; so many a second are kept."""
    recorder = tracing.recorder()
    span = tracing.Span("x", "a" * 32, "b" * 16, "", is_kept=False, begin_ns=0, end_ns=10**9)
    assert sum(recorder.keeps(span) for _ in range(1000)) <= 110


async def test_parts_are_children_of_what_they_are_within(kept):
    """Also in tasks that are started within; an error is told by its reason."""
    call = begin(PARENT)

    async def part():
        with tracing.span("part", {"n": 1}, kind="client"):
            tracing.annotate({"path": "scan"})

    async def whole():
        with tracing.span("whole"):
            await asyncio.create_task(part())
            raise ServiceError(Reason.ITEM_NOT_FOUND, "It is not there.")

    with pytest.raises(ServiceError):
        await whole()
    inner, outer = kept.spans
    assert (inner.name, inner.parent_id, inner.kind) == ("part", outer.span_id, "client")
    assert inner.attributes == {"n": 1, "path": "scan"}
    assert (outer.parent_id, outer.error) == (call.span_id, "ITEM_NOT_FOUND")
    assert tracing.current_span() is call


async def test_nothing_is_kept_outside_a_call(kept):
    """Background work has no trace; nor has anything where nobody records."""

    async def outside():
        with tracing.span("x") as span:
            assert span is None
            assert tracing.current_traceparent() == ""

    import contextvars

    await asyncio.get_running_loop().create_task(outside(), context=contextvars.Context())
    begin(PARENT)
    tracing.record_with(None)
    with tracing.span("x") as span:
        assert span is None
    assert not kept.spans


def test_what_takes_no_time_may_be_left_out(kept):
    """A wait that was none is not worth a line."""
    begin(PARENT)
    with tracing.span("wait", least_s=10):
        pass
    assert not kept.spans
