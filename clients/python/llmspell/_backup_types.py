"""What the client tells of backups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup."""

    backup_id: str
    """Ids come in the order in which backups were made."""
    tenant_id: str
    """Whose it is; empty: the operator's, of all tenants."""
    create_time: datetime | None
    """None where it is damaged."""
    revision: int
    """The store's revision that it is of."""
    full: bool
    """Whether everything was written anew for it."""
    encrypted: bool
    """Whether its files are."""
    tenant_count: int
    record_count: int
    plain_bytes: int
    """What it holds, not compressed."""
    stored_bytes: int
    """Its files; other backups may share them."""
    written_bytes: int
    """What was written for it."""
    damaged: bool
    """Whether its manifest is: then only id and owner are known, and it cannot be restored."""


@dataclass(frozen=True, slots=True)
class BackupDamage:
    """A file of a backup that is not what it was."""

    file: str
    why: str


@dataclass(frozen=True, slots=True)
class BackupCheck:
    """What reading all of a backup has shown."""

    backup_id: str
    valid: bool
    """Whether it can be restored."""
    damages: list[BackupDamage]
    """The first hundred."""
    chunk_count: int
    blob_count: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class RestoreDelta:
    """What a restore changes in one of a tenant's databases."""

    tenant_id: str
    database: str
    added_count: int
    changed_count: int
    removed_count: int
    unchanged_count: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did, or would do."""

    backup_id: str
    dry_run: bool
    deltas: list[RestoreDelta]
    safety_backup_id: str
    """The backup of what was there before; empty where none was made."""
    revision: int


@dataclass(frozen=True, slots=True)
class TenantImport:
    """How far an import of a tenant is."""

    received_bytes: int
    """Of the archive, that came so far."""
    result: Restored | None
    """What was changed, or would be; None before the last one."""


@dataclass(frozen=True, slots=True)
class BackupUsage:
    """What backups take on disk."""

    backup_count: int
    file_count: int
    stored_bytes: int
    """What backups share counts once."""
    plain_bytes: int
    """What they would take each for itself, not compressed."""


@dataclass(frozen=True, slots=True)
class BackupsCleanedUp:
    """The backups that were removed, or would be."""

    backup_ids: list[str]
    freed_bytes: int
