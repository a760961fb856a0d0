"""SessionService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from llmspell._contract import Call, Page
from llmspell._session_types import (
    RestoredCheckpoint,
    Session,
    SessionCheckpoint,
    SessionStatus,
)
from llmspell._values import (
    from_duration,
    from_fields,
    from_timestamp,
    to_duration,
    to_fields,
    to_timestamp,
)
from llmspell.errors import InvalidArgument
from llmspell.v1 import session_pb2 as pb

_PREFIX = "SESSION_STATUS_"


def create(
    name: str,
    *,
    session_id: str,
    description: str,
    tags: Iterable[str],
    parent: str,
    metadata: Mapping[str, Any] | None,
    timeout_s: float | None,
    retention_s: float | None,
    auto_save_s: float | None,
) -> Call[Session]:
    """Begin a session."""
    request = pb.CreateSessionRequest(
        session_id=session_id,
        name=name,
        description=description,
        tags=_tags(tags),
        parent=parent,
        metadata=to_fields(metadata or {}, "metadata"),
        timeout=to_duration(timeout_s, "timeout_s", or_zero=True),
        retention=to_duration(retention_s, "retention_s", or_zero=True),
        auto_save=to_duration(auto_save_s, "auto_save_s", or_zero=True),
    )
    return Call(request, _of_answer)


def get(session_id: str) -> Call[Session]:
    """One session."""
    return Call(pb.GetSessionRequest(session_id=session_id), _of_answer)


def update(
    session_id: str,
    *,
    name: str | None,
    description: str | None,
    tags: Iterable[str] | None,
    metadata: Mapping[str, Any] | None,
    timeout_s: float | None,
    retention_s: float | None,
    auto_save_s: float | None,
) -> Call[Session]:
    """Change what a session says of itself."""
    request = pb.UpdateSessionRequest(
        session_id=session_id,
        name=name,
        description=description,
        tags=None if tags is None else pb.SessionTags(tags=_tags(tags)),
        timeout=to_duration(timeout_s, "timeout_s", or_zero=True),
        retention=to_duration(retention_s, "retention_s", or_zero=True),
        auto_save=to_duration(auto_save_s, "auto_save_s", or_zero=True),
    )
    if metadata is not None:
        fields = to_fields(metadata, "metadata")
        request.metadata.CopyFrom(pb.SessionMetadata(fields=fields))
    return Call(request, _of_answer)


def list_sessions(
    *,
    status: SessionStatus | Iterable[SessionStatus],
    tags: Iterable[str],
    name_contains: str,
    parent: str,
    created_after: datetime | None,
    created_before: datetime | None,
) -> Call[Page[Session]]:
    """A page of sessions, the newest first."""
    statuses = [status] if isinstance(status, str) else status
    request = pb.ListSessionsRequest(
        statuses=[_status(each) for each in statuses],
        tags=_tags(tags),
        name_contains=name_contains,
        parent=parent,
        created_after=to_timestamp(created_after, "created_after"),
        created_before=to_timestamp(created_before, "created_before"),
    )
    return Call(request, _sessions)


def save(session_id: str) -> Call[SessionCheckpoint]:
    """Take the checkpoint `autosave`."""
    return Call(pb.SaveSessionRequest(session_id=session_id), _taken)


def suspend(session_id: str) -> Call[Session]:
    """To suspended."""
    return Call(pb.SuspendSessionRequest(session_id=session_id), _of_answer)


def resume(session_id: str) -> Call[Session]:
    """To active."""
    return Call(pb.ResumeSessionRequest(session_id=session_id), _of_answer)


def complete(session_id: str) -> Call[Session]:
    """To completed."""
    return Call(pb.CompleteSessionRequest(session_id=session_id), _of_answer)


def fail(session_id: str, reason: str) -> Call[Session]:
    """To failed."""
    return Call(pb.FailSessionRequest(session_id=session_id, reason=reason), _of_answer)


def archive(session_id: str) -> Call[Session]:
    """To archived."""
    return Call(pb.ArchiveSessionRequest(session_id=session_id), _of_answer)


def delete(session_id: str) -> Call[bool]:
    """Remove a session; whether it was there."""
    return Call(pb.DeleteSessionRequest(session_id=session_id), _was_there)


def create_checkpoint(session_id: str, name: str) -> Call[SessionCheckpoint]:
    """Keep the items and artifacts as they are now."""
    return Call(pb.CreateCheckpointRequest(session_id=session_id, name=name), _taken)


def list_checkpoints(session_id: str) -> Call[list[SessionCheckpoint]]:
    """All checkpoints of a session, the newest first."""
    request = pb.ListCheckpointsRequest(session_id=session_id)
    return Call(request, lambda answer: [_checkpoint(each) for each in answer.checkpoints])


def restore_checkpoint(
    session_id: str, checkpoint_id: str, *, keep_present: bool
) -> Call[RestoredCheckpoint]:
    """Put what a checkpoint has back."""
    request = pb.RestoreCheckpointRequest(
        session_id=session_id, checkpoint_id=checkpoint_id, keep_present=keep_present
    )
    return Call(request, _restored)


def delete_checkpoint(session_id: str, checkpoint_id: str) -> Call[bool]:
    """Remove a checkpoint; whether it was there."""
    request = pb.DeleteCheckpointRequest(session_id=session_id, checkpoint_id=checkpoint_id)
    return Call(request, _was_there)


def _tags(tags: Iterable[str]) -> list[str]:
    if isinstance(tags, str):
        raise InvalidArgument("tags must be a list of texts.", metadata={"field": "tags"})
    return list(tags)


def _status(word: str) -> Any:
    name = f"{_PREFIX}{word.upper()}"
    known = list(pb.SessionStatus.DESCRIPTOR.values_by_name)[1:]
    if name not in known:
        words = ", ".join(each.removeprefix(_PREFIX).lower() for each in known)
        raise InvalidArgument(f"status must be one of {words}.", metadata={"field": "status"})
    return name


def _of_answer(answer: Any) -> Session:
    return _session(answer.session)


def _session(message: pb.Session) -> Session:
    status: Any = pb.SessionStatus.Name(message.status).removeprefix(_PREFIX).lower()
    return Session(
        session_id=message.session_id,
        name=message.name,
        description=message.description,
        tags=tuple(message.tags),
        status=status,
        parent=message.parent,
        metadata=from_fields(message.metadata),
        create_time=from_timestamp(message, "create_time"),
        update_time=from_timestamp(message, "update_time"),
        expire_time=from_timestamp(message, "expire_time"),
        end_time=from_timestamp(message, "end_time"),
        delete_time=from_timestamp(message, "delete_time"),
        save_time=from_timestamp(message, "save_time"),
        timeout_s=from_duration(message, "timeout") or 0.0,
        retention_s=from_duration(message, "retention") or 0.0,
        auto_save_s=from_duration(message, "auto_save") or 0.0,
        end_reason=message.end_reason,
        checkpoint_count=message.checkpoint_count,
        revision=message.revision,
    )


def _sessions(answer: pb.ListSessionsResponse) -> Page[Session]:
    return Page([_session(each) for each in answer.sessions], answer.next_page_token)


def _taken(answer: Any) -> SessionCheckpoint:
    return _checkpoint(answer.checkpoint)


def _checkpoint(message: pb.Checkpoint) -> SessionCheckpoint:
    return SessionCheckpoint(
        checkpoint_id=message.checkpoint_id,
        name=message.name,
        create_time=from_timestamp(message, "create_time"),
        revision=message.revision,
        item_count=message.item_count,
        size_bytes=message.size_bytes,
        artifact_count=message.artifact_count,
    )


def _restored(answer: pb.RestoreCheckpointResponse) -> RestoredCheckpoint:
    return RestoredCheckpoint(
        checkpoint=_checkpoint(answer.checkpoint),
        before=_checkpoint(answer.before) if answer.HasField("before") else None,
        changed_count=answer.changed_count,
        changed_artifact_count=answer.changed_artifact_count,
    )


def _was_there(answer: Any) -> bool:
    return bool(answer.deleted_count)
