"""The port for calls by HTTP (`services.gateway.http_calls`), where `gateway.http_listen` is set.

uvicorn serves it in the gateway's own loop. What it leaves open is closed here: headers and bodies
that never end, bodies that are too large, connections without number, pages of other sites.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.common.access import METHODS
from services.common.context import REQUEST_ID_KEY
from services.common.door import Door
from services.common.errors import Reason, ServiceError, limit_exceeded
from services.common.handlers import Handlers
from services.common.limits import (
    HTTP_BODY_BYTES_MAX,
    HTTP_BODY_SECONDS_MAX,
    HTTP_CONNECTIONS_MAX,
    HTTP_HEAD_SECONDS_MAX,
    METADATA_BYTES_MAX,
)
from services.gateway.http_calls import application, refused

_WEB_FORMS = (
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web+json",
)
_UNARY_FORMS = ("application/json", "application/proto", *_WEB_FORMS)
_STREAM_FORMS = ("application/connect+json", "application/connect+proto", *_WEB_FORMS)
"""gRPC itself has a port of its own."""
_CORS = (
    (b"access-control-allow-methods", b"POST"),
    (
        b"access-control-allow-headers",
        (
            b"authorization, content-type, connect-protocol-version, connect-timeout-ms, "
            b"grpc-timeout, llmspell-tenant, llmspell-request-id, x-grpc-web, x-user-agent"
        ),
    ),
    (
        b"access-control-expose-headers",
        f"grpc-message, grpc-status, grpc-status-details-bin, {REQUEST_ID_KEY}".encode(),
    ),
    (b"access-control-max-age", b"7200"),
)
_HEADERS = {
    "connect-timeout-ms": re.compile(rb"[0-9]{1,10}"),
    "connect-protocol-version": re.compile(rb"1"),
    "grpc-timeout": re.compile(rb"1|[0-9]{1,8}[HMSmun]"),
}
_CODES = {
    Reason.NOT_IMPLEMENTED: 404,
    Reason.PERMISSION_DENIED: 403,
    Reason.FIELD_INVALID: 415,
    Reason.MESSAGE_MALFORMED: 400,
    Reason.LIMIT_EXCEEDED: 431,
}


class HttpPort:
    """Listens from the moment that it is made, and serves while `run` runs."""

    def __init__(
        self, door: Door, handlers: Handlers, *, listen: str, origins: str, drain_s: float
    ) -> None:
        """Take the address.

        Args:
            door: Of the gateway.
            handlers: Behind it.
            listen: `HOST:PORT` of this machine.
            origins: Whose pages may call, with commas between them; `*`: anybody's.
            drain_s: How long calls in flight may go on at the end.

        Raises:
            ServiceError: ADDRESS_IN_USE, CONFIG_INVALID.
        """
        self._socket = _listening(listen)
        allowed = frozenset(each.strip() for each in origins.split(",") if each.strip())
        config = uvicorn.Config(
            cast("Any", _Outside(application(door, handlers), allowed)),
            http=_Guarded,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=HTTP_CONNECTIONS_MAX,
            timeout_keep_alive=round(HTTP_HEAD_SECONDS_MAX),
            timeout_graceful_shutdown=max(round(drain_s), 1),
            h11_max_incomplete_event_size=METADATA_BYTES_MAX,
        )
        self._server = _Server(config)

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def run(self) -> None:
        """Serve until cancelled, and then finish what is in flight."""
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.should_exit = True
            await serving
            raise

    def close(self) -> None:
        """Give up the address."""
        self._socket.close()


class _Server(uvicorn.Server):
    """One of several things that a process does: signals are not its business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


class _Guarded(H11Protocol):
    """A connection that must say something in time."""

    _guard: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a request's headers, if they are not whole."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        if self._guard is not None:
            self._guard.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self._guard is not None:
            self._guard.cancel()
            self._guard = None
        elif not busy and self._guard is None:
            self._guard = self.loop.call_later(HTTP_HEAD_SECONDS_MAX, self._late)

    def _late(self) -> None:
        self._guard = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class _Outside:
    """What is decided before a call is read: whose page asks, what form, how much, how long."""

    def __init__(self, inner: Any, origins: frozenset[str]) -> None:
        self._inner = inner
        self._origins = origins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Called by uvicorn for each request."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        allowed = self._allowed(origin)
        sending = _with_headers(send, allowed)
        error = _foreign(origin, allowed) or _no_call(scope) or _malformed(scope, headers)
        if error is not None:
            await _answer(sending, _CODES[error.reason], error)
        elif scope["method"] == "OPTIONS":
            await _preflight(sending)
        else:
            await self._inner(scope, _bounded(receive), sending)

    def _allowed(self, origin: str) -> list[tuple[bytes, bytes]]:
        """Headers that let the page read the answer; none where it may not."""
        if not origin or not self._origins & {origin, "*"}:
            return []
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]


