"""Spans of calls at real doors: from a client through a relay to the process behind, either way."""

import asyncio
import contextlib
import time

import grpc
import pytest
from llmspell.v1 import script_pb2, state_pb2

from services.common import tracing
from services.common.errors import Reason, ServiceError
from services.common.relay import Relay, RelayHandler, Upstream
from tests.servers import GET, RUN, SEAL, Bodies, calling, sealed, serving, settled
from tests.unit.common.kept_spans import Kept

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
SERVICES = ("llmspell.v1.StateService", "llmspell.v1.ScriptService")


@pytest.fixture(autouse=True)
def _left_as_found():
    """What a test without a task begins would else be the span of all tests after it."""
    token = tracing._current.set(None)
    yield
    tracing._current.reset(token)


@pytest.fixture
def kept():
    """What is kept, of everything that is asked for."""
    sink = Kept()
    tracing.record_with(tracing.Recorder((sink,), traces_a_second=1000, slow_s=10))
    yield sink
    tracing.record_with(None)


@pytest.fixture(params=[True, False], ids=["trunk", "alone"])
async def world(request, tmp_path):
    """A process in front of another; a channel to the front, and the bodies behind."""
    bodies = Bodies()
    async with contextlib.AsyncExitStack() as stack:
        behind, _ = await stack.enter_async_context(
            serving(bodies=bodies, address=f"unix:{tmp_path}/b")
        )
        upstream = Upstream("behind", behind, trunk=SEAL if request.param else None)
        stack.push_async_callback(upstream.close)
        relay = Relay(dict.fromkeys(SERVICES, upstream), SEAL)
        front, _ = await stack.enter_async_context(
            serving(handlers=(RelayHandler(relay),), address=f"unix:{tmp_path}/f")
        )
        yield await stack.enter_async_context(calling(front)), bodies


async def get(channel, metadata=(), key="k"):
    """One call."""
    call = channel.unary_unary(GET, state_pb2.GetStateRequest.SerializeToString)
    return await call(
        state_pb2.GetStateRequest(key=key), metadata=(*sealed(), *metadata), timeout=5
    )


async def test_a_call_is_a_span_in_each_process(world, kept):
    """The client's is the parent of the front's, and that one of the one behind."""
    channel, _ = world
    await get(channel, (("traceparent", PARENT),))
    await settled(lambda: len(kept.spans) == 2)
    behind, front = kept.spans
    assert (front.trace_id, front.parent_id) == ("ab" * 16, "cd" * 8)
    assert (behind.trace_id, behind.parent_id) == (front.trace_id, front.span_id)
    assert front.name == behind.name == GET[1:]
    told = front.attributes
    assert told["llmspell.tenant"] == "acme"
    assert (told["rpc.method"], told["rpc.grpc.status_code"]) == ("GetState", 0)
    assert told["llmspell.request_bytes"] > 0


async def test_a_failure_is_told_by_its_reason(world, kept):
    """And by gRPC's code, in both."""

    async def fail(request):
        raise ServiceError(Reason.ITEM_NOT_FOUND, f"No {request.key}, and nobody is told its name.")

    channel, bodies = world
    bodies.get = fail
    with pytest.raises(grpc.aio.AioRpcError):
        await get(channel, (("traceparent", PARENT),), key="dark")
    await settled(lambda: len(kept.spans) == 2)
    assert {span.error for span in kept.spans} == {"ITEM_NOT_FOUND"}
    assert {span.attributes["rpc.grpc.status_code"] for span in kept.spans} == {5}
    assert "dark" not in str(kept.spans)


async def test_what_fails_for_our_own_reasons_is_kept_anyway(world, kept):
    """Also where nobody asked for the trace."""

    async def broken(request):
        raise RuntimeError(request.key)

    channel, bodies = world
    bodies.get = broken
    with pytest.raises(grpc.aio.AioRpcError):
        await get(channel, (("traceparent", PARENT[:-1] + "0"),))
    await settled(lambda: len(kept.spans) == 2)
    assert {span.error for span in kept.spans} == {"INTERNAL"}


async def test_a_quick_call_of_a_trace_that_nobody_wants_is_not_kept(world, kept):
    """Its ids travel all the same."""
    channel, bodies = world
    await get(channel, (("traceparent", PARENT[:-1] + "0"),))
    assert not kept.spans
    assert bodies.seen[0].traceparent.startswith(f"00-{'ab' * 16}-")
    assert bodies.seen[0].traceparent.endswith("-00")


async def test_a_stream_is_a_span_until_its_end(world, kept):
    """From its first byte to its last."""
    channel, _ = world
    run = channel.unary_stream(RUN, script_pb2.RunScriptRequest.SerializeToString)
    answers = run(
        script_pb2.RunScriptRequest(name="3"),
        metadata=(*sealed(), ("traceparent", PARENT)),
        timeout=5,
    )
    assert len([answer async for answer in answers]) == 3
    await settled(lambda: len(kept.spans) == 2)
    assert {span.name for span in kept.spans} == {RUN[1:]}


async def test_calls_at_the_same_time_keep_their_traces_apart(world, kept):
    """Fifty of them, each with the spans of its own."""
    channel, _ = world
    ids = [f"{number:032x}" for number in range(1, 51)]
    await asyncio.gather(
        *(get(channel, (("traceparent", f"00-{each}-{'cd' * 8}-01"),)) for each in ids)
    )
    await settled(lambda: len(kept.spans) == 100)
    for each in ids:
        behind, front = [span for span in kept.spans if span.trace_id == each]
        assert {behind.parent_id, front.parent_id} == {
            "cd" * 8,
            front.span_id if front.parent_id == "cd" * 8 else behind.span_id,
        }


async def test_a_sealed_span_is_believed_before_a_callers_word(world, kept):
    """Whoever is behind the gateway cannot be told another trace in plain metadata."""
    channel, _ = world
    span = tracing.begin_call("/x/Y", request_id="r", traceparent=PARENT, is_trusted=True)
    await get(channel, (("traceparent", f"00-{'ee' * 16}-{'ff' * 8}-01"),))
    await settled(lambda: len(kept.spans) == 2)
    assert {each.trace_id for each in kept.spans} == {span.trace_id}


def test_counts_of_a_span_cost_little(kept):
    """Beginning and ending one that is not kept: well below 2 % of a search."""
    best = 1.0
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(1000):
            tracing.begin_call("/x/Y", request_id="ab" * 16, traceparent="", is_trusted=False)
        best = min(best, (time.perf_counter() - begin) / 1000)
    assert best < 30e-6
