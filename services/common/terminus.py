"""The called end of a trunk (`services.common.trunk`): each call on it enters by the door.

A carried call becomes a task of its own. It meets all that a call alone meets: who is calling, by
its own sealed context, what may be done, gates, places, observers, and the room for calls in
flight. Opening the stream gives nothing but the right to ask.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Any, NoReturn

import grpc
import msgspec

from services.common.access import METHODS
from services.common.context import METADATA_KEY, Seal, context_invalid, new_request_id
from services.common.door import Arrival, Door
from services.common.errors import Reason, ServiceError
from services.common.handlers import Handlers
from services.common.limits import TRUNK_MESSAGE_BYTES, TRUNK_PIECE_BYTES
from services.common.status import DETAILS_KEY, short, status_code, to_trailer
from services.common.trunk import OPENS, TRUNK_PATH, Answered, Ask, Asked, Metadata, Told

_UNREAD_S = 30.0
"""How long answers may lie unread before the stream is given up."""

_DECODE_ASKED = msgspec.msgpack.Decoder(Asked)
_ENCODER = msgspec.msgpack.Encoder()


class Terminus(grpc.GenericRpcHandler):
    """Serves trunks, with the methods that the process serves anyway."""

    def __init__(self, door: Door, seal: Seal, handlers: Handlers) -> None:
        self._door = door
        self._seal = seal
        self._handlers = handlers
        self._lines: set[_Line] = set()
        self._closing = False

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Called by grpc: the handler of the one method."""
        if handler_call_details.method != TRUNK_PATH:
            return None
        return grpc.stream_stream_rpc_method_handler(self._carry)

    def drain(self) -> None:
        """Ask the callers for no more calls; what they have asked is answered."""
        self._closing = True
        for line in self._lines:
            line.announce_end()

    async def serve(self, ask: Ask, context: CarriedCall) -> bytes:
        """One carried call.

        Raises:
            grpc.aio.AbortError: `context` has the error.
        """
        arrival = Arrival(ask.path, METHODS.get(ask.path), ask.metadata, new_request_id())
        handler = self._handlers.find(ask.path)
        unary = handler if handler is not None and handler.unary_unary else None
        call = self._door.call(arrival, unary)
        refusal = await call.admit()
        if refusal is not None:
            return await refusal(None, context)
        return await call.unary(ask.body, context)

    async def _carry(self, _: object, servicer_context: Any) -> None:
        if not self._may_open(servicer_context.invocation_metadata()):
            await _abort(servicer_context, context_invalid())
        line = _Line(self, servicer_context)
        self._lines.add(line)
        try:
            if self._closing:
                line.announce_end()
            await line.run()
        except ServiceError as error:
            await _abort(servicer_context, error)
        finally:
            self._lines.discard(line)

    def _may_open(self, metadata: Metadata) -> bool:
        sealed = [value for key, value in metadata if key == METADATA_KEY]
        if len(sealed) != 1 or not isinstance(sealed[0], bytes):
            return False
        try:
            return OPENS in self._seal.open(sealed[0]).permissions
        except ServiceError:
            return False


