"""Between SessionService's messages and the engine's values; each is translated once."""

from __future__ import annotations

from typing import Any

from llmspell.v1 import session_pb2

from services.common.errors import field_invalid
from services.common.limits import SESSION_ENDS_WAIT_SECONDS_MAX
from services.common.values import fill_map, map_to_python
from services.state import rules
from services.state.servicers.messages import read_duration
from services.state.session_model import (
    Checkpoint,
    End,
    NewSession,
    Session,
    SessionChanges,
    SessionFilter,
    Status,
)

_SECOND_NS = 10**9
_NANOS_MAX = 999_999_999
_TIMES = ("create", "update", "expire", "end", "delete", "save")


def read_new(request: session_pb2.CreateSessionRequest) -> NewSession:
    """What a session is to begin with.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    return NewSession(
        session_id=request.session_id,
        name=request.name,
        description=request.description,
        tags=tuple(request.tags),
        parent=request.parent,
        metadata=map_to_python(request.metadata, "metadata"),
        timeout_ns=_length(request, "timeout"),
        retention_ns=_length(request, "retention"),
        auto_save_ns=_length(request, "auto_save"),
    )


def read_changes(request: session_pb2.UpdateSessionRequest) -> SessionChanges:
    """What is to be changed.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    has = request.HasField
    metadata = map_to_python(request.metadata.fields, "metadata")
    return SessionChanges(
        name=request.name if has("name") else None,
        description=request.description if has("description") else None,
        tags=tuple(request.tags.tags) if has("tags") else None,
        metadata=metadata if has("metadata") else None,
        timeout_ns=_length(request, "timeout"),
        retention_ns=_length(request, "retention"),
        auto_save_ns=_length(request, "auto_save"),
    )


def read_filter(request: session_pb2.ListSessionsRequest) -> SessionFilter:
    """Which sessions are asked for.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    return SessionFilter(
        statuses=frozenset(map(_status, request.statuses)),
        tags=tuple(request.tags),
        name_contains=request.name_contains,
        parent=request.parent,
        created_from_ns=_moment(request, "created_after"),
        created_before_ns=_moment(request, "created_before"),
    )


def read_wait(request: session_pb2.ListEndedSessionsRequest) -> float:
    """Seconds to wait.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    wait_s = (_length(request, "wait") or 0) / _SECOND_NS
    return rules.check_wait(wait_s, SESSION_ENDS_WAIT_SECONDS_MAX)


def write_session(session: Session) -> session_pb2.Session:
    """A session as it travels."""
    message = session_pb2.Session(
        session_id=session.session_id,
        name=session.name,
        description=session.description,
        tags=session.tags,
        status=session_pb2.SessionStatus.Name(session.status),
        parent=session.parent,
        end_reason=session.end_reason,
        checkpoint_count=session.checkpoint_count,
        revision=session.revision,
    )
    fill_map(message.metadata, session.metadata)
    for name in _TIMES:
        moment_ns = getattr(session, f"{name}_time_ns")
        if moment_ns is not None:
            getattr(message, f"{name}_time").FromNanoseconds(moment_ns)
    message.timeout.FromNanoseconds(session.timeout_ns)
    message.retention.FromNanoseconds(session.retention_ns)
    message.auto_save.FromNanoseconds(session.auto_save_ns)
    return message


def write_checkpoint(checkpoint: Checkpoint) -> session_pb2.Checkpoint:
    """A checkpoint as it travels."""
    message = session_pb2.Checkpoint(
        checkpoint_id=checkpoint.checkpoint_id,
        name=checkpoint.name,
        revision=checkpoint.revision,
        item_count=checkpoint.item_count,
        size_bytes=checkpoint.size_bytes,
        artifact_count=checkpoint.artifact_count,
    )
    message.create_time.FromNanoseconds(checkpoint.create_time_ns)
    return message


def write_end(end: End) -> session_pb2.EndedSession:
    """An end as it travels."""
    message = session_pb2.EndedSession(
        revision=end.revision, tenant=end.tenant, session_id=end.session_id
    )
    message.end_time.FromNanoseconds(end.end_time_ns)
    return message


def _length(message: Any, field: str) -> int | None:
    """Nanoseconds of a duration; None where it is not set."""
    if not message.HasField(field):
        return None
    return read_duration(getattr(message, field), field)


def _moment(message: Any, field: str) -> int | None:
    """Nanoseconds since the epoch; None where it is not set."""
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    if not 0 <= stamp.nanos <= _NANOS_MAX or not 0 <= stamp.seconds < _SECOND_NS * 9:
        raise field_invalid(field, "must be a time from 1970 to 2255")
    return int(stamp.seconds * _SECOND_NS + stamp.nanos)


def _status(number: int) -> Status:
    try:
        return Status(number)
    except ValueError:
        known = ", ".join(status.word for status in Status)
        raise field_invalid("statuses", f"must be {known}") from None
