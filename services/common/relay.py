"""The byte mover: a method name and bytes in, a sealed context on, bytes out.

The gateway relays clients' calls with it and the runtime relays scripts' calls. It knows no
message, so a new RPC needs no line here. Deadline, cancellation and error details pass through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

import grpc

from services.common.access import METHODS, Method
from services.common.breaker import Breaker
from services.common.context import METADATA_KEY, CallContext, Seal, current_context
from services.common.errors import Reason, ServiceError
from services.common.limits import (
    CONTEXT_SECONDS_PAST_DEADLINE,
    DEADLINE_SECONDS_DEFAULT,
    DEADLINE_SECONDS_MAX,
    IMPORT_SECONDS_MAX,
    MESSAGE_BYTES_MAX,
)
from services.common.status import DETAILS_KEY, from_trailer
from services.common.tls import PLAINTEXT, ProcessTls, is_socket_file, refuse_plain_call
from services.common.trunk import Metadata, NotCarriedError, Trunk, write

log = logging.getLogger(__name__)

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A process that was killed is back within a second; do not wait longer to notice.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # How long one attempt may take, in spite of the name.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A network that swallows what is sent says nothing: ask, where something is under way.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Each process calls its own peers, never through somebody's proxy.
    ("grpc.enable_http_proxy", 0),
)

_CONNECT_S = 10.0
"""How long a channel with new certificates may take before the old one is kept."""
_HEALTH = "/grpc.health.v1.Health/Check"
_PROBE_S = 1.0
_REPLACE_AFTER_S = 10.0
"""A process that answers gets a new connection for calls that it let wait at most so often."""
_NO_ANSWER = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_STATUS_S = 5.0
"""How long the status of a call may take that takes no more messages."""


class Route(Protocol):
    """Where calls of a service go."""

    async def pick(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> Upstream:
        """The process whose turn a call is.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE where none serves.
        """

    def others(self, error: ServiceError, but: Upstream) -> Sequence[Upstream]:
        """Processes that may know what one of them does not."""


class Upstream:
    """One process that is called, over one long-lived channel."""

    def __init__(
        self,
        name: str,
        address: str,
        tls: ProcessTls = PLAINTEXT,
        *,
        tag: str = "",
        host: str = "",
        trunk: bool = True,
    ) -> None:
        """Make it; nothing is connected before the first call.

        Args:
            name: What it is, such as `runtime`.
            address: Where it is.
            tls: What this process shows over TCP; without, the channel is plaintext.
            tag: What tells it from others of its kind; the process is told it with each call.
            host: The name that its certificate must be for; empty: as in the address.
            trunk: Whether unary calls share a stream.

        Raises:
            ServiceError: CONFIG_INVALID where calls would leave this machine in the clear.
        """
        refuse_plain_call(name, address, tls)
        self.name = name
        self.tag = tag
        self._address = address
        self._host = host
        self._certificates = None if is_socket_file(address) else tls.inner
        self._generation = 0
        self._renewing: asyncio.Task[None] | None = None
        self._calls: dict[str, Any] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.channel = self._open()
        self._trunk = Trunk(self.channel) if trunk else None
        self.breaker = Breaker(name, self._probe)
        self._replaced_s = 0.0
        self.on_replaced: Callable[[], None] | None = None
        """Told when calls go over another channel."""

    async def call(
        self, path: str, request: bytes, metadata: Metadata, *, timeout_s: float, seal: Seal
    ) -> bytes:
        """One unary call, on the trunk or alone.

        Raises:
            ServiceError: what the other process answered; SERVICE_UNAVAILABLE where it is away.
        """
        self._renew()
        with self.breaker.watched():
            return await self._call(path, request, metadata, timeout_s=timeout_s, seal=seal)

    async def _call(
        self, path: str, request: bytes, metadata: Metadata, *, timeout_s: float, seal: Seal
    ) -> bytes:
        try:
            if self._trunk is not None and self._trunk.takes(request):
                with suppress(NotCarriedError):
                    return await self._trunk.call(
                        path, request, metadata, timeout_s=timeout_s, seal=seal
                    )
            answer: bytes = await self.unary(path)(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _service_error(error, self) from None
        except ServiceError as error:
            raise _named(error, self) from None
        return answer

    def unary(self, path: str) -> Any:
        """A callable for a unary method, bytes to bytes."""
        self._renew()
        if path not in self._calls:
            self._calls[path] = self.channel.unary_unary(path)
        return self._calls[path]

    def stream(self, path: str) -> Any:
        """A callable for a method that answers with a stream."""
        self._renew()
        if path not in self._calls:
            self._calls[path] = self.channel.unary_stream(path)
        return self._calls[path]

    def exchange(self, path: str) -> Any:
        """A callable for a method that takes a stream and answers with one."""
        self._renew()
        if path not in self._calls:
            self._calls[path] = self.channel.stream_stream(path)
        return self._calls[path]

    async def pick(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> Upstream:
        """Itself: there is no other."""
        del method, request, context, timeout_s
        return self

    def others(self, error: ServiceError, but: Upstream) -> Sequence[Upstream]:
        """None."""
        del error, but
        return ()

    async def close(self) -> None:
        """Close the channel."""
        await self.breaker.close()
        for task in (self._renewing, *self._ending):
            if task is not None:
                task.cancel()
        if self._trunk is not None:
            await self._trunk.close()
        await self.channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._certificates is None:
            return grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        self._generation = self._certificates.generation
        named = (("grpc.ssl_target_name_override", self._host),) if self._host else ()
        credentials = self._certificates.channel_credentials()
        return grpc.aio.secure_channel(
            self._address, credentials, options=(*CHANNEL_OPTIONS, *named)
        )

    def _renew(self) -> None:
        """Make a channel anew where certificates were replaced; a channel keeps what it had."""
        if self._certificates is None or self._generation == self._certificates.generation:
            return
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._replace())

    async def _replace(self) -> None:
        """Calls change over when the new channel is connected; those in flight end on theirs."""
        channel = self._open()
        try:
            async with asyncio.timeout(_CONNECT_S):
                await channel.channel_ready()
        except TimeoutError:
            log.warning("no connection with the new certificates", extra={"service": self.name})
            self._generation = -1  # the next call tries again
            await channel.close()
            return
        self._use(channel)

    async def _probe(self) -> bool:
        """Whether the process answers over a new connection, which then is the one that is used.

        The old one may wait for a network that has forgotten it.
        """
        channel = self._open()
        try:
            ask: Any = channel.unary_unary(_HEALTH)
            await ask(b"", timeout=_PROBE_S)
        except grpc.aio.AioRpcError as error:
            answered = error.code() not in _NO_ANSWER
        except asyncio.CancelledError:
            await channel.close()
            raise
        else:
            answered = True
        is_new = answered and (
            self.breaker.is_open or monotonic() - self._replaced_s > _REPLACE_AFTER_S
        )
        if is_new:
            self._use(channel)
        else:
            await channel.close()
        return answered

    def _use(self, channel: grpc.aio.Channel) -> None:
        """Send calls over this channel from now on."""
        self._replaced_s = monotonic()
        old, self.channel, self._calls = self.channel, channel, {}
        if self._trunk is not None:
            self._trunk = Trunk(channel)
        if self.on_replaced is not None:
            self.on_replaced()
        ending = asyncio.create_task(old.close(DEADLINE_SECONDS_MAX))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class Relay:
    """Passes calls on to the process that owns their service."""

    def __init__(self, routes: Mapping[str, Route], seal: Seal) -> None:
        """`routes`: full service name → the process that owns it, or several."""
        self._routes = routes
        self._seal = seal

    def routes(self, method: Method) -> bool:
        """Whether this relay knows where the method lives."""
        return method.service in self._routes

    async def call(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> bytes:
        """One unary call.

        Raises:
            ServiceError: what the other process answered; SERVICE_UNAVAILABLE where it is away.
        """
        route = self._routes[method.service]
        upstream = await route.pick(method, request, context, timeout_s=timeout_s)
        try:
            return await self._ask(upstream, method, request, context, timeout_s)
        except ServiceError as error:
            for other in route.others(error, upstream):
                with suppress(ServiceError):
                    return await self._ask(other, method, request, context, timeout_s)
            raise

    async def _ask(
        self,
        upstream: Upstream,
        method: Method,
        request: bytes,
        context: CallContext,
        timeout_s: float,
    ) -> bytes:
        metadata = self._metadata(upstream, context, timeout_s)
        return await upstream.call(
            method.path, request, metadata, timeout_s=timeout_s, seal=self._seal
        )

    async def stream(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        """One call that answers with a stream; ending the iteration cancels it.

        Raises:
            ServiceError: like `call`.
        """
        upstream = await self._routes[method.service].pick(
            method, request, context, timeout_s=timeout_s
        )
        metadata = self._metadata(upstream, context, timeout_s)
        upstream.breaker.check()
        call = upstream.stream(method.path)(request, timeout=timeout_s, metadata=metadata)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise _service_error(error, upstream) from None
        finally:
            call.cancel()

    async def exchange(
        self,
        method: Method,
        requests: AsyncIterator[bytes],
        context: CallContext,
        *,
        timeout_s: float,
    ) -> AsyncGenerator[bytes, None]:
        """A stream in both directions. One message is on its way at a time, so nothing piles up.

        Raises:
            ServiceError: what the other process answered; SERVICE_UNAVAILABLE where it is away.
        """
        upstream = await self._routes[method.service].pick(
            method, b"", context, timeout_s=timeout_s
        )
        metadata = self._metadata(upstream, context, timeout_s)
        upstream.breaker.check()
        failure: list[BaseException] = []
        call = upstream.exchange(method.path)(timeout=timeout_s, metadata=metadata)
        sending = asyncio.create_task(_send(call, requests, failure))
        try:
            async for answer in call:
                yield answer
            if failure:
                raise failure[0]
        except grpc.aio.AioRpcError as error:
            raise _service_error(error, upstream) from None
        except asyncio.CancelledError:
            if failure:  # the request's own stream failed, and ended the call
                raise failure[0] from None
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            call.cancel()

    def _metadata(
        self, upstream: Upstream, context: CallContext, timeout_s: float
    ) -> tuple[tuple[str, bytes]]:
        if upstream.tag:
            context = replace(context, member=upstream.tag)
        sealed = self._seal.seal(context, lifetime_s=timeout_s + CONTEXT_SECONDS_PAST_DEADLINE)
        return ((METADATA_KEY, sealed),)


class RelayHandler(grpc.GenericRpcHandler):
    """Serves every method that the relay has a route for. Stands behind the door."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._handlers = {
            path: self._handler(method) for path, method in METHODS.items() if relay.routes(method)
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method, None where it has no route."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        async def unary(request: bytes, servicer_context: Any) -> bytes:
            timeout_s = remaining_s(servicer_context) or DEADLINE_SECONDS_DEFAULT
            return await self._relay.call(method, request, current_context(), timeout_s=timeout_s)

        async def stream(request: bytes, servicer_context: Any) -> AsyncGenerator[bytes, None]:
            timeout_s = remaining_s(servicer_context) or DEADLINE_SECONDS_MAX
            answers = self._relay.stream(method, request, current_context(), timeout_s=timeout_s)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer

        async def exchange(
            requests: AsyncIterator[bytes], servicer_context: Any
        ) -> AsyncGenerator[bytes, None]:
            timeout_s = remaining_s(servicer_context, IMPORT_SECONDS_MAX) or IMPORT_SECONDS_MAX
            answers = self._relay.exchange(method, requests, current_context(), timeout_s=timeout_s)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer

        if method.request_streams:
            return grpc.stream_stream_rpc_method_handler(exchange)
        if method.streams:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


