"""JournalService: messages to values, one call of the engine, values to messages."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator

from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import journal_pb2, journal_pb2_grpc

from services.common.context import current_context, current_tenant
from services.common.errors import Reason, ServiceError, field_invalid, required
from services.common.limits import EVENTS_PAGE_BYTES
from services.common.paging import PageTokens, page_size
from services.state.journal import Journals
from services.state.journal_model import Entry, Journal
from services.state.servicers.messages import write_moment

_SECONDS_MAX = 253_402_300_799
"""The last that a Timestamp may have."""


class JournalServicer(journal_pb2_grpc.JournalServiceServicer):
    """Answers from one engine."""

    def __init__(self, journals: Journals, page_tokens: PageTokens) -> None:
        self._journals = journals
        self._page_tokens = page_tokens

    async def AppendJournal(  # noqa: N802  (the contract's name)
        self, request: journal_pb2.AppendJournalRequest, context: object
    ) -> journal_pb2.AppendJournalResponse:
        """Add calls."""
        del context
        entries = [_read_entry(entry, number) for number, entry in enumerate(request.entries)]
        journal = await self._journals.append(current_tenant(), request.session_id, entries)
        return journal_pb2.AppendJournalResponse(call_count=journal.count)

    async def ReadJournal(  # noqa: N802
        self, request: journal_pb2.ReadJournalRequest, context: object
    ) -> AsyncGenerator[journal_pb2.ReadJournalResponse, None]:
        """Calls in order."""
        del context
        tenant, session = current_tenant(), request.session_id
        journal = await self._journals.get(tenant, session)
        _check_rows(journal)
        last = journal.count
        following = request.first_sequence or 1
        while following <= last:
            entries = await self._journals.read(tenant, session, following, last)
            if not entries:  # deleted meanwhile
                return
            yield journal_pb2.ReadJournalResponse(entries=map(_write_entry, entries))
            following = entries[-1].sequence + 1

    async def ListJournalEntries(  # noqa: N802
        self, request: journal_pb2.ListJournalEntriesRequest, context: object
    ) -> journal_pb2.ListJournalEntriesResponse:
        """A page of calls."""
        del context
        tenant, session = current_tenant(), request.session_id
        bound_to = f"ListJournalEntries\0{tenant}\0{session}"
        following, limit = request.first_sequence or 1, page_size(request.page_size)
        if request.page_token:
            following = int(self._page_tokens.open(request.page_token, bound_to))
        journal = await self._journals.get(tenant, session)
        last = journal.count
        if not request.without_content:
            _check_rows(journal)
        size_max = sys.maxsize if request.without_content else EVENTS_PAGE_BYTES
        entries = await self._journals.read(
            tenant, session, following, last, limit=limit, size_max=size_max
        )
        write = _write_bare if request.without_content else _write_entry
        answer = journal_pb2.ListJournalEntriesResponse(entries=map(write, entries))
        if entries and entries[-1].sequence < last:
            after = str(entries[-1].sequence + 1).encode()
            answer.next_page_token = self._page_tokens.seal(bound_to, after)
        return answer

    async def ListJournals(  # noqa: N802
        self, request: journal_pb2.ListJournalsRequest, context: object
    ) -> journal_pb2.ListJournalsResponse:
        """A page of journals."""
        del context
        tenant, session = current_tenant(), request.session_id
        if session and not request.runs:
            raise field_invalid("session_id", "goes with runs only")
        bound_to = f"ListJournals\0{tenant}\0{session}\0{request.runs}"
        limit, after = page_size(request.page_size), ""
        if request.page_token:
            after = self._page_tokens.open(request.page_token, bound_to).decode()
        if request.runs:
            page = await self._journals.list_runs(
                tenant, session=session, before=after, limit=limit
            )
        else:
            page = await self._journals.list(tenant, after=after, limit=limit)
        answer = journal_pb2.ListJournalsResponse(journals=map(_write_journal, page.journals))
        if page.after is not None:
            answer.next_page_token = self._page_tokens.seal(bound_to, page.after.encode())
        return answer

    async def GetJournal(  # noqa: N802
        self, request: journal_pb2.GetJournalRequest, context: object
    ) -> journal_pb2.GetJournalResponse:
        """What is known of a journal."""
        del context
        journal = await self._journals.get(current_tenant(), request.session_id)
        return journal_pb2.GetJournalResponse(journal=_write_journal(journal))

    async def DeleteJournal(  # noqa: N802
        self, request: journal_pb2.DeleteJournalRequest, context: object
    ) -> journal_pb2.DeleteJournalResponse:
        """Erase a journal."""
        del context
        deleted = await self._journals.delete(current_tenant(), request.session_id)
        return journal_pb2.DeleteJournalResponse(deleted_count=deleted)


def _check_rows(journal: Journal) -> None:
    """A key that sees some records only must not see in a run's journal what others were answered.

    Raises:
        ServiceError: PERMISSION_DENIED.
    """
    if journal.run_begin and current_context().row_filter:
        raise ServiceError(
            Reason.PERMISSION_DENIED,
            "This key sees some records only; a journal has what runs of other keys have seen.",
        )


def _read_entry(entry: journal_pb2.JournalEntry, number: int) -> Entry:
    outcome = entry.WhichOneof("outcome")
    if outcome is None:
        raise required(f"entries[{number}].answer")
    if outcome == "failure" and not entry.failure.reason:
        raise required(f"entries[{number}].failure.reason")
    return Entry(
        sequence=entry.sequence,
        method=entry.method,
        request=entry.request,
        answer=entry.answer if outcome == "answer" else None,
        failure_reason=entry.failure.reason,
        failure_message=entry.failure.message,
        start_ns=_read_time(entry.start_time, f"entries[{number}].start_time"),
        end_ns=_read_time(entry.end_time, f"entries[{number}].end_time"),
        correlation_id=entry.correlation_id,
    )


def _read_time(time: Timestamp, field: str) -> int:
    if not (0 <= time.seconds <= _SECONDS_MAX and 0 <= time.nanos < 10**9):
        raise field_invalid(field, "must be a time since 1970")
    return int(time.seconds * 10**9 + time.nanos)


def _write_entry(entry: Entry) -> journal_pb2.JournalEntry:
    message = journal_pb2.JournalEntry(
        sequence=entry.sequence,
        method=entry.method,
        request=entry.request,
        start_time=write_moment(entry.start_ns),
        end_time=write_moment(entry.end_ns),
        correlation_id=entry.correlation_id,
        size_bytes=entry.size,
    )
    if entry.answer is not None:
        message.answer = entry.answer
    else:
        message.failure.reason = entry.failure_reason
        message.failure.message = entry.failure_message
    return message


def _write_bare(entry: Entry) -> journal_pb2.JournalEntry:
    """A call without what was asked and answered."""
    message = _write_entry(entry)
    message.request = b""
    if entry.answer is not None:
        message.answer = b""
    return message


def _write_journal(journal: Journal) -> journal_pb2.Journal:
    message = journal_pb2.Journal(
        session_id=journal.session,
        call_count=journal.count,
        size_bytes=journal.size,
        can_replay=journal.count > 0,
        run_begin=journal.run_begin,
        run_end=journal.run_end,
        correlation_id=journal.correlation_id,
    )
    message.total_duration.FromNanoseconds(journal.duration_ns)
    if journal.count:
        message.first_time.CopyFrom(write_moment(journal.first_ns))
        message.last_time.CopyFrom(write_moment(journal.last_ns))
    return message
