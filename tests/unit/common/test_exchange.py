"""Streams in both directions: the door alone, and two relays with their doors before it.

What holds for one process must hold for three in a row, so every test runs through both.
"""

import asyncio
import dataclasses
import gc
from contextlib import AsyncExitStack

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import state_pb2, vector_pb2

from services.common import door, relay, wire
from services.common.context import REQUEST_ID_KEY
from services.common.errors import Reason, ServiceError
from services.common.limits import DEADLINE_SECONDS_MAX, IMPORT_SECONDS_MAX, MESSAGE_BYTES_MAX, MIB
from services.common.relay import Relay, RelayHandler, Upstream
from services.common.status import DETAILS_KEY, to_trailer
from tests.servers import (
    EVERYTHING,
    GET,
    IMPORT,
    SEAL,
    Bodies,
    calling,
    progress,
    sealed,
    serving,
    settled,
)

SERVICES = ("llmspell.v1.StateService", "llmspell.v1.VectorService")
IN_WINDOWS = 32 * MIB
"""More than the windows of two relays and a server take in; a buffer without end takes more."""


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def bodies():
    return Bodies()


class Chain:
    """Servers in a row; the first is the front."""

    def __init__(self):
        self.address = ""
        self.counts = []

    @property
    def in_flight(self):
        """Calls in flight in each."""
        return [counts.in_flight for counts in self.counts]

    async def quiet(self):
        """Until nobody holds a place; then nothing may have gone wrong on our side."""
        await settled(lambda: not any(self.in_flight))
        assert [counts.internal_errors for counts in self.counts] == [0] * len(self.counts)


@pytest.fixture(params=[0, 2], ids=["door", "relays"])
async def chain(request, stack, bodies, tmp_path):
    """A server, or two relays and a server."""
    made = Chain()
    front = serving(bodies=bodies, address=f"unix:{tmp_path}/origin")
    made.address, counts = await stack.enter_async_context(front)
    made.counts.append(counts)
    for hop in range(request.param):
        upstream = Upstream(f"hop{hop}", made.address)
        stack.push_async_callback(upstream.close)
        handler = RelayHandler(Relay(dict.fromkeys(SERVICES, upstream), SEAL))
        front = serving(handlers=(handler,), address=f"unix:{tmp_path}/{hop}")
        made.address, counts = await stack.enter_async_context(front)
        made.counts.append(counts)
    return made


@pytest.fixture
async def channel(chain, stack):
    return await stack.enter_async_context(calling(chain.address))


def exchange(channel, metadata=None, **options):
    """A call that was begun; bytes in, messages out."""
    parse = vector_pb2.ImportVectorsResponse.FromString
    call = channel.stream_stream(IMPORT, response_deserializer=parse)
    return call(metadata=sealed() if metadata is None else metadata, **options)


def message(size=0):
    """A message of about so many bytes."""
    columns = vector_pb2.RecordColumns(f32=bytes(size))
    return vector_pb2.ImportVectorsRequest(columns=columns).SerializeToString()


async def ended(call):
    """The answers that still came, and the error at the end."""
    answers = []

    async def read():
        while (answer := await call.read()) is not grpc.aio.EOF:
            answers.append(answer.sequence)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    return answers, caught.value


def reason_of(error):
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


async def test_each_message_is_answered_before_the_next_is_sent(channel, bodies, chain):
    """Nothing waits for the end of the stream; the caller is known; the answer has its id."""
    call = exchange(channel)
    for sequence in (1, 2, 3):
        await call.write(message())
        assert (await call.read()).sequence == sequence
    assert chain.in_flight == [1] * len(chain.counts)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert dict(await call.trailing_metadata())[REQUEST_ID_KEY] == "r1"
    assert [seen.tenant for seen in bodies.seen] == ["acme"]
    await chain.quiet()


async def test_two_tenants_streams_are_apart(channel, bodies):
    """Each stream acts for its own tenant while both are open."""
    tenants = {}

    async def body(requests):
        mine = bodies.seen[-1].tenant
        async for request in requests:
            tenants.setdefault(mine, []).append(request.collection_id)
            yield progress(len(tenants[mine]))

    bodies.exchange = body
    globex = dataclasses.replace(EVERYTHING, tenant="globex")
    first, second = exchange(channel), exchange(channel, sealed(globex))
    for _ in range(2):
        for call, name in ((first, "a"), (second, "g")):
            request = vector_pb2.ImportVectorsRequest(collection_id=name)
            await call.write(request.SerializeToString())
            await call.read()
    assert tenants == {"acme": ["a", "a"], "globex": ["g", "g"]}


