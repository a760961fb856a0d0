"""Where a call enters a process: one interceptor, the same in all four.

In this order, and the order matters: room is taken first (a flood must not cost a signature check
each), then who is calling, then whether it may; all this before a byte of the message is taken in,
so that a stranger costs no memory. Then the bytes are parsed and the handler runs. Whatever is
raised on the way becomes one status. Only how the caller is known differs: the gateway
reads a key, the others open a sealed context.

What a process adds has three forms. A *gate* is asked, after the caller is known, whether the call
may go on, and may narrow its context. A *place* is entered around the handler: what it holds it
gives back however the call ends, and what it does at its end is done before the answer goes out. An
*observer* is told how each call has ended, refused ones too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from services.common.access import METHODS, OPEN_PREFIX, REFLECTION, Method, decide
from services.common.call_spans import begin_span, end_span
from services.common.context import (
    METADATA_KEY,
    REQUEST_ID_KEY,
    CallContext,
    Seal,
    context_invalid,
    new_request_id,
    set_context,
)
from services.common.errors import Reason, ServiceError, reason_name
from services.common.pace import Pace
from services.common.peers import PeerUnseenError, names_shown
from services.common.scope_guard import guarded
from services.common.status import short, status_code, to_trailer
from services.common.telemetry import Counts
from services.common.tracing import Span
from services.common.trunk import TRUNK_PATH
from services.common.wire import check_size, write

log = logging.getLogger(__name__)

_SETTLE_S = 0.005
"""For a moment a call that its caller has cancelled looks as if its messages had ended. An upload
that was cut off must not be kept for a whole one."""

_HEAD_BYTES = 4096
"""So much of a call's message is kept while it lasts."""

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


@dataclass(slots=True)
class Arrival:
    """One call, from its arrival to its end."""

    path: str
    """As on the wire; nothing that the contract knows where `method` is None."""
    method: Method | None
    metadata: Metadata
    request_id: str
    context: CallContext | None = None
    """Who is calling; None until that is known. A gate may put a narrower one here."""
    peer: str = ""
    """Where it comes from, as grpc writes it; empty until its handler runs."""
    begin_s: float = field(default_factory=monotonic)
    """On the monotonic clock."""
    deadline_s: float | None = None
    """Likewise; None where the caller set none, or before its handler runs."""
    message: bytes = b""
    """The beginning of its first message; empty until that is there."""
    is_audited: bool = False
    """Whether the audit log has it already."""
    request_bytes: int = 0
    """Taken in so far."""
    response_bytes: int = 0
    """Given out so far."""
    counted: Sequence[Any] = ()
    """What a gate has counted it in, for the case that it turns out not to count."""
    span: Span | None = None
    """What it is in its trace; None until its handler runs."""

    @property
    def caller(self) -> CallContext:
        """Who is calling; gates and places are asked once that is known."""
        assert self.context is not None
        return self.context


@dataclass(frozen=True, slots=True)
class End:
    """How a call has ended."""

    error: ServiceError | None
    """None: it was answered. Of a caller that went away: `is_cancelled`."""
    elapsed_s: float
    is_cancelled: bool = False


class Gate(Protocol):
    """Decides whether a call may go on; asked before its bytes are read."""

    async def __call__(self, arrival: Arrival) -> None:
        """Let it through; holds nothing, since a caller may go before the handler runs.

        Raises:
            ServiceError: why not.
        """


class Place(Protocol):
    """Stands around the handler of a call."""

    def __call__(self, arrival: Arrival) -> AbstractAsyncContextManager[None]:
        """Entered when the message is there, left before the answer goes out."""


