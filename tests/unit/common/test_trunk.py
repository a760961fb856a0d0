"""Calls that share a stream: each is as if it went alone."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import msgspec
import pytest
from llmspell.v1 import state_pb2

from services.common.access import METHODS
from services.common.context import METADATA_KEY, CallContext
from services.common.door import Door, SealedContext
from services.common.errors import Reason, ServiceError
from services.common.handlers import Handlers
from services.common.limits import TRUNK_PIECE_BYTES, TRUNK_REQUEST_BYTES_MAX
from services.common.relay import Relay, Upstream
from services.common.server import new_server
from services.common.telemetry import Counts
from services.common.terminus import Terminus
from services.common.trunk import OPENS, TRUNK_PATH, Answered, Ask, Asked, Told
from tests.servers import EVERYTHING, GET, RUN, SEAL, Bodies, calling, sealed, serving, settled

OPENER = CallContext(tenant="", principal="relay", permissions=(OPENS,))
encode = msgspec.msgpack.encode


@pytest.fixture
async def bodies():
    return Bodies()


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def origin(tmp_path):
    return f"unix:{tmp_path}/origin"


class Seen(grpc.aio.ServerInterceptor):
    """Remembers what kinds of calls come."""

    def __init__(self, door):
        self.paths = []
        self._door = door

    async def intercept_service(self, continuation, details):
        """Called by grpc."""
        self.paths.append(details.method)
        return await self._door.intercept_service(continuation, details)


@asynccontextmanager
async def origin_at(address, bodies, *, at_once=256):
    """A server whose arrivals and terminus a test may look at."""
    from llmspell.v1 import state_pb2_grpc

    counts = Counts()
    door = Door(SealedContext(SEAL), counts, calls_at_once=at_once)
    handlers = Handlers()
    terminus = Terminus(door, SEAL, handlers)
    seen = Seen(door)
    server = new_server(seen, handlers)
    server.add_generic_rpc_handlers((terminus,))
    state_pb2_grpc.add_StateServiceServicer_to_server(bodies, server)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield server, terminus, seen.paths, counts
    finally:
        await server.stop(0)


@pytest.fixture
async def relay(stack, origin):
    upstream = Upstream("state", origin)
    stack.push_async_callback(upstream.close)
    services = ("llmspell.v1.StateService", "llmspell.v1.ScriptService")
    return Relay(dict.fromkeys(services, upstream), SEAL)


async def get(relay, key="k", *, context=EVERYTHING, timeout_s=5.0):
    """The value that comes back, which is the key."""
    request = state_pb2.GetStateRequest(key=key).SerializeToString()
    answer = await relay.call(METHODS[GET], request, context, timeout_s=timeout_s)
    return state_pb2.GetStateResponse.FromString(answer).item.value.text


async def refused(call):
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value.reason


async def test_many_calls_are_one_stream(relay, bodies, origin):
    """A hundred calls at once make one call of grpc's, and each has its own answer."""
    async with origin_at(origin, bodies) as (_, _, paths, counts):
        keys = [f"k{number}" for number in range(100)]
        assert await asyncio.gather(*(get(relay, key) for key in keys)) == keys
        assert paths == [TRUNK_PATH]
        assert counts.calls == 100
        assert counts.in_flight == 0


async def test_each_call_has_its_own_caller(relay, bodies, origin):
    """Two tenants on one stream are two tenants to the process that serves them."""
    acme = EVERYTHING
    globex = CallContext(tenant="globex", principal="k2", permissions=("state.read",))
    async with serving(bodies=bodies, address=origin):
        await asyncio.gather(get(relay, "a", context=acme), get(relay, "g", context=globex))
        assert {(one.tenant, one.principal) for one in bodies.seen} == {
            ("acme", "k1"),
            ("globex", "k2"),
        }


async def test_permission_is_asked_of_each(relay, bodies, origin):
    """What opens the stream gives no right to what is called on it."""
    none = CallContext(tenant="globex", principal="k2", permissions=("vector.read",))
    async with serving(bodies=bodies, address=origin):
        assert await refused(get(relay, context=none)) == Reason.PERMISSION_DENIED
        assert await refused(get(relay, context=OPENER)) == Reason.PERMISSION_DENIED
        assert await get(relay) == "k"
    assert len(bodies.seen) == 1


async def test_a_full_process_refuses_single_calls(relay, bodies, origin):
    """The room for calls in flight counts carried ones one by one."""
    bodies.get = bodies.wait
    async with origin_at(origin, bodies, at_once=2) as (_, _, _, counts):
        two = [asyncio.ensure_future(get(relay)) for _ in range(2)]
        await settled(lambda: counts.in_flight == 2)
        assert await refused(get(relay)) == Reason.OVERLOADED
        bodies.go_on.set()
        assert await asyncio.gather(*two) == ["k", "k"]


