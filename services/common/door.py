"""Where a call enters a process: one interceptor, the same in all four.

In this order, and the order matters: room is taken first (a flood must not cost a signature check
each), then who is calling, then whether it may; all this before a byte of the message is taken in,
so that a stranger costs no memory. Then the bytes are parsed and the handler runs. Whatever is
raised on the way becomes one status. Only how the caller is known differs: the gateway
reads a key, the others open a sealed context.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from services.common.access import METHODS, OPEN_PREFIXES, Method, decide
from services.common.context import (
    METADATA_KEY,
    REQUEST_ID_KEY,
    CallContext,
    Seal,
    context_invalid,
    new_request_id,
    set_context,
)
from services.common.errors import Reason, ServiceError
from services.common.limits import MESSAGE_BYTES_MAX
from services.common.status import short, status_code, to_trailer
from services.common.telemetry import Counts

log = logging.getLogger(__name__)

_UNREAD_S = 30.0
"""How long a caller may leave a stream unread before it loses its place."""
_SETTLE_S = 0.005
"""For a moment a call that its caller has cancelled looks as if its messages had ended. An upload
that was cut off must not be kept for a whole one."""

_SILENT_S = 60.0
"""How long a caller's own stream may be silent before it loses its place."""

Metadata = Sequence[tuple[str, str | bytes]]


class Identify(Protocol):
    """Tells who is calling."""

    async def __call__(self, metadata: Metadata, method: Method) -> CallContext:
        """The caller's context.

        Raises:
            ServiceError: CREDENTIAL_MISSING, CREDENTIAL_INVALID, CONTEXT_INVALID,
                PERMISSION_DENIED.
        """


class SealedContext:
    """Knows a caller by the gateway's seal; for every process but the gateway."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    async def __call__(self, metadata: Metadata, method: Method) -> CallContext:
        """The context in the call's metadata; exactly one is accepted."""
        del method
        sealed = [value for key, value in metadata if key == METADATA_KEY]
        if len(sealed) != 1 or not isinstance(sealed[0], bytes):
            raise context_invalid()
        return self._seal.open(sealed[0])


class Door(grpc.aio.ServerInterceptor):
    """The interceptor. Health and reflection pass; every other method needs an identity."""

    def __init__(
        self,
        identify: Identify,
        counts: Counts,
        *,
        calls_at_once: int,
        guard: Callable[[CallContext, Method], None] | None = None,
    ) -> None:
        """`guard`: asked last whether a call may go on; raises a ServiceError where not."""
        self._identify = identify
        self._guard = guard
        self._counts = counts
        self._calls_at_once = calls_at_once

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Called by grpc for each call, before its bytes are read."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or path.startswith(OPEN_PREFIXES):
            return handler
        self._counts.calls += 1
        call = _Call(self, METHODS.get(path), handler, handler_call_details.invocation_metadata)
        refusal = await call.admit()
        if refusal is not None:
            return grpc.stream_unary_rpc_method_handler(refusal)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(call.exchange)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(call.stream)
        return grpc.unary_unary_rpc_method_handler(call.unary)

    @contextmanager
    def room(self) -> Iterator[None]:
        """A place among the calls in flight.

        Raises:
            ServiceError: OVERLOADED.
        """
        if self._counts.in_flight >= self._calls_at_once:
            raise ServiceError(
                Reason.OVERLOADED,
                f"{self._calls_at_once} calls are in flight already; try again shortly.",
                limit=self._calls_at_once,
            )
        self._counts.in_flight += 1
        try:
            yield
        finally:
            self._counts.in_flight -= 1

    async def enter(self, metadata: Metadata, method: Method | None) -> CallContext:
        """Know the caller and decide."""
        if method is None:
            raise ServiceError(Reason.NOT_IMPLEMENTED, "The method is not offered.")
        context = await self._identify(metadata, method)
        decide(context, method)
        if self._guard is not None:
            self._guard(context, method)
        return context

    def note(self, error: ServiceError) -> None:
        """Count a call that failed for our own reasons; remember damage that it met."""
        self._counts.internal_errors += error.reason == Reason.INTERNAL
        self._counts.damages.note_error(error)


