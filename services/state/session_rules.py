"""What holds of every session: legal moves, limits, and how time changes one. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    METADATA_BYTES_MAX,
    SESSION_AUTO_SAVE_SECONDS_MIN,
    SESSION_DESCRIPTION_BYTES_MAX,
    SESSION_END_REASON_BYTES_MAX,
    SESSION_NAME_BYTES_MAX,
    SESSION_TAG_BYTES_MAX,
    SESSION_TAGS_MAX,
    TTL_SECONDS_MAX,
)
from services.common.scopes import parse_scope
from services.state import rules
from services.state.layout.items import ChangeKind
from services.state.session_model import (
    EXPIRED,
    NewSession,
    Session,
    SessionChanges,
    SessionFilter,
    Status,
)

_SECOND_NS = 10**9

MOVES: Mapping[tuple[Status, Status], ChangeKind] = {
    (Status.ACTIVE, Status.SUSPENDED): ChangeKind.SESSION_SUSPEND,
    (Status.ACTIVE, Status.COMPLETED): ChangeKind.SESSION_COMPLETE,
    (Status.ACTIVE, Status.FAILED): ChangeKind.SESSION_FAIL,
    (Status.SUSPENDED, Status.ACTIVE): ChangeKind.SESSION_RESUME,
    (Status.SUSPENDED, Status.COMPLETED): ChangeKind.SESSION_COMPLETE,
    (Status.SUSPENDED, Status.FAILED): ChangeKind.SESSION_FAIL,
    (Status.COMPLETED, Status.ARCHIVED): ChangeKind.SESSION_ARCHIVE,
    (Status.FAILED, Status.ARCHIVED): ChangeKind.SESSION_ARCHIVE,
}
"""Every legal move, and the change that tells of it. What is not here is refused."""

ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.ARCHIVED})


def check_move(session: Session, to: Status) -> ChangeKind:
    """The change that a move is told as.

    Raises:
        ServiceError: SESSION_TRANSITION_ILLEGAL with where it may go instead.
    """
    kind = MOVES.get((session.status, to))
    if kind is not None:
        return kind
    legal = ", ".join(end.word for begin, end in MOVES if begin is session.status)
    raise ServiceError(
        Reason.SESSION_TRANSITION_ILLEGAL,
        f"Session {session.session_id} is {session.status.word} and cannot become {to.word}; "
        f"it can become {legal or 'nothing else'}.",
        session_id=session.session_id,
        **{"from": session.status.word, "to": to.word, "legal": legal},
    )


def check_not_ended(session: Session) -> None:
    """Refuse to go on with a session that has ended.

    Raises:
        ServiceError: SESSION_ENDED.
    """
    if session.status in ENDED:
        raise ServiceError(
            Reason.SESSION_ENDED,
            f"Session {session.session_id} is {session.status.word}; nothing more is saved in it.",
            session_id=session.session_id,
            status=session.status.word,
        )


def not_found(session_id: str) -> ServiceError:
    """What is said of a session that is not there."""
    return ServiceError(
        Reason.SESSION_NOT_FOUND, f"There is no session {session_id}.", session_id=session_id
    )


def expired(session: Session) -> Session:
    """The session, completed because its time is up. Not yet deleted."""
    assert session.expire_time_ns is not None
    return ended(session, Status.COMPLETED, EXPIRED, session.expire_time_ns)


def ended(session: Session, status: Status, reason: str, moment_ns: int) -> Session:
    """The session as it is from its end on."""
    kept = session.retention_ns
    return msgspec.structs.replace(
        session,
        status=status,
        end_reason=reason,
        end_time_ns=moment_ns,
        delete_time_ns=moment_ns + kept if kept else None,
        auto_save_time_ns=None,
    )


def seen_at(session: Session, now_ns: int) -> Session | None:
    """What a caller sees at a moment, swept or not; None once its retention is over."""
    if is_overdue(session, now_ns):
        session = expired(session)
    if session.delete_time_ns is not None and session.delete_time_ns <= now_ns:
        return None
    return session


def is_overdue(session: Session, now_ns: int) -> bool:
    """Whether it should have been completed by now."""
    ends = session.expire_time_ns
    return session.status not in ENDED and ends is not None and ends <= now_ns


def matches(session: Session, wanted: SessionFilter) -> bool:
    """Whether a filter lets it through; its times are the caller's to look at."""
    return (
        (not wanted.statuses or session.status in wanted.statuses)
        and (not wanted.parent or session.parent == wanted.parent)
        and wanted.name_contains.casefold() in session.name.casefold()
        and set(wanted.tags) <= set(session.tags)
    )


