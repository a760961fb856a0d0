"""What each database is to a tenant's backup, restore and export. None may be forgotten here.

A test holds this against `layout.DATABASES`: whoever adds a database says here what it is.

- `KEPT`: holds what a tenant has. It is backed up, and a restore puts it back. Index entries that
  belong to a record are told by a function of the record alone, so that a restore can take away and
  put back both together, a slice at a time.
- an index of one of those: not backed up.
- `CLEARED`: true of the tenant's past only; a restore empties it.
- `OWN`: of the store itself; no restore touches it but through what owns it.

Keys of the first and the third kind begin with the tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from services.state import session_ends
from services.state.backup import (
    artifact_lines,
    event_lines,
    item_lines,
    journal_lines,
    schema_lines,
    session_lines,
)
from services.state.backup.lines import Form
from services.state.layout import (
    ARTIFACT_DIGESTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_SCOPES,
    ARTIFACTS,
    AUDIT,
    AUDIT_HEADS,
    AUDIT_NAMES,
    BLOB_REFS,
    BLOB_TOMBS,
    CHANGES,
    CHECKPOINT_ARTIFACTS,
    CHECKPOINT_ITEMS,
    CHECKPOINTS,
    EVENT_ENDS,
    EVENT_LOGS,
    EVENTS,
    EXPIRY,
    ITEMS,
    JOURNAL,
    JOURNALS,
    KEYS,
    MIGRATIONS,
    REQUEST_TIMES,
    REQUESTS,
    RESTORES,
    SCHEMAS,
    SESSION_DUE,
    SESSION_ENDS,
    SESSION_ORDER,
    SESSIONS,
    STAGED,
    TENANTS,
    events,
    items,
    sessions,
)

Entry = tuple[str, bytes, bytes]
"""Database, key and value of an index entry."""


def no_entries(key: bytes, value: bytes) -> Iterable[Entry]:
    """A record that no index knows."""
    del key, value
    return ()


def _first_part(own: bytes) -> bytes:
    return own.partition(b"\0")[0]


def _scope_session(own: bytes) -> bytes:
    kind, _, name = _first_part(own).partition(b":")
    return name if kind == b"session" else b""


@dataclass(frozen=True, slots=True)
class Records:
    """A database with what tenants have, and the indexes that follow from its records."""

    database: str
    entries: Callable[[bytes, bytes], Iterable[Entry]] = no_entries
    """Key and value of a record → its index entries."""
    indexes: tuple[str, ...] = ()
    """The databases in which those entries are."""
    tombs: str = ""
    """A database that has an entry under the key of a record that is gone; empty: none has."""
    form: Form[Any] | None = None
    """How an export has them; None: not at all, they follow from others."""
    is_ended: Callable[[bytes | None, bytes | None], bool] | None = None
    """Value before a restore and after it → whether what others keep of it is to go; None: nobody
    keeps anything."""
    session_of: Callable[[bytes], bytes] | None = None
    """Key without the tenant → the session that it goes with, or nothing. An export leaves out what
    goes with one that is being erased."""

    @property
    def file(self) -> str:
        """Its file in an export."""
        return f"{self.database}.jsonl"


KEPT: tuple[Records, ...] = (
    Records(ITEMS, items.index_entries, (EXPIRY,), form=item_lines.ITEM, session_of=_scope_session),
    Records(
        SESSIONS,
        sessions.index_entries,
        (SESSION_ORDER, SESSION_DUE),
        form=session_lines.SESSION,
        is_ended=session_ends.is_ended_by_restore,
    ),
    Records(EVENTS, events.index_entries, (EVENT_ENDS,), form=event_lines.EVENTS),
    Records(EVENT_LOGS, form=event_lines.LOG),
    Records(CHECKPOINTS, form=session_lines.CHECKPOINT, session_of=_first_part),
    Records(CHECKPOINT_ITEMS, form=item_lines.CHECKPOINT_ITEM, session_of=_first_part),
    Records(ARTIFACTS, form=artifact_lines.ARTIFACT, session_of=_scope_session),
    Records(ARTIFACT_NAMES, form=artifact_lines.ARTIFACT_NAME, session_of=_scope_session),
    Records(ARTIFACT_ORDER),
    Records(ARTIFACT_DIGESTS),
    Records(ARTIFACT_SCOPES, form=artifact_lines.ARTIFACT_SCOPE, session_of=_scope_session),
    Records(CHECKPOINT_ARTIFACTS, form=artifact_lines.CHECKPOINT_ARTIFACT, session_of=_first_part),
    Records(BLOB_REFS, tombs=BLOB_TOMBS),
    Records(JOURNAL, form=journal_lines.CALL, session_of=_first_part),
    Records(JOURNALS),
    Records(SCHEMAS, form=schema_lines.SCHEMA),
)
EXPORTED: tuple[tuple[Records, Form[Any]], ...] = tuple(
    (records, records.form) for records in KEPT if records.form is not None
)
CLEARED: tuple[str, ...] = (CHANGES, REQUESTS, MIGRATIONS, STAGED)
OWN: tuple[str, ...] = (
    TENANTS,
    RESTORES,
    KEYS,
    REQUEST_TIMES,
    SESSION_ENDS,
    BLOB_TOMBS,
    AUDIT,
    AUDIT_HEADS,
    AUDIT_NAMES,
)