async def test_a_stream_may_be_empty(channel, chain):
    """No message, no answer, a good end."""
    call = exchange(channel)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await chain.quiet()


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (None, "CONTEXT_INVALID"),
        (dataclasses.replace(EVERYTHING, permissions=("vector.read",)), None),
        (dataclasses.replace(EVERYTHING, tenant=""), "TENANT_REQUIRED"),
    ],
    ids=["stranger", "reader", "nobody"],
)
async def test_who_may_not_is_refused_before_a_message(channel, bodies, chain, context, reason):
    """The refusal waits for no message, and no body begins."""
    metadata = sealed(context) if context else ()
    answers, error = await ended(exchange(channel, metadata, timeout=20))
    assert (answers, reason_of(error)) == ([], reason or "PERMISSION_DENIED")
    assert bodies.seen == []
    await chain.quiet()


async def test_a_refused_stream_takes_nothing_in(channel, chain):
    """Who sends on after the refusal is cut off, not read."""
    call = exchange(channel, (), timeout=20)
    sender = Sender(call, 64 * 1024, 10_000)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
        await sender.task
    assert sender.sent < 10_000
    await chain.quiet()


async def test_a_failure_keeps_its_reason_while_messages_are_sent(channel, bodies, chain):
    """No relay writes over it, however fast messages come (grpc's issue 36066)."""

    async def body(requests):
        async for _ in requests:
            if bodies.received == 20:
                raise ServiceError(Reason.VECTOR_ZERO, "records[0].vector is zero.")
            yield progress(bodies.received)

    bodies.exchange = body
    told = []
    for _ in range(20):
        bodies.received = 0
        call = exchange(channel)
        sender = asyncio.create_task(relay_send(call, flood()))
        _, error = await ended(call)
        await sender
        told.append(reason_of(error))
    assert told == ["VECTOR_ZERO"] * 20
    await chain.quiet()


async def flood():
    while True:
        yield message(16 * 1024)


async def relay_send(call, messages):
    failure = []
    await relay._send(call, messages, failure)
    assert failure == []


async def test_bytes_that_are_no_message_end_the_stream(channel, bodies, chain):
    """The reason comes after the answers to what was good."""
    call = exchange(channel)
    await call.write(message())
    assert (await call.read()).sequence == 1
    await call.write(b"\xff")
    answers, error = await ended(call)
    assert (answers, error.code()) == ([], grpc.StatusCode.INVALID_ARGUMENT)
    assert reason_of(error) == "MESSAGE_MALFORMED"
    assert bodies.received == 1
    await chain.quiet()


