"""Sessions and checkpoints as lines."""

from __future__ import annotations

from typing import Any

import msgspec

from services.common.limits import (
    CHECKPOINT_ARTIFACTS_MAX,
    CHECKPOINT_ITEMS_MAX,
    CHECKPOINTS_MAX,
    METADATA_BYTES_MAX,
)
from services.state import session_rules as rules
from services.state.backup.lines import (
    Form,
    Number,
    Record,
    Revision,
    Time,
    check,
    keep_metadata,
    redacted,
    tell_metadata,
)
from services.state.layout import sessions as layout
from services.state.session_model import Checkpoint, NewSession, Session, Status

_STATUSES = {status.word: status for status in Status}


class SessionLine(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A line of `sessions.jsonl`."""

    session_id: str
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    status: str
    parent: str = ""
    metadata: dict[str, Any] | None = None
    metadata_msgpack: bytes | None = None
    create_time_ns: Time
    update_time_ns: Time
    expire_time_ns: Time | None = None
    end_time_ns: Time | None = None
    delete_time_ns: Time | None = None
    save_time_ns: Time | None = None
    auto_save_time_ns: Time | None = None
    timeout_ns: Time
    retention_ns: Time
    auto_save_ns: Time
    end_reason: str = ""
    checkpoint_count: Number = 0
    checkpoints_made: Number = 0
    revision: Revision


class CheckpointLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `checkpoints.jsonl`."""

    session_id: str
    checkpoint_id: str
    name: str
    create_time_ns: Time
    revision: Revision
    item_count: Number
    size_bytes: Number
    artifact_count: Number = 0


_AS_KEPT = frozenset(SessionLine.__struct_fields__) & frozenset(Session.__struct_fields__) - {
    "status",
    "metadata",
}


def _tell_session(own: bytes, stored: bytes) -> SessionLine:
    del own
    session = layout.unpack_session(stored)
    told = tell_metadata(session.metadata)
    return SessionLine(
        status=session.status.word,
        metadata=told.metadata or None,
        metadata_msgpack=told.metadata_msgpack,
        **{name: getattr(session, name) for name in _AS_KEPT},
    )


def _withhold_session(line: SessionLine) -> SessionLine | None:
    texts = ("name", "description", "tags", "end_reason")
    return redacted(line, *texts, maps_bytes_max=METADATA_BYTES_MAX)


def _keep_session(line: SessionLine) -> Record:
    check(line.status in _STATUSES, "status", f"must be one of {', '.join(_STATUSES)}")
    metadata = keep_metadata(line.metadata, line.metadata_msgpack)
    session = Session(
        status=_STATUSES[line.status],
        metadata=metadata,
        **{name: getattr(line, name) for name in _AS_KEPT},
    )
    rules.check_session_id(session.session_id)
    rules.check_new("t", _begun(session))
    rules.check_reason(session.end_reason)
    check(len(set(line.tags)) == len(line.tags), "tags", "must not name one twice")
    _check_life(session)
    most = CHECKPOINTS_MAX + 1  # and the one that saving takes
    check(session.checkpoint_count <= most, "checkpoint_count", f"must be {most} at most")
    return session.session_id.encode(), layout.pack_session(session)


def _begun(session: Session) -> NewSession:
    """What a session would have been created with."""
    return NewSession(
        session_id=session.session_id,
        name=session.name,
        description=session.description,
        tags=session.tags,
        parent=session.parent,
        metadata=session.metadata,
        timeout_ns=session.timeout_ns,
        retention_ns=session.retention_ns,
        auto_save_ns=session.auto_save_ns,
    )


def _check_life(session: Session) -> None:
    """Refuse moments that do not go with where the session is in its life."""
    has_ended = session.status in rules.ENDED
    word = session.status.word
    check(
        has_ended == (session.end_time_ns is not None),
        "end_time_ns",
        f"must be there where a session has ended, and nowhere else; this one is {word}",
    )
    check(has_ended or not session.end_reason, "end_reason", f"must be empty in one that is {word}")
    is_deletable = has_ended and session.status is not Status.ARCHIVED
    check(
        is_deletable or session.delete_time_ns is None,
        "delete_time_ns",
        f"must not be there in one that is {word}",
    )
    check(
        session.auto_save_time_ns is None
        or (session.status is Status.ACTIVE and session.auto_save_ns),
        "auto_save_time_ns",
        "must be there only in one that is active and is saved by itself",
    )
    if not has_ended:
        check(
            (session.expire_time_ns is None) == (not session.timeout_ns),
            "expire_time_ns",
            "must be there where timeout_ns is not 0, and nowhere else",
        )


def _tell_checkpoint(own: bytes, stored: bytes) -> CheckpointLine:
    session_id = own.decode().split("\0")[0]
    checkpoint = layout.unpack_checkpoint(stored)
    return CheckpointLine(session_id=session_id, **msgspec.structs.asdict(checkpoint))


def _keep_checkpoint(line: CheckpointLine) -> Record:
    rules.check_session_id(line.session_id)
    rules.check_checkpoint_id(line.checkpoint_id)
    rules.check_name(line.name)
    most = CHECKPOINT_ITEMS_MAX
    check(line.item_count <= most, "item_count", f"must be {most} at most")
    most = CHECKPOINT_ARTIFACTS_MAX
    check(line.artifact_count <= most, "artifact_count", f"must be {most} at most")
    facts = msgspec.structs.asdict(line)
    own = f"{facts.pop('session_id')}\0{line.checkpoint_id}"
    return own.encode(), layout.pack_checkpoint(Checkpoint(**facts))


def _withhold_checkpoint(line: CheckpointLine) -> CheckpointLine | None:
    return redacted(line, "name")


SESSION = Form(SessionLine, _tell_session, _keep_session, _withhold_session)
CHECKPOINT = Form(CheckpointLine, _tell_checkpoint, _keep_checkpoint, _withhold_checkpoint)