async def test_a_large_answer_lets_small_ones_pass(relay, bodies, origin):
    """Pieces of an answer are put together again, and another answer does not wait for the last."""
    text = "x" * (40 * TRUNK_PIECE_BYTES + 1)

    async def body(request):
        value = text if request.key == "large" else request.key
        return state_pb2.GetStateResponse(item=state_pb2.Item(value=state_pb2.Payload(text=value)))

    bodies.get = body
    async with serving(bodies=bodies, address=origin):
        order = []

        async def ask(key):
            answer = await get(relay, key)
            order.append(key)
            return answer

        answers = await asyncio.gather(ask("large"), ask("small"))
        assert answers == [text, "small"]
        assert order == ["small", "large"]


async def test_a_large_request_goes_alone(relay, bodies, origin):
    """Others do not wait behind it."""
    key = "k" * TRUNK_REQUEST_BYTES_MAX
    async with origin_at(origin, bodies) as (_, _, paths, _):
        assert await get(relay, key) == key
        assert paths == [GET]


async def test_a_process_without_trunks_is_called_as_ever(relay, bodies, origin):
    """One of the release before: nothing fails, and it is not asked for a trunk each time."""
    async with serving(bodies=bodies, address=origin, trunk=False) as (_, counts):
        assert await asyncio.gather(*(get(relay, f"{n}") for n in range(20))) == [
            f"{n}" for n in range(20)
        ]
        assert counts.calls == 20


async def test_a_process_that_stops_answers_what_it_was_asked(relay, bodies, origin):
    """A rolling restart: in flight is answered, and what comes next goes to the successor."""
    bodies.get = bodies.wait
    async with origin_at(origin, bodies) as (server, terminus, _, _):
        waiting = [asyncio.ensure_future(get(relay, f"{n}")) for n in range(10)]
        await settled(lambda: len(bodies.seen) == 10)
        terminus.drain()
        during = asyncio.ensure_future(get(relay, "during"))
        await settled(lambda: len(bodies.seen) == 11)
        stopping = asyncio.ensure_future(server.stop(5))
        await asyncio.sleep(0.05)
        bodies.go_on.set()
        assert await asyncio.gather(*waiting) == [f"{n}" for n in range(10)]
        assert await during == "during"
        async with asyncio.timeout(2):  # the stream has ended by itself
            await stopping


async def test_restarts_lose_no_call(relay, bodies, tmp_path, origin):
    """One caller that never stops, a process that is stopped three times: only UNAVAILABLE."""
    stop = asyncio.Event()
    reasons = []

    async def ask():
        while not stop.is_set():
            try:
                assert await get(relay, "k") == "k"
            except ServiceError as error:
                reasons.append(error.reason)
            await asyncio.sleep(0.001)

    asking = asyncio.ensure_future(ask())
    for _ in range(3):
        async with origin_at(origin, bodies) as (server, terminus, _, _):
            seen = len(bodies.seen)
            async with asyncio.timeout(10):
                await settled(lambda before=seen: len(bodies.seen) > before + 20)
            terminus.drain()
            await server.stop(2)
    stop.set()
    await asking
    assert set(reasons) <= {Reason.SERVICE_UNAVAILABLE}


async def test_a_crowd_goes_together(relay, origin):
    """While many calls wait, those that come one by one share messages, and none waits for long."""
    messages = []
    stop = asyncio.Event()

    async def slow(_, context):
        while (message := await context.read()) is not grpc.aio.EOF:
            messages.append(msgspec.msgpack.decode(message, type=Asked).asks)
            if len([ask for each in messages for ask in each]) == 108:
                break
        told = [Told(ask.number, 0, "", b"") for each in messages for ask in each]
        await context.write(encode(Answered(told)))
        await stop.wait()

    async with fake(origin, slow):
        calls = [asyncio.ensure_future(get(relay)) for _ in range(8)]
        await settled(lambda: messages)
        for _ in range(100):
            calls.append(asyncio.ensure_future(get(relay)))
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.gather(*calls)
        assert len(messages) < 30
        stop.set()


async def test_a_call_nobody_waits_for_is_not_sent(relay, bodies, origin):
    """Cancelled before it went out, it costs the other process nothing."""
    async with serving(bodies=bodies, address=origin):
        call = asyncio.ensure_future(get(relay, "left"))
        await asyncio.sleep(0)
        call.cancel()
        assert await get(relay, "kept") == "kept"
        assert len(bodies.seen) == 1


async def test_a_process_that_says_nothing_is_waited_for_until_the_deadline(relay, origin):
    """A stream that is taken and never answered: the call ends in time, the next one as well."""

    async def silent(_, context):
        while await context.read() is not grpc.aio.EOF:
            pass
        await asyncio.Event().wait()

    async with fake(origin, silent):
        for _ in range(2):
            assert await refused(get(relay, timeout_s=0.1)) == Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize("said", [b"\xff\xff", b"", encode([[[1, 0]]]), b"\x00" * 100])
