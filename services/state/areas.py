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

from services.state.backup import lines
from services.state.layout import (
    ARTIFACT_DIGESTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_SCOPES,
    ARTIFACTS,
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


def no_revision(value: bytes) -> int:
    """A value that has none."""
    del value
    return 0


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
    is_exported: bool = True
    """Whether exports have it."""
    write: Callable[[bytes, bytes], bytes] = lines.write_raw
    """Key without the tenant and value → the line that an export has of it."""
    withhold: Callable[[bytes, bytes], bytes | None] = lines.withhold_none
    """The line of a record that is not exported in clear unless that is asked for; None: it is."""
    read: Callable[[bytes], lines.Record | None] = lines.read_raw
    """From a line, checked; None where the line withholds what the record held."""
    revision_of: Callable[[bytes], int] = no_revision
    """The revision in a value; an import raises the store's to the highest."""


KEPT: tuple[Records, ...] = (
    Records(
        ITEMS,
        items.index_entries,
        (EXPIRY,),
        write=lines.write_item,
        withhold=lines.withhold_item,
        read=lines.read_item,
        revision_of=lines.item_revision,
    ),
    Records(SESSIONS, sessions.index_entries, (SESSION_ORDER, SESSION_DUE)),
    Records(EVENTS, events.index_entries, (EVENT_ENDS,)),
    Records(EVENT_LOGS),
    Records(CHECKPOINTS),
    Records(CHECKPOINT_ITEMS),
    # What exports have none of: bytes are not in them yet, and records are worth nothing without.
    Records(ARTIFACTS, is_exported=False),
    Records(ARTIFACT_NAMES, is_exported=False),
    Records(ARTIFACT_ORDER, is_exported=False),
    Records(ARTIFACT_DIGESTS, is_exported=False),
    Records(ARTIFACT_SCOPES, is_exported=False),
    Records(CHECKPOINT_ARTIFACTS, is_exported=False),
    Records(BLOB_REFS, tombs=BLOB_TOMBS, is_exported=False),
    Records(JOURNAL),
    Records(JOURNALS),
    Records(SCHEMAS),
)
CLEARED: tuple[str, ...] = (CHANGES, REQUESTS, MIGRATIONS, STAGED)
OWN: tuple[str, ...] = (
    TENANTS,
    RESTORES,
    KEYS,
    REQUEST_TIMES,
    SESSION_ENDS,
    BLOB_TOMBS,
)
