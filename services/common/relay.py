"""The byte mover: a method name and bytes in, a sealed context on, bytes out.

The gateway relays clients' calls with it and the runtime relays scripts' calls. It knows no
message, so a new RPC needs no line here. Deadline, cancellation and error details pass through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc

from services.common.access import METHODS, Method
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

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A process that was killed is back within a second; do not wait longer to notice.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # How long one attempt may take, in spite of the name.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Each process calls its own peers, never through somebody's proxy.
    ("grpc.enable_http_proxy", 0),
)

_STATUS_S = 5.0
"""How long the status of a call may take that takes no more messages."""


class Upstream:
    """One process that is called, over one long-lived channel."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._calls: dict[str, Any] = {}

    def unary(self, path: str) -> Any:
        """A callable for a unary method, bytes to bytes."""
        if path not in self._calls:
            self._calls[path] = self.channel.unary_unary(path)
        return self._calls[path]

    def stream(self, path: str) -> Any:
        """A callable for a method that answers with a stream."""
        if path not in self._calls:
            self._calls[path] = self.channel.unary_stream(path)
        return self._calls[path]

    def exchange(self, path: str) -> Any:
        """A callable for a method that takes a stream and answers with one."""
        if path not in self._calls:
            self._calls[path] = self.channel.stream_stream(path)
        return self._calls[path]

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close()


class Relay:
    """Passes calls on to the process that owns their service."""

    def __init__(self, routes: Mapping[str, Upstream], seal: Seal) -> None:
        """`routes`: full service name → the process that owns it."""
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
        upstream = self._routes[method.service]
        try:
            answer: bytes = await upstream.unary(method.path)(
                request, timeout=timeout_s, metadata=self._metadata(context, timeout_s)
            )
        except grpc.aio.AioRpcError as error:
            raise _service_error(error, upstream) from None
        return answer

    async def stream(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        """One call that answers with a stream; ending the iteration cancels it.

        Raises:
            ServiceError: like `call`.
        """
        upstream = self._routes[method.service]
        metadata = self._metadata(context, timeout_s)
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
        upstream = self._routes[method.service]
        metadata = self._metadata(context, timeout_s)
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

    def _metadata(self, context: CallContext, timeout_s: float) -> tuple[tuple[str, bytes]]:
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
            await _write(call, request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
        await _settle(call)  # whoever reads the answers has the reason
    except Exception as error:  # noqa: BLE001  (told by whoever reads the answers)
        failure.append(error)
        call.cancel()


async def _write(call: Any, message: bytes) -> None:
    """As `call.write`, which would put INTERNAL in the place of why a call has ended.

    That is grpc's issue 36066: a write that fails because the other side has ended the call
    overwrites its status.
    """
    if call.done():
        raise asyncio.InvalidStateError
    await call._cython_call.send_serialized_message(message)  # noqa: SLF001  (nothing else writes)


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
    known = from_trailer(error.code(), error.details() or "", trailers.get(DETAILS_KEY))
    if known.reason == Reason.SERVICE_UNAVAILABLE:
        known.metadata.setdefault("service", upstream.name)
    return known