async def test_a_process_that_answers_garbage_fails_its_calls_at_once(relay, origin, said):
    """Not at their deadline; and the next call opens another stream."""

    async def garbage(_, context):
        await context.read()
        await context.write(said)
        await asyncio.Event().wait()

    async with fake(origin, garbage), asyncio.timeout(5):
        for _ in range(2):
            assert await refused(get(relay, timeout_s=60)) == Reason.SERVICE_UNAVAILABLE


async def test_answers_to_nothing_are_passed_by(relay, origin):
    """A number that was never asked, or twice, reaches nobody."""
    item = state_pb2.Item(value=state_pb2.Payload(text="right"))
    right = state_pb2.GetStateResponse(item=item).SerializeToString()

    async def odd(_, context):
        while (message := await context.read()) is not grpc.aio.EOF:
            [ask] = msgspec.msgpack.decode(message, type=Asked).asks
            numbers = (ask.number + 7, ask.number, ask.number, -1)
            told = [Told(number, 0, "", right) for number in numbers]
            await context.write(encode(Answered(told)))

    async with fake(origin, odd):
        assert await get(relay, "one") == "right"
        assert await get(relay, "two") == "right"


@asynccontextmanager
async def fake(address, carry):
    """A process whose end of a trunk does what a test says."""
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(carry)
    service, method = TRUNK_PATH[1:].split("/")
    generic = grpc.method_handlers_generic_handler(service, {method: handler})
    server.add_generic_rpc_handlers((generic,))
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


STRANGERS = {
    "nothing": (),
    "a tenant's context": sealed(lifetime_s=3600),
    "a context of everything": sealed(
        CallContext(tenant="", principal="x", permissions=("*",)), 3600
    ),
    "an expired one": sealed(OPENER, lifetime_s=-1),
    "two": (*sealed(OPENER, 3600), *sealed(OPENER, 3600)),
    "a text": ((METADATA_KEY.removesuffix("-bin"), "x"),),
}


@pytest.mark.parametrize("metadata", STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_opens_no_trunk(bodies, origin, metadata):
    """Refused before a message of it is read."""
    async with serving(bodies=bodies, address=origin), calling(origin) as channel:
        call = channel.stream_stream(TRUNK_PATH)(metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@asynccontextmanager
async def opened(origin):
    """A stream that a test writes by hand."""
    async with calling(origin) as channel:
        call = channel.stream_stream(TRUNK_PATH)(metadata=sealed(OPENER))
        yield call
        call.cancel()


VALID = sealed(lifetime_s=3600)


async def told(call):
    [one] = msgspec.msgpack.decode(await call.read(), type=Answered).told
    return one


@pytest.mark.parametrize("said", [b"", b"\xff", encode([[[1]], []]), b"\x00" * 1000])
async def test_garbage_ends_the_stream_and_nothing_else(bodies, origin, said):
    """INVALID_ARGUMENT, and another stream of the same process goes on."""
    async with serving(bodies=bodies, address=origin) as (_, counts):
        async with opened(origin) as call, opened(origin) as other:
            await call.write(said)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            request = state_pb2.GetStateRequest(key="k").SerializeToString()
            await other.write(encode(Asked([Ask(1, GET, sealed(), 5.0, request)], [])))
            assert (await told(other)).code == 0
        assert counts.internal_errors == 0


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (Ask(1, "/llmspell.v1.StateService/Nothing", VALID, 5.0, b""), "UNIMPLEMENTED"),
        (Ask(1, TRUNK_PATH, VALID, 5.0, b""), "UNIMPLEMENTED"),
        (Ask(1, RUN, VALID, 5.0, b""), "UNIMPLEMENTED"),
        (Ask(1, GET, (), 5.0, b""), "UNAUTHENTICATED"),
        (Ask(1, GET, ((METADATA_KEY, "text"),), 5.0, b""), "UNAUTHENTICATED"),
        (Ask(1, GET, ((METADATA_KEY, 7),), 5.0, b""), "UNAUTHENTICATED"),
        (Ask(1, GET, VALID, 5.0, b"\xff"), "INVALID_ARGUMENT"),
    ],
)
async def test_a_bad_call_is_refused_alone(bodies, origin, ask, code):
    """By the same door as ever; the stream goes on."""
    async with serving(bodies=bodies, address=origin) as (_, counts), opened(origin) as call:
        await call.write(encode(Asked([ask], [])))
        assert (await told(call)).code == grpc.StatusCode[code].value[0]
        await call.write(encode(Asked([Ask(2, GET, sealed(), 5.0, b"")], [])))
        assert (await told(call)).code == 0
        assert counts.internal_errors == 0
        assert counts.in_flight == 0


async def test_a_deadline_holds_where_the_caller_says_nothing(bodies, origin):
    """A call whose time is up is cancelled by the process that serves it."""
    bodies.get = bodies.wait
    async with serving(bodies=bodies, address=origin) as (_, counts), opened(origin) as call:
        await call.write(encode(Asked([Ask(1, GET, sealed(), 0.05, b"")], [])))
        await asyncio.wait_for(bodies.cancelled.wait(), 5)
        assert 0 < bodies.remaining[0] <= 0.05
        assert counts.in_flight == 0