class _Call:
    """One call on its way through the door.

    Takes and gives bytes, so that what cannot be read or written becomes a status here, and not a
    text of grpc's.
    """

    def __init__(self, door: Door, method: Method | None, handler: Any, metadata: Metadata) -> None:
        self._door = door
        self._method = method
        self._handler = handler
        self._metadata = metadata
        self._request_id = new_request_id()
        self._context: CallContext | None = None

    async def admit(self) -> Callable[[Any, Any], Awaitable[bytes]] | None:
        """Know the caller and decide; None where it may go on.

        Otherwise what answers the refusal, as a handler that never asks for the message.
        """
        try:
            with self._door.room():
                self._context = await self._door.enter(self._metadata, self._method)
        except Exception as error:  # noqa: BLE001  (every error becomes a status)
            return partial(self._refuse, error)
        self._request_id = self._context.request_id
        return None

    async def _refuse(self, error: Exception, messages: Any, servicer_context: Any) -> bytes:
        del messages
        await self._abort(servicer_context, error)

    async def unary(self, raw: bytes, servicer_context: Any) -> bytes:
        try:
            with self._door.room():
                request = self._enter(raw, servicer_context)
                return self._bytes(await self._handler.unary_unary(request, servicer_context))
        except Exception as error:  # noqa: BLE001  (every error becomes a status here)
            await self._abort(servicer_context, error)

    async def stream(self, raw: bytes, servicer_context: Any) -> None:
        """Writes instead of yielding.

        A caller that goes away is then noticed in this frame, and the place among the calls in
        flight does not wait for the garbage collector.
        """
        try:
            with self._door.room():
                request = self._enter(raw, servicer_context)
                answers = self._handler.unary_stream(request, servicer_context)
                async with aclosing(answers):
                    async for answer in answers:
                        await _write(servicer_context, self._bytes(answer))
        except Exception as error:  # noqa: BLE001  (every error becomes a status here)
            await self._abort(servicer_context, error)

    async def exchange(self, messages: Any, servicer_context: Any) -> None:
        """A stream in both directions.

        A message is read when the handler asks for it, and the handler goes on when its answer was
        taken: a caller who leaves answers unread is not read from either.
        """
        try:
            with self._door.room():
                self._begin(servicer_context)
                requests = self._requests(messages)
                answers = self._handler.stream_stream(requests, servicer_context)
                async with aclosing(requests), aclosing(answers):
                    async for answer in answers:
                        await _write(servicer_context, self._bytes(answer))
        except Exception as error:  # noqa: BLE001  (every error becomes a status here)
            await self._abort(servicer_context, error)

    async def _requests(self, messages: Any) -> AsyncGenerator[Any, None]:
        """The messages as they come; one that does not come gives up the stream's place."""
        messages = aiter(messages)
        while True:
            try:
                async with asyncio.timeout(_SILENT_S):
                    raw = await anext(messages)
            except StopAsyncIteration:
                await asyncio.sleep(_SETTLE_S)
                return
            except TimeoutError:
                raise ServiceError(
                    Reason.DEADLINE_EXCEEDED,
                    f"No message came for {_SILENT_S:g} seconds.",
                    limit=_SILENT_S,
                ) from None
            yield self._parse(raw)

    def _enter(self, raw: bytes, servicer_context: Any) -> Any:
        self._begin(servicer_context)
        return self._parse(raw)

    def _begin(self, servicer_context: Any) -> None:
        assert self._context is not None
        set_context(self._context)
        servicer_context.set_trailing_metadata(((REQUEST_ID_KEY, self._request_id),))

    def _parse(self, raw: bytes) -> Any:
        _check_size(raw)
        parse = self._handler.request_deserializer
        if parse is None:  # the relay passes bytes on
            return raw
        try:
            return parse(raw)
        except DecodeError:
            raise ServiceError(
                Reason.MESSAGE_MALFORMED, "The request's bytes are not a message of this method."
            ) from None

    def _bytes(self, answer: Any) -> bytes:
        serialize = self._handler.response_serializer
        written: bytes = answer if serialize is None else serialize(answer)
        _check_size(written)
        return written

    async def _abort(self, servicer_context: Any, error: Exception) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        known = error if isinstance(error, ServiceError) else self._internal(error)
        self._door.note(known)
        trailers = (to_trailer(known), (REQUEST_ID_KEY, self._request_id))
        await servicer_context.abort(
            status_code(known.reason), short(known.message), trailing_metadata=trailers
        )
        raise AssertionError("abort returned")

    def _internal(self, error: Exception) -> ServiceError:
        error_id = new_request_id()
        log.error(
            "internal error",
            exc_info=error,
            extra={
                "error_id": error_id,
                "method": self._method.path if self._method else "",
                "request_id": self._request_id,
            },
        )
        return ServiceError(
            Reason.INTERNAL, f"Something went wrong on our side; the log has it as {error_id}."
        )


def _check_size(message: bytes) -> None:
    if len(message) > MESSAGE_BYTES_MAX:
        raise ServiceError(
            Reason.MESSAGE_TOO_LARGE,
            f"The message has {len(message)} bytes; the limit is {MESSAGE_BYTES_MAX}. "
            "Send less at once.",
            limit=MESSAGE_BYTES_MAX,
            got=len(message),
        )


async def _write(servicer_context: Any, message: bytes) -> None:
    try:
        async with asyncio.timeout(_UNREAD_S):
            await servicer_context.write(message)
    except TimeoutError:
        raise ServiceError(
            Reason.DEADLINE_EXCEEDED,
            f"The answer was not read for {_UNREAD_S:g} seconds.",
            limit=_UNREAD_S,
        ) from None
    except grpc.aio.InternalError:
        # The caller has gone, and grpc has not told this task yet. No fault of ours.
        raise asyncio.CancelledError from None
