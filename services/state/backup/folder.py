"""A folder of backups: manifests and the files that they name.

    all/ID.json                     the operator's backups, of all tenants
    tenants/TENANT/ID.json          a tenant's own
    tenants/TENANT/chunks/ab/abcd…  records, and bytes of artifacts

Each file is written aside, flushed, and renamed; a manifest is the last one. Tenants share nothing,
so that nobody learns from what is there already what somebody else has. What no manifest names is
removed by whoever holds the folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from blake3 import blake3

from services.common import failpoints
from services.common.damage import Damages, name_of
from services.common.errors import Reason, ServiceError
from services.common.store import RESERVE_BYTES, is_full, storage_full
from services.state.backup.model import FORMAT, ChunkRef, Listed, Manifest, corrupt, not_found

_ALL = "all"
_TENANTS = "tenants"
_ASIDE = "aside"
_UNSAFE = re.compile(r"[^a-z0-9_-]")
_ROOM_BYTES = 2 * RESERVE_BYTES
"""Room on the disk that backups leave for the store, which needs some to remove anything."""
CHUNKS = "chunks"


class BackupFolder:
    """Files of backups. One process may hold it; only one caller at a time may change it."""

    def __init__(self, root: Path, damages: Damages | None = None) -> None:
        """Make the folder where it is missing, and take it.

        Args:
            root: The folder.
            damages: Where files that are found damaged are named.

        Raises:
            ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED.
        """
        self.root = root
        self._damages = Damages() if damages is None else damages
        self._unsound: set[Path] = set()
        self._lock = _take(root)
        shutil.rmtree(root / _ASIDE, ignore_errors=True)

    def close(self) -> None:
        """Let others have it. Safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def manifest_path(self, owner: str, backup_id: str) -> Path:
        """Where a backup's manifest is."""
        return self._owned(owner) / f"{backup_id}.json"

    def file_path(self, tenant: str, kind: str, name: str) -> Path:
        """Where a chunk or a blob is."""
        return self.root / _TENANTS / _safe(tenant) / kind / name[:2] / name

    def seems_sound(self, tenant: str, ref: ChunkRef) -> bool:
        """Whether a chunk is there, has its size, and was not found damaged; it is not read."""
        path = self.file_path(tenant, CHUNKS, ref.name)
        try:
            return path not in self._unsound and path.stat().st_size == ref.stored_bytes
        except OSError:
            return False

    def found_unsound(self, path: Path, why: str) -> None:
        """Name a damaged file; the next backup that needs it writes it anew."""
        self._unsound.add(path)
        self._damages.note(name_of("backup", self.named(path)), f"It {why}.")

    def found_sound(self, path: Path) -> None:
        """A file is what it should be, or is no more."""
        self._unsound.discard(path)
        self._damages.healed(name_of("backup", self.named(path)))

    def named(self, path: Path) -> str:
        """A file as messages name it: without what is above the folder."""
        return str(path.relative_to(self.root))

    def put(self, path: Path, content: bytes) -> None:
        """Write a file whole or not at all; it is on disk when this returns, its name is not.

        Raises:
            ServiceError: STORAGE_FULL.
            OSError: it cannot be written.
        """
        self._check_room(len(content))
        aside = self.aside()
        try:
            with aside.open("xb") as file:
                file.write(content)
                file.flush()
                failpoints.hit("backup.chunk_written")
                os.fsync(file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside.replace(path)
            self.found_sound(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise _refused(error) from error

    def _check_room(self, size: int) -> None:
        """Refuse to fill the disk to its last byte: the store may be on it.

        Raises:
            ServiceError: STORAGE_FULL.
        """
        disk = os.statvfs(self.root)
        if disk.f_bavail * disk.f_frsize < _ROOM_BYTES + size:
            raise storage_full()

    def aside(self) -> Path:
        """Where a file is written that has no name yet; what a crash leaves goes at the start."""
        folder = self.root / _ASIDE
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder / secrets.token_hex(8)

    def flush_names(self, tenant: str) -> None:
        """Make the names of a tenant's files last."""
        top = self.root / _TENANTS / _safe(tenant)
        for kind in (CHUNKS,):
            if (top / kind).is_dir():
                for folder in (top / kind).iterdir():
                    _flush(folder)
                _flush(top / kind)
        for folder in (top, top.parent, self.root):
            if folder.is_dir():
                _flush(folder)

    def put_manifest(self, manifest: Manifest) -> None:
        """The last file of a backup; with it, there is one."""
        path = self.manifest_path(manifest.owner, manifest.backup_id)
        failpoints.hit("backup.before_manifest")
        self.put(path, write_manifest(manifest))
        for folder in (path.parent, path.parent.parent, self.root):
            _flush(folder)
        failpoints.hit("backup.after_manifest")

    def manifest(self, owner: str, backup_id: str) -> Manifest:
        """A backup's manifest.

        Raises:
            ServiceError: BACKUP_NOT_FOUND, BACKUP_CORRUPT.
        """
        path = self.manifest_path(owner, backup_id)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise not_found(backup_id) from None
        except OSError as error:
            raise corrupt(self.named(path), f"cannot be read: {error.strerror}") from error
        try:
            manifest = read_manifest(self.named(path), content)
            if (manifest.owner, manifest.backup_id) != (owner, backup_id):
                raise corrupt(self.named(path), "is the manifest of another backup")
        except ServiceError as error:
            self._damages.note_error(error)
            raise
        self.found_sound(path)
        return manifest

    def listed(self, owner: str) -> list[Listed]:
        """The backups of a tenant, or the operator's; the newest first."""
        found = []
        for path in self._owned(owner).glob("*.json"):
            with suppress(FileNotFoundError):
                try:
                    content = path.read_bytes()
                    manifest = read_manifest(self.named(path), content)
                except FileNotFoundError:
                    continue
                except (ServiceError, OSError):
                    manifest = None
                found.append(Listed(path.stem, manifest, path.stat().st_size))
        return sorted(found, key=lambda each: each.backup_id, reverse=True)

    def owners(self) -> list[str]:
        """Whose backups there may be; empty stands for the operator's."""
        return ["", *(_unsafe(path.name) for path in self._tenant_folders())]

    def remove_manifest(self, owner: str, backup_id: str) -> bool:
        """The first file of a backup to go; without it, there is none. Whether there was one."""
        path = self.manifest_path(owner, backup_id)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        self.found_sound(path)
        _flush(path.parent)
        failpoints.hit("backup.manifest_removed")
        return True

    def remove_unnamed(self) -> int:
        """Remove every file that no manifest names; bytes that are free now.

        While a manifest cannot be read nobody knows what it names: then nothing is removed of its
        tenant, or of any where it is the operator's.
        """
        unread = {owner for owner in self.owners() for each in self.listed(owner) if each.damaged}
        named = self.references()
        freed = 0
        for tenant in [_unsafe(path.name) for path in self._tenant_folders()]:
            if unread & {tenant, ""}:
                continue
            for kind, name, path in self.files(tenant):
                if (kind, name) not in named.get(tenant, ()):
                    freed += path.stat().st_size
                    path.unlink()
                    self.found_sound(path)
                    failpoints.hit("backup.chunk_removed")
            self._forget_empty(tenant)
        return freed

    def references(self) -> dict[str, set[tuple[str, str]]]:
        """Tenant → kind and name of each file that a manifest names."""
        named: dict[str, set[tuple[str, str]]] = {}
        for owner in self.owners():
            for listed in self.listed(owner):
                for part in listed.manifest.tenants if listed.manifest else ():
                    mine = named.setdefault(part.tenant, set())
                    mine.update((CHUNKS, file.name) for file in part.files())
        return named

    def files(self, tenant: str) -> Iterator[tuple[str, str, Path]]:
        """Kind, name and path of a tenant's chunks and blobs."""
        top = self.root / _TENANTS / _safe(tenant)
        for kind in (CHUNKS,):
            for path in sorted(top.glob(f"{kind}/*/*")):
                yield kind, path.name, path

    def remove_owner(self, tenant: str) -> None:
        """Remove a tenant's own backups; what the operator's name of it stays."""
        for listed in self.listed(tenant):
            self.remove_manifest(tenant, listed.backup_id)
        self.remove_unnamed()

    def forget_tenant(self, tenant: str) -> None:
        """Remove all files of a tenant that no manifest has a part of any more.

        Also where a damaged manifest might name some: it can be restored no more, and the tenant
        is to be gone.
        """
        if tenant not in self.references():
            shutil.rmtree(self.root / _TENANTS / _safe(tenant), ignore_errors=True)

    def _forget_empty(self, tenant: str) -> None:
        top = self.root / _TENANTS / _safe(tenant)
        for pattern in ("*/*", "*"):
            for folder in top.glob(pattern):
                with suppress(OSError):
                    folder.rmdir()
        with suppress(OSError):
            top.rmdir()

    def _owned(self, owner: str) -> Path:
        return self.root / _TENANTS / _safe(owner) if owner else self.root / _ALL

    def _tenant_folders(self) -> list[Path]:
        top = self.root / _TENANTS
        return sorted(path for path in top.iterdir() if path.is_dir()) if top.is_dir() else []


def write_manifest(manifest: Manifest) -> bytes:
    """A manifest as its file has it: a line of JSON, and the digest of that line."""
    body = msgspec.json.encode(manifest)
    return body + b"\n" + blake3(body).hexdigest().encode() + b"\n"


def read_manifest(file: str, content: bytes) -> Manifest:
    """From a manifest's file.

    Raises:
        ServiceError: BACKUP_CORRUPT.
    """
    body, _, digest = content.partition(b"\n")
    if digest != blake3(body).hexdigest().encode() + b"\n":
        raise corrupt(file, "fails its checksum")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.DecodeError as error:
        raise corrupt(file, f"cannot be read: {error}") from None
    if manifest.format > FORMAT:
        raise ServiceError(
            Reason.SCHEMA_TOO_NEW,
            f"The backup was made by a newer release (format {manifest.format}; this one reads up "
            f"to {FORMAT}).",
            found=manifest.format,
            supported=FORMAT,
        )
    return manifest


def _refused(error: OSError) -> Exception:
    return storage_full() if is_full(error) else error


def _take(root: Path) -> int:
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(PermissionError):  # a parent that is not ours to read was there before
            _flush(root.parent)
        lock = os.open(root / "LOCK", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _not_writable(root, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ServiceError(
            Reason.STORE_LOCKED,
            f"{root} is in use by another process; stop it or choose another folder of backups.",
            path=root,
        ) from error
    return lock


def _not_writable(root: Path, error: OSError) -> ServiceError:
    return ServiceError(
        Reason.STORE_NOT_WRITABLE,
        f"The folder of backups {root} cannot be used: {error}.",
        path=root,
    )


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safe(tenant: str) -> str:
    """A tenant as the name of a folder; a tenant's id is one already."""
    return _UNSAFE.sub(lambda found: "".join(f"%{byte:02x}" for byte in found[0].encode()), tenant)


def _unsafe(name: str) -> str:
    return re.sub(
        r"(?:%[0-9a-f]{2})+", lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), name
    )