def check_session_id(session_id: str, field: str = "session_id") -> None:
    """Refuse an id that could not be part of a scope.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not session_id:
        raise required(field)
    try:
        parse_scope(f"session:{session_id}")
    except ServiceError:
        raise field_invalid(
            field, "must be up to 96 letters, digits, '_' and '-', not beginning with '_' or '-'"
        ) from None


def check_new(tenant: str, new: NewSession) -> None:
    """Refuse what a session cannot begin with."""
    rules.check_place(tenant, "global")
    for field, session_id in (("session_id", new.session_id), ("parent", new.parent)):
        if session_id:
            check_session_id(session_id, field)
    _check_texts(new.name, new.description, new.tags)
    check_metadata(new.metadata)
    _check_times(new.timeout_ns, new.retention_ns, new.auto_save_ns)


def check_changes(tenant: str, session_id: str, changes: SessionChanges) -> None:
    """Refuse what a session cannot be changed to."""
    check_place(tenant, session_id)
    _check_texts(changes.name or "", changes.description or "", changes.tags or ())
    check_metadata(changes.metadata or {})
    _check_times(changes.timeout_ns, changes.retention_ns, changes.auto_save_ns)


def check_place(tenant: str, session_id: str) -> None:
    """Refuse a tenant or session that cannot be part of a stored key."""
    rules.check_place(tenant, "global")
    check_session_id(session_id)


def check_checkpoint_id(checkpoint_id: str) -> None:
    """Refuse an id that no checkpoint can have."""
    check_session_id(checkpoint_id, "checkpoint_id")


def check_name(name: str) -> None:
    """Refuse a name that is too long, or not text."""
    _check_text("name", name, SESSION_NAME_BYTES_MAX)


def check_reason(reason: str) -> None:
    """Refuse why a session failed, where that is too long."""
    _check_text("reason", reason, SESSION_END_REASON_BYTES_MAX)


def check_metadata(metadata: dict[str, Any]) -> None:
    """Refuse metadata that takes too many bytes as MessagePack."""
    try:
        size = len(msgspec.msgpack.encode(metadata))
    except UnicodeEncodeError:
        raise field_invalid("metadata", "must be text that UTF-8 can hold") from None
    if size > METADATA_BYTES_MAX:
        raise limit_exceeded("metadata", size, METADATA_BYTES_MAX, "bytes")


def _check_texts(name: str, description: str, tags: Sequence[str]) -> None:
    check_name(name)
    _check_text("description", description, SESSION_DESCRIPTION_BYTES_MAX)
    if len(tags) > SESSION_TAGS_MAX:
        raise limit_exceeded("tags", len(tags), SESSION_TAGS_MAX)
    for number, tag in enumerate(tags):
        if not tag:
            raise required(f"tags[{number}]")
        _check_text(f"tags[{number}]", tag, SESSION_TAG_BYTES_MAX)


def _check_text(field: str, text: str, bytes_max: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise field_invalid(field, "must be text that UTF-8 can hold") from None
    if size > bytes_max:
        raise limit_exceeded(field, size, bytes_max, "bytes")


def _check_times(
    timeout_ns: int | None, retention_ns: int | None, auto_save_ns: int | None
) -> None:
    lengths = {"timeout": timeout_ns, "retention": retention_ns, "auto_save": auto_save_ns}
    for field, length_ns in lengths.items():
        if length_ns is None:
            continue
        if length_ns < 0:
            raise field_invalid(field, "must not be negative")
        if length_ns > TTL_SECONDS_MAX * _SECOND_NS:
            raise limit_exceeded(field, length_ns // _SECOND_NS, TTL_SECONDS_MAX, "seconds")
    if auto_save_ns and auto_save_ns < SESSION_AUTO_SAVE_SECONDS_MIN * _SECOND_NS:
        raise field_invalid("auto_save", f"must be 0 or {SESSION_AUTO_SAVE_SECONDS_MIN} s or more")
