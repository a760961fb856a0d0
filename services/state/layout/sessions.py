"""Sessions, their checkpoints, what is due when, and which have ended.

| database | key | value |
|---|---|---|
| sessions | tenant NUL session | the session, MessagePack |
| session_order | tenant NUL create time, session | nothing |
| session_due | what, when, tenant NUL session | nothing |
| session_ends | revision, tenant NUL session | end time |
| checkpoints | tenant NUL session NUL checkpoint | the checkpoint, MessagePack |
| checkpoint_items | tenant NUL session NUL checkpoint NUL key | as in `items` |
| checkpoint_artifacts | tenant NUL session NUL checkpoint NUL sequence digest | as in `artifacts` |

An entry of `session_order`, and of `session_due` for each time that a session names, exists exactly
where the session does. An ERASE entry stands for a session that is gone and whose items and
checkpoints still have to go. The longest key has 481 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import msgspec

from services.state.layout import SESSION_DUE, SESSION_ORDER, tenant_prefix
from services.state.session_model import Checkpoint, End, Session, Status

_MOMENT = struct.Struct(">Q")
_DUE = struct.Struct(">BQ")
_HELD = struct.Struct(">Q32s")


class Due(IntEnum):
    """What is to be done with a session. The numbers are stored."""

    ERASE = 1
    """Remove what a deleted session has left; at moment 0."""
    EXPIRE = 2
    """Complete it."""
    DELETE = 3
    """Delete it: its retention is over."""
    AUTO_SAVE = 4
    """Save it, where it changed."""


class Held(NamedTuple):
    """An artifact that a checkpoint has; what is known of it stands in the value."""

    sequence: int
    digest: bytes


def session_key(tenant: str, session_id: str) -> bytes:
    """Key in `sessions`."""
    return _join(tenant, session_id)


def split_session_key(stored: bytes) -> tuple[str, str]:
    """Tenant and session."""
    tenant, session_id = stored.decode().split("\0")
    return tenant, session_id


def order_key(tenant: str, create_time_ns: int, session_id: str = "") -> bytes:
    """Key in `session_order`; without a session, what those from that moment on come after."""
    return tenant_prefix(tenant) + _MOMENT.pack(create_time_ns) + session_id.encode()


def split_order_key(stored: bytes) -> tuple[str, int, str]:
    """Tenant, create time and session."""
    tenant, _, place = stored.partition(b"\0")
    session_id = place[_MOMENT.size :].decode()
    return tenant.decode(), _MOMENT.unpack_from(place)[0], session_id


def due_prefix(due: Due) -> bytes:
    """What the keys in `session_due` of one kind begin with."""
    return bytes([due])


def due_key(due: Due, moment_ns: int, tenant: str, session_id: str) -> bytes:
    """Key in `session_due`."""
    return _DUE.pack(due, moment_ns) + _join(tenant, session_id)


def erase_prefix(tenant: str) -> bytes:
    """What the keys in `session_due` of a tenant's sessions that are to be erased begin with."""
    return due_key(Due.ERASE, 0, tenant, "")


def split_due_key(stored: bytes) -> tuple[Due, int, str, str]:
    """What, when, tenant and session."""
    due, moment_ns = _DUE.unpack_from(stored)
    return Due(due), moment_ns, *split_session_key(stored[_DUE.size :])


def end_key(revision: int, tenant: str = "", session_id: str = "") -> bytes:
    """Key in `session_ends`; without a tenant, what those of that revision come after."""
    return _MOMENT.pack(revision) + (_join(tenant, session_id) if tenant else b"")


def pack_end_time(end_time_ns: int) -> bytes:
    """Value in `session_ends`."""
    return _MOMENT.pack(end_time_ns)


def unpack_end(stored_key: bytes, stored: bytes) -> End:
    """From key and value in `session_ends`."""
    revision = _MOMENT.unpack_from(stored_key)[0]
    tenant, session_id = split_session_key(stored_key[_MOMENT.size :])
    return End(revision, tenant, session_id, _MOMENT.unpack(stored)[0])


def checkpoint_key(tenant: str, session_id: str, checkpoint_id: str = "") -> bytes:
    """Key in `checkpoints`; without a checkpoint, what those of a session begin with."""
    return _join(tenant, session_id, checkpoint_id)


def checkpoint_item_key(tenant: str, session_id: str, checkpoint_id: str, key: str = "") -> bytes:
    """Key in `checkpoint_items`; without a key, what those of a checkpoint begin with."""
    return _join(tenant, session_id, checkpoint_id, key)


def checkpoint_items_prefix(tenant: str, session_id: str) -> bytes:
    """What the keys of a session begin with in `checkpoint_items` and `checkpoint_artifacts`."""
    return _join(tenant, session_id, "")


def split_checkpoint_item_key(stored: bytes) -> str:
    """The item's key."""
    return stored.decode().rpartition("\0")[2]


def checkpoint_artifact_key(
    tenant: str, session_id: str, checkpoint_id: str, held: Held | None = None
) -> bytes:
    """Key in `checkpoint_artifacts`; without an artifact, what those of a checkpoint begin with."""
    prefix = _join(tenant, session_id, checkpoint_id, "")
    return prefix if held is None else prefix + _HELD.pack(*held)


def split_checkpoint_artifact_key(stored: bytes) -> Held:
    """The artifact."""
    return Held(*_HELD.unpack(stored[-_HELD.size :]))


def pack_session(session: Session) -> bytes:
    """Value in `sessions`."""
    return msgspec.msgpack.encode(session)


def unpack_session(stored: bytes) -> Session:
    """From a value in `sessions`."""
    return msgspec.msgpack.decode(stored, type=Session)


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Value in `checkpoints`."""
    return msgspec.msgpack.encode(checkpoint)


def unpack_checkpoint(stored: bytes) -> Checkpoint:
    """From a value in `checkpoints`."""
    return msgspec.msgpack.decode(stored, type=Checkpoint)


def due_keys(tenant: str, session: Session) -> Iterator[bytes]:
    """The keys in `session_due` that go with a session."""
    running = session.status in (Status.ACTIVE, Status.SUSPENDED)
    moments = {
        Due.EXPIRE: session.expire_time_ns if running else None,
        Due.DELETE: session.delete_time_ns,
        Due.AUTO_SAVE: session.auto_save_time_ns,
    }
    for due, moment_ns in moments.items():
        if moment_ns is not None:
            yield due_key(due, moment_ns, tenant, session.session_id)


def index_entries(key: bytes, value: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Database, key and value of each index entry that goes with a record of `sessions`."""
    tenant, session_id = split_session_key(key)
    session = unpack_session(value)
    yield SESSION_ORDER, order_key(tenant, session.create_time_ns, session_id), b""
    for place in due_keys(tenant, session):
        yield SESSION_DUE, place, b""


def _join(*parts: str) -> bytes:
    assert not any("\0" in part for part in parts), "NUL separates the parts of a key"
    return "\0".join(parts).encode()
