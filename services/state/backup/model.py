"""What a backup is made of, as its manifest has it, and what calls on backups answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from services.common.errors import Reason, ServiceError

FORMAT = 1
"""Version of manifest and chunks; an older release refuses a newer one."""

_BACKUP_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}", re.ASCII)


class ChunkRef(msgspec.Struct, frozen=True):
    """Records of one database that lie next to each other, in one file."""

    name: str
    """blake3 of the plain bytes, hexadecimal; keyed where the backup is encrypted."""
    record_count: int
    plain_bytes: int
    stored_bytes: int


class DatabasePart(msgspec.Struct, frozen=True):
    """A tenant's records of one database, in key order over all chunks."""

    name: str
    record_count: int
    plain_bytes: int
    chunks: list[ChunkRef]


class BlobRef(msgspec.Struct, frozen=True):
    """The bytes of one artifact."""

    digest: str
    """blake3 of the bytes, hexadecimal."""
    plain_bytes: int
    chunks: list[ChunkRef]
    """The bytes, in order."""


class TenantPart(msgspec.Struct, frozen=True):
    """All that a backup has of one tenant."""

    tenant: str
    databases: list[DatabasePart]
    blobs: list[BlobRef] = []
    erasing: list[str] = []
    """Sessions that were deleted, and of which something was still to be erased."""
    sealed_key: str = ""
    """The key of its files, sealed with the master key; empty: they are not encrypted."""

    def files(self) -> Sequence[ChunkRef]:
        """What it consists of."""
        lists = [part.chunks for part in self.databases] + [blob.chunks for blob in self.blobs]
        return [chunk for chunks in lists for chunk in chunks]

    def record_count(self) -> int:
        """Records of all databases."""
        return sum(part.record_count for part in self.databases)


class Manifest(msgspec.Struct, frozen=True):
    """A backup: without this file, whole, there is none."""

    format: int
    backup_id: str
    owner: str
    """The tenant whose backup it is; empty: the operator's, of all tenants."""
    create_time_ns: int
    revision: int
    """The store's revision of which all of it is."""
    full: bool
    """Whether all was written anew, or chunks that were there were taken as they were."""
    tenants: list[TenantPart]
    written_bytes: int
    """What it added to the folder."""

    def part(self, tenant: str) -> TenantPart | None:
        """What it has of a tenant."""
        return next((part for part in self.tenants if part.tenant == tenant), None)

    def stored_bytes(self) -> int:
        """Bytes of the files that it consists of; other backups may share them."""
        return sum(file.stored_bytes for part in self.tenants for file in part.files())

    def plain_bytes(self) -> int:
        """Bytes of its records before they were compressed, and of its blobs."""
        records = sum(db.plain_bytes for part in self.tenants for db in part.databases)
        return records + sum(blob.plain_bytes for part in self.tenants for blob in part.blobs)


@dataclass(frozen=True, slots=True)
class Listed:
    """A backup in a list."""

    backup_id: str
    manifest: Manifest | None
    """None: its manifest is damaged, and so it cannot be restored."""
    size_bytes: int = 0
    """Of the manifest's file."""

    @property
    def damaged(self) -> bool:
        """Whether its manifest cannot be read, and so nobody knows what it consists of."""
        return self.manifest is None


@dataclass(frozen=True, slots=True)
class Damage:
    """A file of a backup that is not what it was."""

    file: str
    why: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What verifying a backup found."""

    backup_id: str
    chunk_count: int
    blob_count: int
    stored_bytes: int
    damages: Sequence[Damage]


@dataclass(slots=True)
class Delta:
    """What a restore changes, or would change, in one database."""

    database: str
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    written_bytes: int = 0


@dataclass(slots=True)
class TenantDelta:
    """What a restore does to one tenant."""

    tenant: str
    databases: list[Delta] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did, or would do."""

    backup_id: str
    tenants: Sequence[TenantDelta]
    safety_backup_id: str
    """The backup that was made before; empty: none was."""
    revision: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What backups take."""

    backup_count: int
    file_count: int
    stored_bytes: int
    """Chunks, blobs and manifests; what backups share counts once."""
    plain_bytes: int
    """What the backups would take each for itself, not compressed."""


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """What retention removed, or would remove."""

    backup_ids: Sequence[str]
    freed_bytes: int


def check_backup_id(backup_id: str) -> None:
    """Refuse what cannot be the id of a backup; it becomes part of a path.

    Raises:
        ServiceError: BACKUP_NOT_FOUND.
    """
    if not _BACKUP_ID.fullmatch(backup_id):
        raise not_found(backup_id)


def not_found(backup_id: str) -> ServiceError:
    """There is no such backup, or it is somebody else's."""
    return ServiceError(
        Reason.BACKUP_NOT_FOUND,
        f"There is no backup {backup_id[:64]!r}; list them.",
        backup_id=backup_id[:64],
    )


def corrupt(file: str, why: str) -> ServiceError:
    """A backup's file is not what it was when the backup was made."""
    return ServiceError(
        Reason.BACKUP_CORRUPT,
        f"The backup's file {file} {why}; the backup is refused whole. Choose another one.",
        file=file,
    )