async def _send(call: Any, requests: AsyncIterator[bytes], failure: list[BaseException]) -> None:
    """Pass messages on, each once the one before it was taken."""
    try:
        await call.wait_for_connection()
        async for request in requests:
            await write(call, request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
        await _settle(call)  # whoever reads the answers has the reason
    except Exception as error:  # noqa: BLE001  (told by whoever reads the answers)
        failure.append(error)
        call.cancel()


async def _settle(call: Any) -> None:
    """Wait for the status of a call that takes no more; without one it would wait for ever."""
    try:
        async with asyncio.timeout(_STATUS_S):
            await call.code()
    except TimeoutError:
        call.cancel()


def remaining_s(servicer_context: Any, most_s: float = DEADLINE_SECONDS_MAX) -> float | None:
    """Seconds until the caller's deadline, at most the limit; None where it set none."""
    remaining = servicer_context.time_remaining()
    return None if remaining is None else min(max(remaining, 0.001), most_s)


def _service_error(error: grpc.aio.AioRpcError, upstream: Upstream) -> ServiceError:
    trailers = dict(error.trailing_metadata() or ())
    details, code = trailers.get(DETAILS_KEY), error.code()
    if code == grpc.StatusCode.CANCELLED and details is None:
        code = grpc.StatusCode.UNAVAILABLE  # not by us: a process that stops ends calls with it
    known = from_trailer(code, error.details() or "", details)
    return _named(known, upstream)


def _named(known: ServiceError, upstream: Upstream) -> ServiceError:
    if known.reason == Reason.SERVICE_UNAVAILABLE:
        known.metadata.setdefault("service", upstream.name)
    return known
