"""The port for calls by HTTP against callers that are slow, many, or no callers at all."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest

from services.common.door import Door
from services.common.errors import Reason, ServiceError
from services.common.handlers import Handlers
from services.common.server import new_server
from services.common.telemetry import Counts
from services.gateway import http_server
from services.gateway.http_server import HttpPort
from tests.servers import EVERYTHING, Bodies

GET = b"/llmspell.v1.StateService/GetState"
RUN = b"/llmspell.v1.ScriptService/RunScript"


@pytest.fixture
async def bodies():
    return Bodies()


async def identify(metadata, method):
    """Anybody with a key is acme."""
    del method
    if "authorization" not in dict(metadata):
        raise ServiceError(Reason.CREDENTIAL_MISSING, "No key.")
    return EVERYTHING


@asynccontextmanager
async def serving(bodies, *, origins="", at_once=256):
    """A port over test bodies; gives its address and the door's counts."""
    from llmspell.v1 import script_pb2_grpc, state_pb2_grpc

    counts, handlers = Counts(), Handlers()
    door = Door(identify, counts, calls_at_once=at_once)
    server = new_server(door, handlers)
    state_pb2_grpc.add_StateServiceServicer_to_server(bodies, server)
    script_pb2_grpc.add_ScriptServiceServicer_to_server(bodies, server)
    port = HttpPort(door, handlers, listen="127.0.0.1:0", origins=origins, drain_s=1)
    running = asyncio.create_task(port.run())
    try:
        yield port.address, counts
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def request(path=GET, body=b'{"key":"k"}', *, form=b"application/json", more=b"", length=None):
    size = len(body) if length is None else length
    return (
        b"POST %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-type: %s\r\n"
        b"content-length: %d\r\n%s\r\n%s" % (path, form, size, more, body)
    )


@asynccontextmanager
async def connected(address):
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def asked(address, data):
    """All that comes back until the other side closes or a second of silence."""
    async with connected(address) as (reader, writer):
        writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()
        return await until_silent(reader)


