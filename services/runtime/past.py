"""What the journal of a run says, from its reader's side."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
from google.protobuf.message import DecodeError
from llmspell.v1 import journal_pb2, run_pb2

from services.common.access import METHODS
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import DEADLINE_SECONDS_MAX, FRAME_BYTES_MAX, FRAME_DEPTH_MAX
from services.common.policy import limits_scopes
from services.common.relay import Relay
from services.common.run_entries import (
    RUN_BEGIN,
    RUN_CALL,
    RUN_CUT,
    RUN_END,
    RUN_INTENT,
    RUN_OUTPUT,
    RUN_PREFIX,
    RUN_READINGS,
    RUN_RESUME,
    RUN_SOURCE,
)
from services.runtime.frames import FrameError, check_tree

_SEEDS = 2
_READ = METHODS["/llmspell.v1.JournalService/ReadJournal"]


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call that was made."""

    method: str
    request: bytes
    """See `RUN_CALL`."""
    payload: bytes
    """What the script was given."""
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class Past:
    """A run as its journal has it."""

    begin: run_pb2.RunBegin
    source: bytes = b""
    calls: list[PastCall] = field(default_factory=list)
    asked: bytearray = field(default_factory=bytearray)
    """A letter for each reading."""
    told: list[int] = field(default_factory=list)
    output: bytearray = field(default_factory=bytearray)
    end: run_pb2.RunEnd | None = None
    """None where it was lost with its process."""
    intents: dict[int, str] = field(default_factory=dict)
    """Calls that must not be made twice: number → method."""
    is_cut: bool = False
    """Whether it was too much to keep."""
    entry_count: int = 0
    last_ns: int = 0
    """When the last entry was made."""

    def add(self, entry: journal_pb2.JournalEntry) -> None:
        """Take in the next entry."""
        self.entry_count = entry.sequence
        method = entry.method
        if method != RUN_RESUME:  # which does not say that all before it was kept
            self.last_ns = entry.end_time.ToNanoseconds()
        if method.startswith(RUN_CALL):
            start_ns = entry.start_time.ToNanoseconds()
            name = method.removeprefix(RUN_CALL)
            _check(entry.request)
            _check(entry.answer[1:])
            call = PastCall(name, entry.request, entry.answer, start_ns, self.last_ns)
            self.calls.append(call)
        elif method.startswith(RUN_INTENT):
            number = msgspec.msgpack.decode(entry.request, type=int)
            self.intents[number] = method.removeprefix(RUN_INTENT)
        elif method == RUN_READINGS:
            self.asked += entry.request
            self.told += struct.unpack(f"<{len(entry.request)}q", entry.answer)
        elif method == RUN_OUTPUT:
            self.output += entry.answer
        elif method == RUN_SOURCE:
            self.source = entry.request
        elif method == RUN_END:
            self.end = run_pb2.RunEnd.FromString(entry.request)
        elif method == RUN_RESUME:
            self.end = None
        self.is_cut |= method == RUN_CUT


def _check(tree: bytes) -> None:
    """Refuse what would build something deep or odd.

    Raises:
        FrameError: see `check_tree`.
    """
    check_tree(tree, depth_max=FRAME_DEPTH_MAX + 2, nodes_max=FRAME_BYTES_MAX)


async def read_past(relay: Relay, context: CallContext, run_id: str) -> Past:
    """The journal of a run.

    Raises:
        ServiceError: RUN_NOT_FOUND, also of what is no journal of a run; PERMISSION_DENIED for a
            caller that sees some records only; what the state process answers.
    """
    if context.row_filter or limits_scopes(context.policy):
        raise ServiceError(
            Reason.PERMISSION_DENIED,
            "This key sees some records only; a journal has what runs of other keys have seen.",
        )
    past: Past | None = None
    async with aclosing(_entries(relay, context, run_id)) as entries:
        async for entry in entries:
            if past is None and entry.method != RUN_BEGIN:
                raise run_not_found(run_id)
            # Whoever may write journals may have written this one, so its shape is not trusted.
            try:
                past = past or Past(run_pb2.RunBegin.FromString(entry.request))
                past.add(entry)
            except (DecodeError, FrameError, msgspec.DecodeError, struct.error):
                raise run_not_found(run_id) from None
    if past is None or len(past.begin.seeds) != _SEEDS:
        raise run_not_found(run_id)
    return past


async def _entries(
    relay: Relay, context: CallContext, run_id: str
) -> AsyncGenerator[journal_pb2.JournalEntry, None]:
    check_run_id(run_id)
    reader = context.housekeeping("journal.read")
    request = journal_pb2.ReadJournalRequest(session_id=run_id).SerializeToString()
    answers = relay.stream(_READ, request, reader, timeout_s=DEADLINE_SECONDS_MAX)
    async with aclosing(answers):
        async for answer in answers:
            for entry in journal_pb2.ReadJournalResponse.FromString(answer).entries:
                yield entry


def check_run_id(run_id: str) -> None:
    """Refuse what is no run's id.

    Raises:
        ServiceError: RUN_NOT_FOUND.
    """
    rest = run_id.removeprefix(RUN_PREFIX)
    if rest == run_id or not rest.isalnum() or not rest.isascii() or len(run_id) > 64:  # noqa: PLR2004
        raise run_not_found(run_id)


def run_not_found(run_id: str) -> ServiceError:
    """No journal of that run is kept, or it is another tenant's."""
    return ServiceError(
        Reason.RUN_NOT_FOUND, f"No journal of a run {run_id[:80]!r} is kept.", run_id=run_id[:80]
    )
