"""Many calls on one stream: how one process asks another when it asks much.

A call of its own costs gRPC in Python several times what a message on an open stream does, and
messages that wait for the stream travel together. So a process keeps one stream, the trunk, to
each process that it calls, and puts unary calls on it: the gateway's hop then costs less than the
call itself. Streams, and requests that are large, keep calls of their own.

Nothing else changes. Each carried call has its own sealed context, which the door at the other end
opens and asks as ever; its own deadline, its own cancellation and its own error with all details.
Where the other end has no trunk, is about to stop, or cannot be reached, calls go as they always
have. `services.common.terminus` is the other end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import grpc
import msgspec

from services.common.context import METADATA_KEY, CallContext, Seal
from services.common.eager import begin
from services.common.errors import ServiceError
from services.common.limits import TRUNK_MESSAGE_BYTES, TRUNK_REQUEST_BYTES_MAX
from services.common.status import DETAILS_KEY, from_trailer

TRUNK_PATH = "/llmspell.internal.Trunk/Carry"
"""No method of the contract: processes of one deployment and one release speak it."""
OPENS = "trunk.open"
"""What the context holds that opens a trunk; no role has it."""

_OPENER = CallContext(tenant="", principal="relay", permissions=(OPENS,))
_OPENING_S = 60.0
"""How long such a context holds: as long as connecting may take."""
_ABSENT_S = 30.0
"""How long to send calls alone to a process that has no trunk before asking it again."""
_CLOSING_S = 2.0
"""Likewise to one that is about to stop: by then its successor is there."""

_CROWD = 4
"""While so many calls wait for answers, another one waits until the next answers come, at most"""
_GATHER_S = 0.002
"""so long: what comes meanwhile goes with it. At 64 callers that saves a third of the cost."""

Metadata = Sequence[tuple[str, str | bytes]]


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One call."""

    number: int
    path: str
    metadata: tuple[tuple[str, Any], ...]
    """Text or, of names that end in `-bin`, bytes."""
    timeout_s: float
    body: bytes


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A message to the process that is called."""

    asks: list[Ask]
    left: list[int]
    """Calls for whose answer nobody waits any more."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """An answer, or a piece of one."""

    number: int
    code: int
    """Of gRPC; 0: it was answered."""
    text: str
    """Of an error, for its caller."""
    body: bytes
    """The answer; of an error its details."""
    more: bool = False
    """Whether another piece follows."""


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """A message to the process that calls."""

    told: list[Told]
    closing: bool = False
    """Whether the process is about to stop: what was asked is still answered, but ask no more."""


_DECODE_ANSWERED = msgspec.msgpack.Decoder(Answered)
_ENCODER = msgspec.msgpack.Encoder()
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class NotCarriedError(Exception):
    """The call was not begun; send it alone."""


class Trunk:
    """The calling end. The stream is opened with the first call and again when it has ended."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._open: Any = channel.stream_stream(TRUNK_PATH)
        self._numbers = itertools.count(1)
        self._line: _Line | None = None
        self._alone_until_s = 0.0

    def takes(self, request: bytes) -> bool:
        """Whether this one is to be carried."""
        return len(request) <= TRUNK_REQUEST_BYTES_MAX and monotonic() >= self._alone_until_s

    async def call(
        self, path: str, request: bytes, metadata: Metadata, *, timeout_s: float, seal: Seal
    ) -> bytes:
        """One unary call.

        Raises:
            NotCarriedError: the other end has no trunk; nothing was done.
            ServiceError: what the other process answered; SERVICE_UNAVAILABLE where it is away.
        """
        line = self._line
        if line is None:
            line = self._line = self._opened(seal)
        return await line.ask(Ask(next(self._numbers), path, tuple(metadata), timeout_s, request))

    async def close(self) -> None:
        """End the stream and what waits on it."""
        if self._line is not None:
            await self._line.close()

    def _opened(self, seal: Seal) -> _Line:
        sealed = seal.seal(_OPENER, lifetime_s=_OPENING_S)
        return _Line(self._open(metadata=((METADATA_KEY, sealed),)), self._leave)

    def _leave(self, line: _Line, alone_s: float) -> None:
        """Put no more calls on this stream, and for a while on none."""
        if self._line is line:
            self._line = None
        if alone_s:
            self._alone_until_s = monotonic() + alone_s


@dataclass(slots=True)
class _Waiting:
    """A call that was put on the stream."""

    future: asyncio.Future[bytes]
    pieces: list[bytes] = field(default_factory=list)


