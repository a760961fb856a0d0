"""What is written to a run's journal: gathered, and appended behind the run's back.

Adding to the book costs no call. What was gathered goes to the state process some moments later,
or at once where somebody must know that it is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from llmspell.v1 import journal_pb2

from services.common import limits
from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError, reason_name
from services.common.relay import Relay
from services.common.run_entries import RUN_CUT, RUN_END, RUN_OUTPUT, RUN_READINGS

log = logging.getLogger(__name__)

_APPEND = METHODS["/llmspell.v1.JournalService/AppendJournal"]
_BEHIND_S = 0.5
"""How long what was gathered may wait."""
_GATHERED_BYTES_MAX = 2 * limits.MIB
"""Beyond it a call waits until it is written."""
_BATCH_BYTES_MAX = limits.JOURNAL_BATCH_BYTES_MAX - limits.MIB
_TRY_S = 15.0
_PAUSE_S = 0.1
_PASSING = frozenset(
    {
        Reason.SERVICE_UNAVAILABLE,
        Reason.DEADLINE_EXCEEDED,
        Reason.OVERLOADED,
        Reason.TENANT_RESTORING,
    }
)


class Book:
    """The journal of one run, from its writer's side."""

    def __init__(
        self, relay: Relay, context: CallContext, run_id: str, clock: Clock, *, written: int = 0
    ) -> None:
        """`written`: how many entries the journal has already."""
        self._relay = relay
        self._context = context.housekeeping("journal.write")
        self._run_id = run_id
        self._clock = clock
        self._sequence = written
        self._pending: list[journal_pb2.JournalEntry] = []
        self._pending_bytes = 0
        self._total_bytes = 0
        self._asked, self._told = bytearray(), bytearray()
        self._printed = bytearray()
        self._written, self._firm = written, written
        self._writing = asyncio.Lock()
        self._behind: asyncio.Task[None] | None = None
        self._cut = False

    def note(
        self,
        method: str,
        request: bytes,
        answer: bytes = b"",
        *,
        start_ns: int = 0,
        is_firm: bool = True,
    ) -> None:
        """Add an entry.

        Args:
            method: See `services.common.run_entries`.
            request: What was asked.
            answer: What came back.
            start_ns: When it was made, in nanoseconds since 1970; 0: now.
            is_firm: Whether it could not be had again, and so must be on disk before the run writes
                anything.
        """
        self._close_readings()
        self._add(method, request, answer, start_ns)
        if is_firm:
            self._firm = self._sequence
        self._write_later()

    def note_reading(self, asked: bytes, told: int) -> None:
        """Add what was told of time or memory."""
        if not self._cut:
            self._asked += asked[:1]
            self._told += told.to_bytes(8, "little", signed=True)
            self._write_later()

    def note_output(self, data: bytes) -> None:
        """Add what was printed. It follows from all else, so that it is in no hurry."""
        if not self._cut:
            self._printed += data
            self._write_later()

    async def keep_firm(self) -> None:
        """Wait until all is on disk that could not be had again.

        Raises:
            ServiceError: RUN_JOURNAL_LOST; TENANT_LIMIT_REACHED.
        """
        if self._asked or self._firm > self._written or self._pending_bytes > _GATHERED_BYTES_MAX:
            await self.write()

    async def write(self) -> None:
        """Write all that was gathered.

        Raises:
            ServiceError: likewise.
        """
        async with self._writing:
            self._close_readings()
            if self._printed:
                printed, self._printed = bytes(self._printed), bytearray()
                self._add(RUN_OUTPUT, b"", printed, 0)
            # What is noted while this goes on is the next writer's.
            await self._append(len(self._pending))

    def stop(self) -> None:
        """Write nothing more behind the run's back."""
        if self._behind is not None:
            self._behind.cancel()
            self._behind = None

    def _add(self, method: str, request: bytes, answer: bytes, start_ns: int) -> None:
        if self._cut and method != RUN_END:
            return
        size = len(request) + len(answer)
        self._total_bytes += size
        if self._total_bytes > limits.RUN_JOURNAL_BYTES_MAX and method != RUN_END:
            self._cut, method, request, answer = True, RUN_CUT, b"", b""
        self._sequence += 1
        now_ns = self._clock.now_ns()
        entry = journal_pb2.JournalEntry(
            sequence=self._sequence,
            method=method,
            request=request,
            answer=answer,
            correlation_id=self._context.request_id,
        )
        entry.end_time.FromNanoseconds(now_ns)
        entry.start_time.FromNanoseconds(min(start_ns or now_ns, now_ns))
        self._pending.append(entry)
        self._pending_bytes += size

    def _close_readings(self) -> None:
        """What was told before a call stands before it: a write must not outlive it."""
        if self._asked:
            asked, self._asked = bytes(self._asked), bytearray()
            told, self._told = bytes(self._told), bytearray()
            self._add(RUN_READINGS, asked, told, 0)

    def _write_later(self) -> None:
        if self._behind is None:
            self._behind = asyncio.create_task(self._write_behind())

    async def _write_behind(self) -> None:
        await asyncio.sleep(_BEHIND_S)
        self._behind = None
        # Whoever must know that it is written tries again, and has the reason.
        with contextlib.suppress(ServiceError):
            await self.write()

    async def _append(self, count: int) -> None:
        while count:
            batch = _first(self._pending[:count])
            request = journal_pb2.AppendJournalRequest(session_id=self._run_id, entries=batch)
            await self._send(request.SerializeToString())
            self._written = batch[-1].sequence
            del self._pending[: len(batch)]
            self._pending_bytes -= sum(_size(entry) for entry in batch)
            count -= len(batch)

    async def _send(self, request: bytes) -> None:
        deadline = self._clock.monotonic() + _TRY_S
        while True:
            try:
                await self._relay.call(
                    _APPEND, request, self._context, timeout_s=limits.DEADLINE_SECONDS_DEFAULT
                )
            except ServiceError as error:
                if error.reason not in _PASSING:
                    raise _lost(error) from None
                if self._clock.monotonic() > deadline:
                    raise _lost(error) from None
                await asyncio.sleep(_PAUSE_S)
            else:
                return


def _lost(error: ServiceError) -> ServiceError:
    if error.reason == Reason.TENANT_LIMIT_REACHED:
        return error
    log.warning("a run's journal was lost", extra={"why": error.message})
    return ServiceError(
        Reason.RUN_JOURNAL_LOST,
        "The run was ended, since its journal could not be written; resume it later.",
        cause=reason_name(error.reason),
    )


def _first(entries: Sequence[Any]) -> list[Any]:
    """As many as go into one call, and one at least."""
    batch: list[Any] = []
    size = 0
    for entry in entries[: limits.JOURNAL_BATCH_MAX]:
        size += _size(entry)
        if batch and size > _BATCH_BYTES_MAX:
            break
        batch.append(entry)
    return batch


def _size(entry: Any) -> int:
    return len(entry.request) + len(entry.answer)
