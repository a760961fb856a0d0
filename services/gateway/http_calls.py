"""Calls by HTTP: Connect with JSON or binary messages, and gRPC-Web, for curl and for browsers.

connectrpc reads and writes the protocols. A call then meets the gateway's own door, with the same
handlers behind it as a call by gRPC: nothing is decided here. Who is calling is asked before a byte
of the message is read. Methods that take a stream are not offered; they need gRPC.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any, NoReturn

import grpc
from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.interceptor import MetadataInterceptor
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from protobuf.wkt import Any as WireAny
from protobuf.wkt import Struct

from services.common.access import METHODS, Method
from services.common.context import REQUEST_ID_KEY, new_request_id
from services.common.door import Arrival, Call, Door, Metadata
from services.common.errors import Reason, ServiceError
from services.common.handlers import Handlers
from services.common.limits import HTTP_BODY_BYTES_MAX
from services.common.status import DETAILS_KEY, short, status_code, to_trailer

_CODES = {
    code.value[0]: Code(code.name.lower())
    for code in grpc.StatusCode
    if code.value[0] not in {0, 1}
}
_CODES[1] = Code.CANCELED
_OWN_REASONS = {
    Code.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    Code.CANCELED: Reason.CANCELLED,
    Code.INVALID_ARGUMENT: Reason.MESSAGE_MALFORMED,
    Code.UNIMPLEMENTED: Reason.MESSAGE_MALFORMED,
    Code.RESOURCE_EXHAUSTED: Reason.MESSAGE_TOO_LARGE,
}
"""Of what connectrpc finds wrong before a call is one."""


def application(door: Door, handlers: Handlers) -> ConnectASGIApplication[None]:
    """All methods of the contract that a call by HTTP may have, behind the door."""
    methods = [method for method in METHODS.values() if not method.request_streams]
    return _Application(
        service=None,
        endpoints=lambda _: {method.path: _endpoint(method) for method in methods},
        interceptors=(_Entrance(door, handlers),),
        read_max_bytes=HTTP_BODY_BYTES_MAX,
        compressions=(),
        codecs=(_Binary(), _Json()),
    )


class _Application(ConnectASGIApplication[None]):
    @property
    def path(self) -> str:
        """Where it is mounted."""
        return "/"


class HttpCall:
    """What a handler may ask of its call, in the place of grpc's own."""

    def __init__(self, request: RequestContext[Any, Any]) -> None:
        self._request = request
        left_ms = request.timeout_ms
        self._deadline_s = None if left_ms is None else monotonic() + left_ms / 1000
        self.error: ConnectError | None = None
        self.answers: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        """Of a method that answers with a stream; None is its end."""

    def peer(self) -> str:
        """Where it comes from, as grpc writes it."""
        address = self._request.client_address or ""
        kind = "ipv6" if address.count(":") > 1 else "ipv4"
        return f"{kind}:{address}" if address else "http"

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None where the caller set none."""
        return None if self._deadline_s is None else max(self._deadline_s - monotonic(), 0.0)

    def invocation_metadata(self) -> Metadata:
        """The headers."""
        return metadata_of(self._request)

    def set_trailing_metadata(self, trailers: Metadata) -> None:
        """Tell the caller the request id."""
        for name, value in trailers:
            if name == REQUEST_ID_KEY:
                self._request.response_headers[name] = str(value)

    async def write(self, message: bytes) -> None:
        """One message of a stream, once the one before it was taken."""
        await self.answers.put(message)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with an error."""
        self.set_trailing_metadata(trailing_metadata)
        packed = dict(trailing_metadata).get(DETAILS_KEY, b"")
        assert isinstance(packed, bytes)
        self.error = _told(code.value[0], details, packed)
        raise grpc.aio.AbortError


def metadata_of(request: RequestContext[Any, Any]) -> Metadata:
    """The headers of a request as metadata of a call; no header is binary."""
    headers = request.request_headers.allitems()
    return tuple((name, value) for name, value in headers if not name.endswith("-bin"))


@dataclass(frozen=True, slots=True)
class _Visit:
    """A call that may go on, until its message is there."""

    call: Call
    context: HttpCall


_visit: ContextVar[_Visit] = ContextVar("http_visit")