class _Line:
    """One stream, from its opening to its end."""

    def __init__(self, call: Any, leave: Callable[[_Line, float], None]) -> None:
        self._call = call
        self._leave = leave
        self._waiting: dict[int, _Waiting] = {}
        self._asks: deque[Ask] = deque()
        self._left: list[int] = []
        self._heard = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._reading = asyncio.create_task(self._read())

    async def ask(self, ask: Ask) -> bytes:
        """Put a call on the stream and wait for its answer."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[ask.number] = _Waiting(future)
        self._asks.append(ask)
        self._wake()
        timer = loop.call_later(ask.timeout_s, _expire, future)
        try:
            answer: bytes = await future
        finally:
            timer.cancel()
            if self._waiting.pop(ask.number, None) is not None:  # nobody waits any more
                self._left.append(ask.number)
                self._wake()
        return answer

    async def close(self) -> None:
        """End the stream now."""
        self._call.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    def _wake(self) -> None:
        """Have what waits sent; all that comes until then goes with it."""
        if self._sending is None and not self._reading.done():
            alone = len(self._waiting) == 1
            self._sending = begin(self._send()) if alone else asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            await self._call.wait_for_connection()
            while self._asks or self._left:
                if len(self._waiting) - len(self._asks) >= _CROWD:
                    await self._gather()
                await write(self._call, self._message())
        except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            pass  # whoever reads the answers is told why
        finally:
            self._sending = None

    async def _gather(self) -> None:
        self._heard.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_S):
                await self._heard.wait()

    def _message(self) -> bytes:
        asks, size = [], 0
        while self._asks and size < TRUNK_MESSAGE_BYTES:
            ask = self._asks.popleft()
            if ask.number in self._waiting:
                asks.append(ask)
                size += len(ask.body)
        left, self._left = self._left, []
        return _ENCODER.encode(Asked(asks, left))

    async def _read(self) -> None:
        error: Exception = _away()
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._take(_DECODE_ANSWERED.decode(message))
        except grpc.aio.AioRpcError as ended:
            error = _why(ended)
        except msgspec.DecodeError:
            self._call.cancel()
        finally:
            self._end(error)

    def _take(self, answered: Answered) -> None:
        self._heard.set()
        for told in answered.told:
            waiting = self._waiting.get(told.number)
            if waiting is None:
                continue
            if told.more:
                waiting.pieces.append(told.body)
                continue
            del self._waiting[told.number]
            _answer(waiting, told)
        if answered.closing:
            self._leave(self, _CLOSING_S)
            self._finishing = asyncio.create_task(self._done_asking())

    async def _done_asking(self) -> None:
        """Let the other end finish what it was asked; it ends the stream then."""
        if self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._call.done_writing()

    def _end(self, error: Exception) -> None:
        self._leave(self, _ABSENT_S if isinstance(error, NotCarriedError) else 0.0)
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if not each.future.done():
                each.future.set_exception(_copy(error))


def _answer(waiting: _Waiting, told: Told) -> None:
    if waiting.future.done():
        return
    if told.code:
        error = from_trailer(
            _CODES.get(told.code, grpc.StatusCode.UNKNOWN), told.text, told.body or None
        )
        waiting.future.set_exception(error)
    elif waiting.pieces:
        waiting.future.set_result(b"".join((*waiting.pieces, told.body)))
    else:
        waiting.future.set_result(told.body)


def _expire(future: asyncio.Future[bytes]) -> None:
    if not future.done():
        future.set_exception(from_trailer(grpc.StatusCode.DEADLINE_EXCEEDED, "", None))


def _why(ended: grpc.aio.AioRpcError) -> Exception:
    """What those are told who waited on a stream that has ended."""
    if ended.code() == grpc.StatusCode.UNIMPLEMENTED:
        return NotCarriedError()
    details = dict(ended.trailing_metadata() or ()).get(DETAILS_KEY)
    if details is None:
        return _away()
    return from_trailer(ended.code(), ended.details() or "", details)


def _away() -> ServiceError:
    return from_trailer(grpc.StatusCode.UNAVAILABLE, "", None)


def _copy(error: Exception) -> Exception:
    """Each who waits gets an error of its own, since each adds to it."""
    if not isinstance(error, ServiceError):
        return NotCarriedError()
    copy = ServiceError(error.reason, error.message, **error.metadata)
    copy.is_passed_on = error.is_passed_on
    return copy


async def write(call: Any, message: bytes) -> None:
    """As `call.write`, which would put INTERNAL in the place of why a call has ended.

    That is grpc's issue 36066: a write that fails because the other side has ended the call
    overwrites its status.
    """
    if call.done():
        raise asyncio.InvalidStateError
    await call._cython_call.send_serialized_message(message)  # noqa: SLF001  (nothing else writes)
