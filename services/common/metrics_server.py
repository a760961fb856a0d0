"""A page for Prometheus: HTTP GET of `/metrics`, and of `/metrics/deployment` at the gateway.

It knows nothing else of HTTP. A request has seconds and a few KiB, each connection answers one, and
there are few at a time, so that whoever holds them keeps only Prometheus out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.common.errors import Reason, ServiceError
from services.common.limits import (
    METRICS_CONNECTIONS_MAX,
    METRICS_REQUEST_BYTES_MAX,
    METRICS_REQUEST_SECONDS,
)
from services.common.metrics import CONTENT_TYPE, joined
from services.common.vitals import Vitals

log = logging.getLogger(__name__)

_UNIX = "unix:"
_LOCAL = (_UNIX, "127.", "localhost:", "[::1]:")


@asynccontextmanager
async def metrics_page(listen: str, vitals: Vitals) -> AsyncIterator[None]:
    """Serve metrics while the block runs; `listen` empty: nowhere.

    Raises:
        ServiceError: CONFIG_INVALID for what is no address; ADDRESS_IN_USE.
    """
    if not listen:
        yield
        return
    server = await _listening(listen, _Page(vitals))
    log.info("metrics", extra={"address": listen})
    if not listen.startswith(_LOCAL):
        log.warning("metrics are told to other machines, with names of tenants")
    try:
        yield
    finally:
        server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await server.wait_closed()


async def _listening(listen: str, page: _Page) -> asyncio.Server:
    try:
        if listen.startswith(_UNIX):
            path = listen.removeprefix(_UNIX)
            Path(path).unlink(missing_ok=True)
            return await asyncio.start_unix_server(page, path, limit=METRICS_REQUEST_BYTES_MAX)
        host, _, port = listen.rpartition(":")
        return await asyncio.start_server(
            page, host.strip("[]"), int(port), limit=METRICS_REQUEST_BYTES_MAX
        )
    except ValueError:
        raise ServiceError(
            Reason.CONFIG_INVALID,
            f"{listen} is no address for metrics; write HOST:PORT or unix:/PATH.",
            key="metrics_listen",
        ) from None
    except OSError as error:
        raise ServiceError(
            Reason.ADDRESS_IN_USE,
            f"Metrics cannot be served at {listen}: {error.strerror}.",
            address=listen,
        ) from None


class _Page:
    """Answers one connection after another."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection."""
        try:
            if self._connections < METRICS_CONNECTIONS_MAX:
                self._connections += 1
                try:
                    await self._serve(reader, writer)
                finally:
                    self._connections -= 1
        except Exception as error:  # noqa: BLE001  (a page must not end its process)
            log.debug("a request for metrics failed", extra={"why": repr(error)})
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(METRICS_REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        status, body = await self._answer(head.split(b"\r\n", 1)[0].decode("latin-1"))
        kind = CONTENT_TYPE if status.startswith("200") else "text/plain; charset=utf-8"
        lines = (
            f"HTTP/1.1 {status}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        async with asyncio.timeout(METRICS_REQUEST_SECONDS):
            await writer.drain()

    async def _answer(self, line: str) -> tuple[str, bytes]:
        verb, _, rest = line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if verb != "GET":
            return "405 Method Not Allowed", b"Only GET is answered here.\n"
        if path == "/metrics":
            return "200 OK", (await self._vitals.metrics.tell()).encode()
        if path == "/metrics/deployment" and self._vitals.gather is not None:
            return "200 OK", joined(await self._vitals.gather()).encode()
        return "404 Not Found", b"Ask for /metrics.\n"