class CarriedCall:
    """What a handler may ask of its call, in the place of grpc's own."""

    __slots__ = ("_deadline_s", "_metadata", "_peer", "code", "details", "text")

    def __init__(self, ask: Ask, peer: str) -> None:
        self._deadline_s = monotonic() + ask.timeout_s
        self._metadata = ask.metadata
        self._peer = peer
        self.code, self.text, self.details = 0, "", b""

    def peer(self) -> str:
        """Where the stream comes from."""
        return self._peer

    def time_remaining(self) -> float:
        """Seconds until the deadline."""
        return max(self._deadline_s - monotonic(), 0.0)

    def invocation_metadata(self) -> Metadata:
        """What the caller sent with it."""
        return self._metadata

    def set_trailing_metadata(self, trailers: Metadata) -> None:
        """Nothing: the caller's door says the request id itself."""

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with an error."""
        kept = dict(trailing_metadata).get(DETAILS_KEY, b"")
        assert isinstance(kept, bytes)
        self.code, self.text, self.details = code.value[0], details, kept
        raise grpc.aio.AbortError


class _Line:
    """One stream, from its opening to its end."""

    def __init__(self, terminus: Terminus, servicer_context: Any) -> None:
        self._terminus = terminus
        self._context = servicer_context
        self._peer: str = servicer_context.peer()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._told: deque[Told] = deque()
        self._closing = False
        self._sending: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve what is asked until the caller asks no more.

        Raises:
            ServiceError: MESSAGE_MALFORMED; DEADLINE_EXCEEDED where answers were not read.
        """
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait({reading, self._broken}, return_when=asyncio.FIRST_COMPLETED)
            for each in (self._broken, reading):
                if each.done():
                    each.result()
        finally:
            left = [reading, *self._tasks.values(), *((self._sending,) if self._sending else ())]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._broken.cancel()

    def announce_end(self) -> None:
        """Tell the caller to ask no more."""
        self._closing = True
        self._wake()

    async def _read(self) -> None:
        while (message := await self._context.read()) is not grpc.aio.EOF:
            try:
                asked = _DECODE_ASKED.decode(message)
            except msgspec.DecodeError:
                text = "The bytes are no message of a trunk."
                raise ServiceError(Reason.MESSAGE_MALFORMED, text) from None
            for ask in asked.asks:
                task = asyncio.create_task(self._serve(ask))
                self._tasks[ask.number] = task
            for number in asked.left:
                if (one := self._tasks.get(number)) is not None:
                    one.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._sending is not None:
            await self._sending

    async def _serve(self, ask: Ask) -> None:
        context = CarriedCall(ask, self._peer)
        task = self._tasks[ask.number]
        timer = asyncio.get_running_loop().call_later(ask.timeout_s, task.cancel)
        try:
            body = await self._terminus.serve(ask, context)
            told = Told(ask.number, 0, "", body)
        except grpc.aio.AbortError:
            told = Told(ask.number, context.code, context.text, context.details)
        finally:
            timer.cancel()
            self._tasks.pop(ask.number, None)
        self._told.append(told)
        if self._tasks or self._sending is not None:
            self._wake()
        elif not self._broken.done():  # it is alone: nothing could go with it
            self._sending = task
            await self._send()

    def _wake(self) -> None:
        """Have what waits sent; all that comes until then goes with it."""
        if self._sending is None and not self._broken.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._told or self._closing:
                async with asyncio.timeout(_UNREAD_S):
                    await self._context.write(self._message())
        except TimeoutError:
            text = f"Answers were not read for {_UNREAD_S:g} seconds."
            self._break(ServiceError(Reason.DEADLINE_EXCEEDED, text, limit=_UNREAD_S))
        except grpc.aio.InternalError as error:  # the caller has gone
            self._break(error)
        finally:
            self._sending = None

    def _break(self, error: Exception) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)

    def _message(self) -> bytes:
        """What waits, large answers a piece at a time, so that small ones pass them."""
        told: list[Told] = []
        size = 0
        while self._told and size < TRUNK_MESSAGE_BYTES:
            one = self._told.popleft()
            if len(one.body) > TRUNK_PIECE_BYTES:
                rest = msgspec.structs.replace(one, body=one.body[TRUNK_PIECE_BYTES:])
                self._told.append(rest)
                one = msgspec.structs.replace(one, body=one.body[:TRUNK_PIECE_BYTES], more=True)
            told.append(one)
            size += len(one.body)
        closing, self._closing = self._closing, False
        return _ENCODER.encode(Answered(told, closing))


async def _abort(servicer_context: Any, error: ServiceError) -> NoReturn:
    await servicer_context.abort(
        status_code(error.reason), short(error.message), trailing_metadata=(to_trailer(error),)
    )
    raise AssertionError("abort returned")
