"""The calls of sessions' journals as lines. What is known of a journal follows from its calls."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from services.common.redaction import redact, redact_text
from services.state.backup.lines import Form, Record, Time, check
from services.state.journal import check_entry, check_session
from services.state.journal_model import Entry
from services.state.layout import journals as layout

Secret = Callable[[str, bytes, bytes | None], bool]
"""Method, request and answer → whether they tell a secret."""


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


def call_form(tells_secret: Secret) -> Form[CallLine]:
    """Of calls of which somebody knows whether their messages tell a secret."""

    def withhold(line: CallLine) -> CallLine | None:
        told = _withhold(line)
        if told is None and tells_secret(line.method, line.request or b"", line.answer):
            told = _without_messages(line)
        return told

    return Form(CallLine, _tell, _keep, withhold, _session)


def _withhold(line: CallLine) -> CallLine | None:
    parts = (line.request, line.answer, line.failure_message, line.correlation_id)
    return None if all(redact(part) == part for part in parts) else _without_messages(line)


def _without_messages(line: CallLine) -> CallLine:
    """A message without a part of it is none; so it goes whole."""
    return msgspec.structs.replace(
        line,
        request=None,
        answer=None,
        failure_message=redact_text(line.failure_message),
        correlation_id=redact_text(line.correlation_id),
        withheld=True,
    )


def _session(line: CallLine) -> str:
    return line.session_id


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


CALL = Form(CallLine, _tell, _keep, _withhold, _session)
