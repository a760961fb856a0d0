"""The calls of sessions' journals as lines. What is known of a journal follows from its calls."""

from __future__ import annotations

import msgspec

from services.common.redaction import redact, redact_text
from services.state.backup.lines import Form, Record, Time, check
from services.state.journal import check_entry, check_session
from services.state.journal_model import Entry
from services.state.layout import journals as layout


class CallLine(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A line of `journal.jsonl`."""

    session_id: str
    sequence: int
    method: str
    request: bytes | None = None
    answer: bytes | None = None
    failure_reason: str = ""
    failure_message: str = ""
    start_time_ns: Time
    end_time_ns: Time
    correlation_id: str = ""
    withheld: bool = False


def _tell(own: bytes, stored: bytes) -> CallLine:
    entry = layout.unpack_entry(stored)
    return CallLine(
        session_id=layout.split_entry_key(own)[0],
        sequence=entry.sequence,
        method=entry.method,
        request=entry.request,
        answer=entry.answer,
        failure_reason=entry.failure_reason,
        failure_message=entry.failure_message,
        start_time_ns=entry.start_ns,
        end_time_ns=entry.end_ns,
        correlation_id=entry.correlation_id,
    )


def _withhold(line: CallLine) -> CallLine | None:
    """A message without a part of it is none; so it goes whole."""
    parts = (line.request, line.answer, line.failure_message, line.correlation_id)
    if all(redact(part) == part for part in parts):
        return None
    return msgspec.structs.replace(
        line,
        request=None,
        answer=None,
        failure_message=redact_text(line.failure_message),
        correlation_id=redact_text(line.correlation_id),
        withheld=True,
    )


def _keep(line: CallLine) -> Record:
    check_session("t", line.session_id)
    check(1 <= line.sequence < 2**63, "sequence", "must be 1 or more")
    check(line.request is not None, "request", "must be there")
    assert line.request is not None
    has_failed = bool(line.failure_reason)
    check(
        has_failed == (line.answer is None) and (has_failed or not line.failure_message),
        "answer",
        "must be there where there is no failure_reason, and nowhere else",
    )
    entry = Entry(
        sequence=line.sequence,
        method=line.method,
        request=line.request,
        answer=line.answer,
        failure_reason=line.failure_reason,
        failure_message=line.failure_message,
        start_ns=line.start_time_ns,
        end_ns=line.end_time_ns,
        correlation_id=line.correlation_id,
    )
    check_entry(entry, "")
    own = layout.entry_key("", line.session_id, line.sequence)[1:]
    return own, layout.pack_entry(entry)


CALL = Form(CallLine, _tell, _keep, _withhold, lambda line: line.session_id)
