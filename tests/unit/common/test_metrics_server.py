"""The page that Prometheus reads, over real connections; also from those who mean no good."""

import asyncio
from contextlib import suppress

import pytest

from services.common import metrics_server
from services.common.errors import Reason, ServiceError
from services.common.limits import METRICS_CONNECTIONS_MAX
from services.common.metrics_server import metrics_page
from services.common.vitals import Vitals


@pytest.fixture
async def page(tmp_path):
    """A gateway's page; its address."""
    vitals = Vitals("gateway")

    async def gather():
        return ["# HELP a A.\n# TYPE a gauge\na 1\n", "# HELP a A.\n# TYPE a gauge\na 2\n"]

    vitals.gather = gather
    path = f"{tmp_path}/m.sock"
    async with metrics_page(f"unix:{path}", vitals):
        yield path


async def ask(path, sent):
    """Everything that comes until the connection ends."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(sent)
    told = b""
    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):  # it was closed with something unread
            told = await reader.read()
    writer.close()
    return told


async def test_it_is_http(page):
    """Status, type and length as HTTP wants them; a query is no matter."""
    told = await ask(page, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = told.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert b'llmspell_ready{process="gateway"}' in body


async def test_the_gateway_has_all_of_them(page):
    """One page for the whole deployment."""
    told = await ask(page, b"GET /metrics/deployment HTTP/1.1\r\n\r\n")
    assert told.endswith(b"# HELP a A.\n# TYPE a gauge\na 1\na 2\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics/../secret HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01\xff\r\n\r\n", b"405"),
        (b"\r\n\r\n", b"405"),
    ],
)
async def test_nothing_else_is_answered(page, sent, status):
    """No other page, no other verb, and no error of ours."""
    assert (await ask(page, sent)).startswith(b"HTTP/1.1 " + status)


async def test_a_head_that_does_not_end_is_not_read_on(page):
    """Whoever sends without end is cut off."""
    assert await ask(page, b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 100_000) == b""


async def test_a_silent_caller_is_let_go(page, monkeypatch):
    """It has seconds; others are answered meanwhile, but for a number that is bounded."""
    monkeypatch.setattr(metrics_server, "METRICS_REQUEST_SECONDS", 0.3)
    silent = [await asyncio.open_unix_connection(page) for _ in range(METRICS_CONNECTIONS_MAX)]
    await asyncio.sleep(0.05)
    assert await ask(page, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    for reader, writer in silent:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    assert (await ask(page, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        ("nowhere", Reason.CONFIG_INVALID),
        ("127.0.0.1:http", Reason.CONFIG_INVALID),
        ("unix:/nowhere/at/all/m.sock", Reason.ADDRESS_IN_USE),
        ("192.0.2.1:9464", Reason.ADDRESS_IN_USE),
    ],
)
async def test_an_address_that_is_none_is_an_error(listen, reason):
    """The process says so at its start."""
    with pytest.raises(ServiceError) as caught:
        async with metrics_page(listen, Vitals("gateway")):
            pass
    assert caught.value.reason == reason


async def test_without_an_address_there_is_no_page():
    """The default."""
    async with metrics_page("", Vitals("gateway")):
        pass