def _foreign(origin: str, allowed: list[tuple[bytes, bytes]]) -> ServiceError | None:
    """A page asks whose origin may not."""
    if not origin or allowed:
        return None
    text = "Pages of that origin may not call; see gateway.http_origins."
    return ServiceError(Reason.PERMISSION_DENIED, text, origin=origin)


def _no_call(scope: Any) -> ServiceError | None:
    """It names nothing that can be called by HTTP."""
    method = METHODS.get(scope["path"])
    if method is None:
        return ServiceError(Reason.NOT_IMPLEMENTED, "The method is not offered.")
    if method.request_streams:
        text = "This method takes a stream of messages, which needs gRPC."
        return ServiceError(Reason.NOT_IMPLEMENTED, text)
    return None


def _malformed(scope: Any, headers: dict[bytes, bytes]) -> ServiceError | None:
    """Its headers are too large, of another protocol, or unfit."""
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > METADATA_BYTES_MAX:
        return limit_exceeded("headers", size, METADATA_BYTES_MAX, "bytes")
    form = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    forms = _STREAM_FORMS if METHODS[scope["path"]].streams else _UNARY_FORMS
    if scope["method"] == "POST" and form not in forms:
        rule = f"must be one of {', '.join(forms)}"
        text = f"content-type is {form[:100]!r}; here it {rule}."
        return ServiceError(Reason.FIELD_INVALID, text, field="content-type", rule=rule)
    for name, pattern in _HEADERS.items():
        if not pattern.fullmatch(headers.get(name.encode(), b"1")):
            text = f"The header {name} is malformed."
            return ServiceError(Reason.MESSAGE_MALFORMED, text, field=name)
    return None


def _with_headers(send: Any, headers: list[tuple[bytes, bytes]]) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            more = [*headers, *(_CORS if headers else ()), (b"cache-control", b"no-store")]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


def _bounded(receive: Any) -> Any:
    """The body, if it comes in time and is not too large."""
    loop = asyncio.get_running_loop()
    end_s, size, whole = loop.time() + HTTP_BODY_SECONDS_MAX, 0, False

    async def receiving() -> Any:
        nonlocal size, whole
        if whole:
            return await receive()  # the end of the connection
        try:
            async with asyncio.timeout_at(end_s):
                message = await receive()
        except TimeoutError:
            raise refused(
                ServiceError(
                    Reason.DEADLINE_EXCEEDED,
                    f"The request did not arrive within {HTTP_BODY_SECONDS_MAX:g} seconds.",
                    limit=HTTP_BODY_SECONDS_MAX,
                )
            ) from None
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if size > HTTP_BODY_BYTES_MAX:
            raise refused(
                ServiceError(
                    Reason.MESSAGE_TOO_LARGE,
                    f"The request has more than {HTTP_BODY_BYTES_MAX} bytes. Send less at once.",
                    limit=HTTP_BODY_BYTES_MAX,
                )
            )
        return message

    return receiving


async def _answer(send: Any, status: int, error: ServiceError) -> None:
    """An error in the form that Connect has for them."""
    told = refused(error)
    details = [{"type": each.type_name, "debug": error_fields(error)} for each in told.details]
    body = {"code": told.code.value, "message": told.message, "details": details}
    await _respond(send, status, json.dumps(body).encode())


def error_fields(error: ServiceError) -> dict[str, Any]:
    """Reason and metadata as JSON has them."""
    return {"reason": Reason.Name(error.reason), "domain": "llmspell", "metadata": error.metadata}


async def _preflight(send: Any) -> None:
    await _respond(send, 204, b"")


async def _respond(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json")] if body else []
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _listening(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    good_port = port.isdigit() and int(port) < 1 << 16
    if not good_port or not _is_of_this_machine(host):
        raise ServiceError(
            Reason.CONFIG_INVALID,
            f"gateway.http_listen must be HOST:PORT of this machine alone, such as 127.0.0.1:8080, "
            f"and is {listen!r}: keys travel with calls, so others need a proxy that ends TLS.",
            key="gateway.http_listen",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=512)
    except OSError:
        raise ServiceError(
            Reason.ADDRESS_IN_USE,
            f"{listen} cannot be listened on: another process has it, or it is no address of this "
            "machine. Stop that process or choose another port.",
            address=listen,
        ) from None


def _is_of_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
