"""JournalService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from llmspell._contract import Call, Page
from llmspell._journal_types import Journal, JournalEntry
from llmspell._values import from_duration, from_timestamp, to_timestamp
from llmspell.v1 import journal_pb2 as pb


def append(session_id: str, entries: Iterable[JournalEntry]) -> Call[int]:
    """Add calls; how many there are."""
    request = pb.AppendJournalRequest(
        session_id=session_id, entries=[_to_entry(entry) for entry in entries]
    )
    return Call(request, lambda answer: answer.call_count)


def read(session_id: str, first_sequence: int) -> Call[list[JournalEntry] | None]:
    """Calls in order, some at a time."""
    request = pb.ReadJournalRequest(session_id=session_id, first_sequence=first_sequence)
    return Call(request, lambda answer: [_entry(entry) for entry in answer.entries])


def list_entries(
    session_id: str, first_sequence: int, *, content: bool
) -> Call[Page[JournalEntry]]:
    """A page of calls in order."""
    request = pb.ListJournalEntriesRequest(
        session_id=session_id, first_sequence=first_sequence, without_content=not content
    )
    return Call(
        request,
        lambda answer: Page([_entry(each) for each in answer.entries], answer.next_page_token),
    )


def list_journals() -> Call[Page[Journal]]:
    """A page of journals."""
    return Call(
        pb.ListJournalsRequest(),
        lambda answer: Page([_journal(each) for each in answer.journals], answer.next_page_token),
    )


def get(session_id: str) -> Call[Journal]:
    """What is known of a journal."""
    return Call(
        pb.GetJournalRequest(session_id=session_id), lambda answer: _journal(answer.journal)
    )


def delete(session_id: str) -> Call[int]:
    """Erase a journal; how many calls it had."""
    request = pb.DeleteJournalRequest(session_id=session_id)
    return Call(request, lambda answer: answer.deleted_count)


def _to_entry(entry: JournalEntry) -> pb.JournalEntry:
    message = pb.JournalEntry(
        sequence=entry.sequence,
        method=entry.method,
        request=entry.request,
        start_time=to_timestamp(entry.start_time, "start_time"),
        end_time=to_timestamp(entry.end_time, "end_time"),
        correlation_id=entry.correlation_id,
    )
    if entry.answer is not None:
        message.answer = entry.answer
    else:
        message.failure.reason = entry.failure_reason
        message.failure.message = entry.failure_message
    return message


def _entry(message: pb.JournalEntry) -> JournalEntry:
    start, end = from_timestamp(message, "start_time"), from_timestamp(message, "end_time")
    assert start is not None
    assert end is not None
    return JournalEntry(
        sequence=message.sequence,
        method=message.method,
        request=message.request,
        answer=message.answer if message.HasField("answer") else None,
        failure_reason=message.failure.reason,
        failure_message=message.failure.message,
        start_time=start,
        end_time=end,
        correlation_id=message.correlation_id,
        size_bytes=message.size_bytes,
    )


def _journal(message: pb.Journal) -> Journal:
    return Journal(
        session_id=message.session_id,
        call_count=message.call_count,
        size_bytes=message.size_bytes,
        first_time=from_timestamp(message, "first_time"),
        last_time=from_timestamp(message, "last_time"),
        total_duration_s=from_duration(message, "total_duration") or 0.0,
        can_replay=message.can_replay,
        correlation_id=message.correlation_id,
    )