async def test_the_limit_is_of_each_message(stack, bodies, chain):
    """Together they may be larger than a message; one that is too large is told so."""
    unlimited = (("grpc.max_send_message_length", -1),)
    channel = await stack.enter_async_context(
        grpc.aio.insecure_channel(chain.address, options=unlimited)
    )
    call = exchange(channel)
    for _ in range(3):
        await call.write(message(MESSAGE_BYTES_MAX // 2))
        await call.read()
    await call.write(message(MESSAGE_BYTES_MAX - 20))
    await call.read()
    await call.write(message(MESSAGE_BYTES_MAX - 5))
    _, error = await ended(call)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == "MESSAGE_TOO_LARGE"
    assert bodies.received == 4
    await chain.quiet()


async def test_an_answer_over_the_limit_ends_the_stream(channel, bodies, chain, monkeypatch):
    """A servicer cannot send more than the limit in one answer."""

    async def body(requests):
        async for _ in requests:
            yield progress(1)
            yield progress(2**60)

    bodies.exchange = body
    monkeypatch.setattr(wire, "MESSAGE_BYTES_MAX", 8)
    call = exchange(channel)
    await call.write(b"")
    answers, error = await ended(call)
    assert (answers, reason_of(error)) == ([1], "MESSAGE_TOO_LARGE")
    await chain.quiet()


async def test_a_place_is_held_while_the_stream_lives(stack, bodies):
    """An open stream is a call in flight: another finds no room until it has ended."""
    address, counts = await stack.enter_async_context(serving(bodies=bodies, at_once=1))
    channel = await stack.enter_async_context(calling(address))
    call = exchange(channel)
    await call.write(message())
    await call.read()
    request = state_pb2.GetStateRequest(key="k").SerializeToString()
    get = channel.unary_unary(GET)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(request, metadata=sealed())
    assert reason_of(caught.value) == "OVERLOADED"
    _, error = await ended(exchange(channel))
    assert reason_of(error) == "OVERLOADED"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await settled(lambda: counts.in_flight == 0)
    await get(request, metadata=sealed())


async def test_a_silent_stream_loses_its_place(channel, chain, monkeypatch):
    """No message for so long, and it ends with words; what was answered stays answered."""
    monkeypatch.setattr(door, "_SILENT_S", 0.2)
    call = exchange(channel)
    await call.write(message())
    answers, error = await ended(call)
    assert (answers, error.code()) == ([1], grpc.StatusCode.DEADLINE_EXCEEDED)
    assert reason_of(error) == "DEADLINE_EXCEEDED"
    assert error.details() == "No message came for 0.2 seconds."
    await chain.quiet()


async def test_work_that_takes_long_is_no_silence(channel, bodies, monkeypatch):
    """The caller's silence is counted while it is asked for a message, not while it waits."""

    async def body(requests):
        async for _ in requests:
            await asyncio.sleep(0.5)
            yield progress(bodies.received)

    bodies.exchange = body
    monkeypatch.setattr(door, "_SILENT_S", 0.2)
    call = exchange(channel)
    for sequence in (1, 2):
        await call.write(message())
        if sequence == 2:
            await call.done_writing()
    assert [answer.sequence async for answer in call] == [1, 2]


async def test_a_failure_comes_after_the_answers_before_it(channel, bodies, chain):
    """Whole, with its details, though the caller has not ended its own side."""
    error = ServiceError(Reason.LIMIT_EXCEEDED, "records is 5; the limit is 3.", field="records")

    async def body(requests):
        async for _ in requests:
            if bodies.received == 3:
                raise error
            yield progress(bodies.received)

    bodies.exchange = body
    call = exchange(channel)
    for _ in range(3):
        await call.write(message())
    answers, answer = await ended(call)
    assert (answers, answer.details()) == ([1, 2], error.message)
    trailers = dict(answer.trailing_metadata())
    assert trailers[DETAILS_KEY] == to_trailer(error)[1]
    assert trailers[REQUEST_ID_KEY] == "r1"
    await chain.quiet()


async def test_a_failure_before_any_message_needs_none(channel, bodies, chain):
    """A body that refuses at once is heard by a caller who has sent nothing yet."""

    async def body(requests):
        raise ServiceError(Reason.COLLECTION_NOT_FOUND, "No such collection.")
        yield requests

    bodies.exchange = body
    _, error = await ended(exchange(channel))
    assert reason_of(error) == "COLLECTION_NOT_FOUND"
    await chain.quiet()


async def test_the_text_of_an_exception_never_leaves(channel, bodies, chain):
    """INTERNAL with an id; only the process that failed counts it as its own."""

    async def body(requests):
        async for _ in requests:
            yield progress(1)
            raise RuntimeError("hunter2")

    bodies.exchange = body
    call = exchange(channel)
    await call.write(message())
    answers, error = await ended(call)
    assert (answers, reason_of(error)) == ([1], "INTERNAL")
    assert "hunter2" not in repr(error) + repr(error.trailing_metadata())
    await settled(lambda: not any(chain.in_flight))
    assert chain.counts[0].internal_errors == 1


@pytest.mark.parametrize("how", ["cancel", "deadline", "close"])
async def test_a_stream_that_is_left_ends_everywhere(channel, chain, how):
    """Cancelled, out of time, or cut off: no process keeps a place, without garbage collection."""
    gc.disable()
    try:
        call = exchange(channel, timeout=0.3 if how == "deadline" else None)
        await call.write(message())
        await call.read()
        assert chain.in_flight == [1] * len(chain.counts)
        if how == "cancel":
            call.cancel()
        elif how == "close":
            await channel.close()
        await chain.quiet()
    finally:
        gc.enable()


@pytest.mark.parametrize("deadline_s", [None, 1e6, 20.0])
async def test_a_stream_may_live_longer_than_a_call(channel, bodies, chain, deadline_s):
    """An import's own limit holds through relays, or the caller's deadline where it is less."""
    call = exchange(channel, timeout=deadline_s)
    await call.write(message())
    await call.read()
    await call.done_writing()
    await call.read()
    if deadline_s == 20.0:
        assert 0 < bodies.remaining[0] <= 20.5
    elif len(chain.counts) > 1:
        assert DEADLINE_SECONDS_MAX < bodies.remaining[0] <= IMPORT_SECONDS_MAX * 1.02


class Sender:
    """Sends as fast as it may, and counts."""

    def __init__(self, call, size, number):
        self.sent = 0
        self.task = asyncio.create_task(self._send(call, size, number))

    async def _send(self, call, size, number):
        for _ in range(number):
            await call.write(message(size))
            self.sent += 1
        await call.done_writing()

    async def stopped(self):
        """How many messages went before nothing moved any more."""
        before = -1
        while self.sent != before or not before:
            before = self.sent
            await asyncio.sleep(0.3)
        return self.sent


async def test_a_server_that_does_not_read_stops_the_callers_sends(channel, bodies, chain):
    """Only the transport's windows fill, however many processes are in between."""
    bodies.exchange = bodies.read_when_told
    call = exchange(channel)
    number, size = 200, 512 * 1024
    sender = Sender(call, size, number)
    await bodies.began.wait()
    sent = await sender.stopped()
    assert sent * size < IN_WINDOWS
    assert bodies.received == 0
    bodies.go_on.set()
    assert [answer.sequence async for answer in call] == list(range(1, number + 1))
    await sender.task
    await chain.quiet()


async def test_answers_left_unread_stop_the_reading(channel, bodies, chain, monkeypatch):
    """A caller who only sends is read no further than its own window of answers."""

    async def body(requests):
        async for _ in requests:
            yield progress(1)

    bodies.exchange = body
    padding = bytes(512 * 1024)  # an unknown field, so that answers are large
    known = vector_pb2.ImportVectorsResponse.SerializeToString
    large = b"\xfa\x01" + b"\x80\x80\x20" + padding
    monkeypatch.setattr(door.Call, "_bytes", lambda self, answer: _padded(self, answer, large))
    assert known(progress(1))
    call = exchange(channel)
    number = 400
    sender = Sender(call, 0, number)
    read = -1
    while bodies.received != read or not read:
        read = bodies.received
        await asyncio.sleep(0.3)
    assert read * len(padding) < IN_WINDOWS
    assert any(chain.in_flight)
    assert len([answer async for answer in call]) == number
    await sender.task
    await chain.quiet()


def _padded(call, answer, large):
    serialize = call._handler.response_serializer
    return answer if serialize is None else serialize(answer) + large


async def test_a_caller_who_never_reads_loses_its_place(channel, bodies, chain, monkeypatch):
    """After so long with answers unread, every process has its place back."""
    large = b"\xfa\x01" + b"\x80\x80\x20" + bytes(512 * 1024)
    monkeypatch.setattr(door.Call, "_bytes", lambda self, answer: _padded(self, answer, large))
    monkeypatch.setattr(wire, "_UNREAD_S", 0.3)
    call = exchange(channel)
    sender = Sender(call, 0, 400)
    await settled(lambda: bodies.received > 0)
    await settled(lambda: not any(chain.in_flight))
    sender.task.cancel()
    await asyncio.gather(sender.task, return_exceptions=True)
    assert bodies.received < 400


async def test_an_upstream_that_is_away_is_said(stack, tmp_path):
    """UNAVAILABLE with the process's name, and nobody waits for a message."""
    upstream = Upstream("vector", f"unix:{tmp_path}/away")
    stack.push_async_callback(upstream.close)
    handler = RelayHandler(Relay(dict.fromkeys(SERVICES, upstream), SEAL))
    address, counts = await stack.enter_async_context(serving(handlers=(handler,)))
    channel = await stack.enter_async_context(calling(address))
    call = exchange(channel)
    await call.write(message())
    _, error = await ended(call)
    assert reason_of(error) == "SERVICE_UNAVAILABLE"
    assert "away" not in error.details()
    await settled(lambda: counts.in_flight == 0)


async def test_a_stream_ends_when_its_upstream_dies(stack, bodies, tmp_path):
    """The caller is told at once, with the answers it had, and not at its deadline."""
    origin = f"unix:{tmp_path}/origin"
    upstream = Upstream("vector", origin)
    stack.push_async_callback(upstream.close)
    handler = RelayHandler(Relay(dict.fromkeys(SERVICES, upstream), SEAL))
    address, counts = await stack.enter_async_context(serving(handlers=(handler,)))
    channel = await stack.enter_async_context(calling(address))
    call = exchange(channel)
    async with serving(bodies=bodies, address=origin):
        await call.write(message())
        assert (await call.read()).sequence == 1
    async with asyncio.timeout(10):
        _, error = await ended(call)
    assert reason_of(error) in {"SERVICE_UNAVAILABLE", "CANCELLED"}
    await settled(lambda: counts.in_flight == 0)