async def closed(reader):
    """Whether nothing came any more but the end."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def until_silent(reader, silent_s=1.0):
    got = b""
    with suppress(TimeoutError, ConnectionError):
        while True:
            async with asyncio.timeout(silent_s):
                piece = await reader.read(65536)
            if not piece:
                return got
            got += piece
            if got.endswith(b"0\r\n\r\n"):
                return got
    return got


async def test_a_call_is_answered(bodies):
    """The plain case, which the others are seen against."""
    async with serving(bodies) as (address, counts):
        answer = await asked(address, request())
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"text": "k"' in answer
        assert counts.in_flight == 0
        assert bodies.seen[0].tenant == "acme"


async def test_headers_that_do_not_end_are_cut_off(bodies, monkeypatch):
    """Neither the first request's nor a later one's hold a connection."""
    monkeypatch.setattr(http_server, "HTTP_HEAD_SECONDS_MAX", 0.2)
    async with serving(bodies) as (address, _):
        for before in (b"", request()):
            async with connected(address) as (reader, writer):
                writer.write(before)
                if before:
                    await reader.readuntil(b"0\r\n\r\n")
                writer.write(b"POST /x HTTP/1.1\r\nhost:")
                async with asyncio.timeout(3):
                    assert await closed(reader)


async def test_a_connection_that_says_nothing_is_closed(bodies, monkeypatch):
    """It costs a place."""
    monkeypatch.setattr(http_server, "HTTP_HEAD_SECONDS_MAX", 0.2)
    async with (
        serving(bodies) as (address, _),
        connected(address) as (reader, _),
        asyncio.timeout(3),
    ):
        assert await closed(reader)


async def test_a_body_that_does_not_come_is_given_up(bodies, monkeypatch):
    """With an answer that says so, and nothing was run."""
    monkeypatch.setattr(http_server, "HTTP_BODY_SECONDS_MAX", 0.2)
    async with serving(bodies) as (address, counts):
        answer = await asked(address, request(length=100))
        assert b"504" in answer.splitlines()[0]
        assert b"DEADLINE_EXCEEDED" in answer
        assert bodies.seen == []
        assert counts.in_flight == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        request(more=b"x: " + b"y" * 100_000 + b"\r\n"),
        request(more=b"content-length: 5\r\n"),
        request(more=b"transfer-encoding: chunked\r\n"),
        b"POST %s HTTP/1.1\r\n\r\n" % GET,
    ],
)
async def test_what_is_no_http_harms_nobody(bodies, data):
    """It is refused or cut off, and the next call is served."""
    async with serving(bodies) as (address, counts):
        answer = await asked(address, data)
        assert not answer.startswith(b"HTTP/1.1 2")
        assert not answer.startswith(b"HTTP/1.1 5")
        assert (await asked(address, request())).startswith(b"HTTP/1.1 200")
        assert counts.internal_errors == 0


async def test_a_caller_that_goes_cancels_its_call(bodies):
    """The handler ends, and the place is free."""
    bodies.get = bodies.wait
    async with serving(bodies) as (address, counts):
        async with connected(address) as (_, writer):
            writer.write(request())
            await bodies.began.wait()
            assert counts.in_flight == 1
        await asyncio.wait_for(bodies.cancelled.wait(), 5)
        assert counts.in_flight == 0


async def test_a_stream_that_is_left_ends(bodies):
    """Between two of its messages."""
    bodies.run = bodies.one_then_wait
    async with serving(bodies) as (address, counts):
        async with connected(address) as (reader, writer):
            body = b"\0\0\0\0\x02{}"
            writer.write(request(RUN, body, form=b"application/connect+json"))
            await bodies.began.wait()
            assert b"output" in await reader.readuntil(b"}}")
            assert counts.in_flight == 1
        await asyncio.wait_for(bodies.cancelled.wait(), 5)
        assert counts.in_flight == 0


async def test_an_unread_stream_stops_its_writer(bodies):
    """Nothing piles up for a caller that does not read."""
    written = 0

    async def flood(_):
        nonlocal written
        from tests.servers import output

        while True:
            written += 1
            yield output(bytes(256 * 1024))

    bodies.run = flood
    async with serving(bodies) as (address, _), connected(address) as (_, writer):
        writer.write(request(RUN, b"\0\0\0\0\x02{}", form=b"application/connect+json"))
        await asyncio.sleep(0.7)
        before = written
        await asyncio.sleep(0.3)
        assert written - before <= 1
        assert written < 64


async def test_the_end_waits_for_what_is_in_flight(bodies):
    """A call that has begun is answered when the process stops."""
    bodies.get = bodies.wait
    async with serving(bodies) as (address, _):
        call = asyncio.create_task(asked(address, request()))
        await bodies.began.wait()
        asyncio.get_running_loop().call_later(0.2, bodies.go_on.set)
    assert (await call).startswith(b"HTTP/1.1 200")


async def test_a_full_door_refuses(bodies):
    """OVERLOADED, as by gRPC."""
    async with serving(bodies, at_once=0) as (address, _):
        answer = await asked(address, request())
        told = json.loads(answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1])
        assert told["details"][0]["debug"]["reason"] == "OVERLOADED"


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        ("0.0.0.0:8080", Reason.CONFIG_INVALID),
        ("example.com:8080", Reason.CONFIG_INVALID),
        ("127.0.0.1", Reason.CONFIG_INVALID),
        ("127.0.0.1:http", Reason.CONFIG_INVALID),
        ("127.0.0.1:99999", Reason.CONFIG_INVALID),
    ],
)
async def test_an_address_that_others_reach_is_refused(listen, reason):
    """Keys would travel in the clear."""
    door = Door(identify, Counts(), calls_at_once=1)
    with pytest.raises(ServiceError) as caught:
        HttpPort(door, Handlers(), listen=listen, origins="", drain_s=1)
    assert caught.value.reason == reason