class Observer(Protocol):
    """Is told of calls."""

    def __call__(self, arrival: Arrival, end: End) -> None:
        """A call has ended. Must not wait and must not raise."""


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
    """The interceptor. Health passes; every other method needs an identity, reflection too."""

    def __init__(
        self,
        identify: Identify,
        counts: Counts,
        *,
        calls_at_once: int,
        gates: Sequence[Gate] = (),
        places: Sequence[Place] = (),
        observers: Sequence[Observer] = (),
        pace: Pace | None = None,
    ) -> None:
        """Gates are asked and places entered in this order; `pace` is that of refusals."""
        self._pace = pace
        self._identify = identify
        self._counts = counts
        self._calls_at_once = calls_at_once
        self._gates = gates
        self._places = places
        self._observers = observers

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
        if handler is None or path.startswith(OPEN_PREFIX) or path == TRUNK_PATH:
            return handler
        if path == REFLECTION.path:
            return await self._described(handler, handler_call_details)
        method = METHODS.get(path)
        self._counts.begin(path if method else "")
        metadata = handler_call_details.invocation_metadata
        call = Call(self, Arrival(path, method, metadata, new_request_id()), handler)
        refusal = await call.admit()
        if refusal is not None:
            return grpc.stream_unary_rpc_method_handler(refusal)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(call.exchange)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(call.stream)
        return grpc.unary_unary_rpc_method_handler(call.unary)

    async def _described(
        self, handler: Any, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Reflection: for callers that are known, and no more than a look at the contract."""
        self._counts.begin("")
        arrival = Arrival("", REFLECTION, details.invocation_metadata, new_request_id())
        refusal = await Call(self, arrival, handler).admit(gated=False)
        arrival.method = None  # of the contract it is none, for those who are told of calls
        return handler if refusal is None else grpc.stream_unary_rpc_method_handler(refusal)

    def call(self, arrival: Arrival, handler: grpc.RpcMethodHandler[Any, Any] | None) -> Call:
        """One that does not come by gRPC's own way; `handler` None: it is not offered."""
        if handler is None:
            arrival.method = None
        self._counts.begin(arrival.path if arrival.method else "")
        return Call(self, arrival, handler)

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

    async def enter(self, arrival: Arrival, *, gated: bool = True) -> None:
        """Know the caller and decide; `gated`: ask the gates too."""
        method = arrival.method
        if method is None:
            raise ServiceError(Reason.NOT_IMPLEMENTED, "The method is not offered.")
        context = await self._identify(arrival.metadata, method)
        arrival.context, arrival.request_id = context, context.request_id
        decide(context, method)
        for gate in self._gates if gated else ():
            await gate(arrival)

    async def take_places(self, arrival: Arrival, stack: AsyncExitStack) -> None:
        """Enter all that stands around the handler of a call."""
        for place in self._places:
            await stack.enter_async_context(place(arrival))

    def observe(self, arrival: Arrival, error: ServiceError | None, *, cancelled: bool) -> None:
        """Tell those who want to know."""
        if self._pace is not None and error is None:
            self._pace.count_served()
        if self._observers:
            end = End(error, monotonic() - arrival.begin_s, cancelled)
            for observer in self._observers:
                observer(arrival, end)

    async def wait_to_refuse(self, arrival: Arrival) -> None:
        """Let a refusal wait where its caller has had many; it holds no place meanwhile."""
        if self._pace is None:
            return
        wait_s = self._pace.wait_s(arrival.context.tenant if arrival.context else "")
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def note(self, error: ServiceError) -> None:
        """Count a call that failed for our own reasons; remember damage that it met."""
        self._counts.internal_errors += error.reason == Reason.INTERNAL
        self._counts.damages.note_error(error)


class Call:
    """One call on its way through the door.

    Takes and gives bytes, so that what cannot be read or written becomes a status here, and not a
    text of grpc's.
    """

    def __init__(self, door: Door, arrival: Arrival, handler: Any) -> None:
        self._door = door
        self._arrival = arrival
        self._handler = handler
        self._has_guarded = False

    async def admit(self, *, gated: bool = True) -> Callable[[Any, Any], Awaitable[bytes]] | None:
        """Know the caller and decide; None where it may go on.

        Otherwise what answers the refusal, as a handler that never asks for the message.
        """
        try:
            with self._door.room():
                await self._door.enter(self._arrival, gated=gated)
        except PeerUnseenError as error:  # known when the handler runs, and then asked again
            return None if gated else partial(self._refuse, error)
        except Exception as error:  # noqa: BLE001  (every error becomes a status)
            return partial(self._refuse, error)
        return None

    async def _refuse(self, error: Exception, messages: Any, servicer_context: Any) -> bytes:
        del messages
        self._arrival.peer = servicer_context.peer()
        try:
            await self._door.wait_to_refuse(self._arrival)
        except asyncio.CancelledError:  # its caller has gone meanwhile
            self._tell(error if isinstance(error, ServiceError) else None, cancelled=True)
            raise
        await self._abort(servicer_context, error)

    def _tell(self, error: ServiceError | None, *, cancelled: bool = False) -> None:
        """One line a call in each process, where the log is to have all; no payload is in it."""
        arrival = self._arrival
        self._door.observe(arrival, error, cancelled=cancelled)
        if arrival.span is not None:
            end_span(arrival, arrival.span, error, cancelled=cancelled)
        if log.isEnabledFor(logging.DEBUG):
            code = "OK" if error is None else reason_name(error.reason)
            told = {"method": arrival.method.path if arrival.method else ""}
            told["code"] = "CANCELLED" if cancelled else code
            if arrival.context is not None:
                told["tenant"] = arrival.context.tenant
            log.debug("call", extra=told | {"request_id": arrival.request_id})

    @asynccontextmanager
    async def _served(self, servicer_context: Any) -> AsyncIterator[None]:
        """Around the handler: every error becomes a status here, and every end is told."""
        try:
            await self._begin(servicer_context)
            with self._door.room():
                async with AsyncExitStack() as stack:
                    await self._door.take_places(self._arrival, stack)
                    yield
        except asyncio.CancelledError:
            self._tell(None, cancelled=True)
            raise
        except Exception as error:  # noqa: BLE001  (every error becomes a status here)
            await self._abort(servicer_context, error)
        else:
            self._tell(None)

    async def unary(self, raw: bytes, servicer_context: Any) -> bytes:
        """The answer to one message."""
        self._arrival.message = raw[:_HEAD_BYTES]
        async with self._served(servicer_context):
            request = self._parse(raw)
            answer = await self._handler.unary_unary(request, servicer_context)
            written = self._bytes(answer)
        return written  # noqa: RET504  (what goes out when all that stood around it has ended)

    async def stream(self, raw: bytes, servicer_context: Any) -> None:
        """Writes instead of yielding.

        A caller that goes away is then noticed in this frame, and the place among the calls in
        flight does not wait for the garbage collector.
        """
        self._arrival.message = raw[:_HEAD_BYTES]
        async with self._served(servicer_context):
            answers = self._handler.unary_stream(self._parse(raw), servicer_context)
            async with aclosing(answers):
                async for answer in answers:
                    await write(servicer_context, self._bytes(answer))

    async def exchange(self, messages: Any, servicer_context: Any) -> None:
        """A stream in both directions.

        A message is read when the handler asks for it, and the handler goes on when its answer was
        taken: a caller who leaves answers unread is not read from either.
        """
        async with self._served(servicer_context):
            requests = self._requests(messages)
            answers = self._handler.stream_stream(requests, servicer_context)
            async with aclosing(requests), aclosing(answers):
                async for answer in answers:
                    await write(servicer_context, self._bytes(answer))

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

    async def _begin(self, servicer_context: Any) -> None:
        arrival = self._arrival
        arrival.peer = servicer_context.peer()
        if arrival.context is None:
            arrival.metadata = (*arrival.metadata, *names_shown(servicer_context))
            await self._door.enter(arrival)
        remaining_s = servicer_context.time_remaining()
        if remaining_s is not None:
            arrival.deadline_s = monotonic() + remaining_s
        set_context(arrival.caller)
        arrival.span = begin_span(arrival)
        servicer_context.set_trailing_metadata(((REQUEST_ID_KEY, arrival.request_id),))

    def _parse(self, raw: bytes) -> Any:
        self._arrival.message = self._arrival.message or raw[:_HEAD_BYTES]
        self._arrival.request_bytes += len(raw)
        check_size(raw)
        parse = self._handler.request_deserializer
        if parse is None:  # the relay passes bytes on
            return raw
        try:
            message = parse(raw)
        except DecodeError:
            raise ServiceError(
                Reason.MESSAGE_MALFORMED, "The request's bytes are not a message of this method."
            ) from None
        if self._arrival.caller.policy:
            self._guard(message)
        return message

    def _guard(self, message: Any) -> None:
        """Look at what a message names, where policies limit that."""
        arrival = self._arrival
        assert arrival.method is not None
        context = guarded(arrival.caller, arrival.method, message, first=not self._has_guarded)
        self._has_guarded = True
        if context is not arrival.caller:
            set_context(context)

    def _bytes(self, answer: Any) -> bytes:
        serialize = self._handler.response_serializer
        written: bytes = answer if serialize is None else serialize(answer)
        check_size(written)
        self._arrival.response_bytes += len(written)
        return written

    async def _abort(self, servicer_context: Any, error: Exception) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        known = error if isinstance(error, ServiceError) else self._internal(error)
        self._door.note(known)
        self._tell(known)
        trailers = (to_trailer(known), (REQUEST_ID_KEY, self._arrival.request_id))
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
                "method": self._arrival.method.path if self._arrival.method else "",
                "request_id": self._arrival.request_id,
            },
        )
        return ServiceError(
            Reason.INTERNAL, f"Something went wrong on our side; the log has it as {error_id}."
        )