class _Entrance(MetadataInterceptor[None]):
    """Asks the door before the message is read."""

    def __init__(self, door: Door, handlers: Handlers) -> None:
        self._door = door
        self._handlers = handlers

    async def on_start(self, ctx: RequestContext[Any, Any]) -> None:
        """Let the call through, or raise why not."""
        path = f"/{ctx.method.service_name}/{ctx.method.name}"
        arrival = Arrival(path, METHODS.get(path), metadata_of(ctx), new_request_id())
        call, context = self._door.call(arrival, self._handlers.find(path)), HttpCall(ctx)
        refusal = await call.admit()
        if refusal is not None:
            await _outcome(context, refusal(None, context))
        _visit.set(_Visit(call, context))

    async def on_end(
        self, token: None, ctx: RequestContext[Any, Any], error: Exception | None, /
    ) -> None:
        """Give errors that connectrpc has found a reason, as all others have."""
        del token, ctx
        reason = _OWN_REASONS.get(error.code) if isinstance(error, ConnectError) else None
        if isinstance(error, ConnectError) and reason is not None and not error.details:
            raise refused(ServiceError(reason, f"{error.message}."))


def _endpoint(method: Method) -> Any:
    asked = GetMessageClass(method.descriptor.input_type)
    answered = GetMessageClass(method.descriptor.output_type)
    info = MethodInfo(
        name=method.descriptor.name,
        service_name=method.service,
        input=asked,
        output=answered,
        # A request in a URL would lie in logs; everything is POST.
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.SERVER_STREAM if method.streams else StreamType.UNARY,
    )

    async def unary(request: Message, _: RequestContext[Any, Any]) -> Message:
        visit = _visit.get()
        raw = request.SerializeToString()
        answer = await _outcome(visit.context, visit.call.unary(raw, visit.context))
        return answered.FromString(answer)

    async def stream(request: Message, _: RequestContext[Any, Any]) -> AsyncGenerator[Message]:
        visit = _visit.get()
        served = asyncio.create_task(_streamed(visit, request.SerializeToString()))
        try:
            while (answer := await visit.context.answers.get()) is not None:
                yield answered.FromString(answer)
            await served
        finally:
            served.cancel()
            await asyncio.gather(served, return_exceptions=True)

    return Endpoint.server_stream(info, stream) if method.streams else Endpoint.unary(info, unary)


async def _streamed(visit: _Visit, raw: bytes) -> None:
    try:
        await _outcome(visit.context, visit.call.stream(raw, visit.context))
    finally:
        if not _is_cancelling():
            await visit.context.answers.put(None)


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _outcome(context: HttpCall, served: Awaitable[Any]) -> Any:
    """What came of a call.

    Raises:
        ConnectError: what the door has told.
    """
    try:
        return await served
    except grpc.aio.AbortError:
        assert context.error is not None
        raise context.error from None


class _Told(ErrorDetail):
    """One detail of an error; in JSON it can be read without knowing its message."""

    def __init__(self, packed: Any) -> None:
        super().__init__(WireAny(type_url=packed.type_url, value=packed.value))
        info = error_details_pb2.ErrorInfo()
        shown = json_format.MessageToDict(info) if packed.Unpack(info) else None
        self._shown = None if shown is None else Struct.from_json(json.dumps(shown))

    def value(self, *_: object) -> Any:
        """For the field `debug`."""
        return self._shown


def _told(code: int, text: str, packed: bytes) -> ConnectError:
    details = status_pb2.Status.FromString(packed).details
    return ConnectError(_CODES[code], text, [_Told(each) for each in details])


def refused(error: ServiceError) -> ConnectError:
    """An error of ours that is no call's."""
    _, packed = to_trailer(error)
    return _told(status_code(error.reason).value[0], short(error.message), packed)


class _Binary(Codec[Message, Message]):
    """Messages as protobuf writes them."""

    def name(self) -> str:
        """In content types."""
        return "proto"

    def encode(self, message: Message) -> bytes:
        """Written."""
        return message.SerializeToString()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        """Read.

        Raises:
            ConnectError: MESSAGE_MALFORMED.
        """
        try:
            return message_class.FromString(bytes(data))
        except DecodeError:
            raise refused(
                ServiceError(
                    Reason.MESSAGE_MALFORMED,
                    "The request's bytes are not a message of this method.",
                )
            ) from None


class _Json(Codec[Message, Message]):
    """Messages as JSON in protobuf's own form; a field that there is not is an error."""

    def name(self) -> str:
        """In content types."""
        return "json"

    def encode(self, message: Message) -> bytes:
        """Written."""
        return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        """Read.

        Raises:
            ConnectError: MESSAGE_MALFORMED, with what is wrong with it.
        """
        try:
            return json_format.Parse(bytes(data) or b"{}", message_class())
        except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
            why = str(error).splitlines()[0][:300]
            text = f"The request is no JSON of {message_class.DESCRIPTOR.name}: {why}"
            raise refused(ServiceError(Reason.MESSAGE_MALFORMED, text, why=why)) from None
