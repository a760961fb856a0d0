"""Backups of all tenants: made, listed, verified, restored, removed.

Whose backups a call sees: a tenant's, its own; the operator's who names a tenant, that tenant's and
those of all tenants; the operator's who names none, everybody's. One call at a time works with the
folder; others wait. What has begun goes on when its caller has left.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.store import View
from services.state import areas
from services.state.backup import restoring
from services.state.backup.folder import BackupFolder
from services.state.backup.making import Maker, tenants_of
from services.state.backup.model import (
    FORMAT,
    CleanedUp,
    Damage,
    Delta,
    Listed,
    Manifest,
    Restored,
    TenantDelta,
    TenantPart,
    Usage,
    Verified,
    check_backup_id,
    corrupt,
    not_found,
)
from services.state.backup.restoring import Slice, slices_of
from services.state.backup.retention import Retention, files_of, outlived
from services.state.layout import RESTORES, backups, tenant_prefix
from services.state.layout.items import ChangeKind
from services.state.step import Keeper, Step, tenant_restoring

log = logging.getLogger(__name__)

T = TypeVar("T")

_AGAIN_S = 5.0
"""How long a restore that could not go on waits for the next try."""
_OPEN = ("/llmspell.v1.BackupService/", "/llmspell.v1.StateService/PurgeState")
"""What may be asked of a tenant that is being restored."""


class Caller(Protocol):
    """Who calls."""

    @property
    def tenant(self) -> str:
        """For whom."""


class Callee(Protocol):
    """What is called."""

    @property
    def path(self) -> str:
        """As on the wire."""


class KeySealer(Protocol):
    """Keeps the keys of backups under a master key."""

    def seal_key(self, key: bytes) -> str:
        """The key as a manifest may have it."""

    def open_key(self, sealed: str) -> bytes:
        """The key again.

        Raises:
            ServiceError: it was sealed with another master key.
        """


class Backups:
    """Backups of the tenants of one keeper."""

    def __init__(
        self,
        keeper: Keeper,
        folder: BackupFolder,
        *,
        retention: Retention | None = None,
        sealer: KeySealer | None = None,
    ) -> None:
        """`sealer`: encrypts backups; None: they are not."""
        self._keeper = keeper
        self._folder = folder
        self.retention = retention or Retention()
        """Which backups are kept no longer."""
        self._sealer = sealer
        self._lock = asyncio.Lock()
        self._stop = threading.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def create(self, tenant: str, *, full: bool = False) -> Manifest:
        """Back up a tenant, or all where it is empty; then let go of what is kept no longer.

        Args:
            tenant: Whose records.
            full: Write every file anew, whatever is there.

        Raises:
            ServiceError: STORAGE_FULL, RECORD_CORRUPT, TENANT_RESTORING.
        """

        async def run() -> Manifest:
            manifest = await self._make(tenant, full=full)
            await self._retain(tenant)
            return manifest

        return await self._alone(run)

    async def list(self, tenant: str, *, any_tenant: bool) -> Sequence[tuple[str, Listed]]:
        """Owner and backup, the newest first."""

        def read() -> list[tuple[str, Listed]]:
            owners = self._owners(tenant, any_tenant=any_tenant)
            found = [(owner, each) for owner in owners for each in self._folder.list(owner)]
            return sorted(found, key=lambda each: each[1].backup_id, reverse=True)

        return await asyncio.to_thread(read)

    async def verify(self, tenant: str, backup_id: str, *, any_tenant: bool) -> Verified:
        """Read every byte of a backup.

        Raises:
            ServiceError: BACKUP_NOT_FOUND.
        """

        async def run() -> Verified:
            owner = await self._owner_of(tenant, backup_id, any_tenant=any_tenant)
            return await asyncio.to_thread(self._verified, owner, backup_id)

        return await self._alone(run)

    async def delete(self, tenant: str, backup_id: str, *, any_tenant: bool) -> bool:
        """Remove a backup, and the files that only it has; whether there was one.

        Raises:
            ServiceError: TENANT_RESTORING where a restore of it has not ended.
        """

        async def run() -> bool:
            try:
                owner = await self._owner_of(tenant, backup_id, any_tenant=any_tenant)
            except ServiceError as error:
                if error.reason == Reason.BACKUP_NOT_FOUND:
                    return False
                raise
            if backup_id in self._needed():
                raise tenant_restoring(owner or tenant)
            return await asyncio.to_thread(self._remove, [(owner, backup_id)])

        return await self._alone(run)

    async def restore(
        self,
        tenant: str,
        backup_id: str,
        *,
        any_tenant: bool,
        dry_run: bool = False,
        backup_current: bool = True,
    ) -> Restored:
        """Make a tenant, or each that the backup has, what it was then.

        Every file is read before anything is changed. A tenant is refused from its first change to
        its last; others are served. What a crash or an error cuts off goes on by itself.

        Args:
            tenant: Which; empty: all of the backup.
            backup_id: To which backup.
            any_tenant: Whether the caller may act for every tenant.
            dry_run: Only tell what would change.
            backup_current: Make a backup before.

        Raises:
            ServiceError: BACKUP_NOT_FOUND, BACKUP_CORRUPT, STORAGE_FULL.
        """

        async def run() -> Restored:
            owner = await self._owner_of(tenant, backup_id, any_tenant=any_tenant)
            manifest = await asyncio.to_thread(self._folder.manifest, owner, backup_id)
            parts = _parts(manifest, tenant)
            await asyncio.to_thread(self._check_sound, parts)
            if dry_run:
                return await self._compare(manifest, parts)
            safety = ""
            if backup_current:
                safety = (await self._make(tenant or owner, full=False)).backup_id
            done = [await self._restore(manifest, part) for part in parts]
            await self._retain(tenant or owner)
            return Restored(backup_id, False, done, safety, await self._revision())

        return await self._alone(run)

    async def usage(self, tenant: str, *, any_tenant: bool) -> Usage:
        """What the backups that the caller sees take on disk."""

        def read() -> Usage:
            owners = self._owners(tenant, any_tenant=any_tenant)
            found = [each for owner in owners for each in self._folder.list(owner)]
            files: dict[tuple[str, str], int] = {}
            for each in found:
                files |= files_of(each)
            return Usage(
                backup_count=len(found),
                file_count=len(files),
                stored_bytes=sum(files.values()) + sum(each.size_bytes for each in found),
                plain_bytes=sum(each.manifest.plain_bytes() for each in found if each.manifest),
            )

        return await asyncio.to_thread(read)

    async def clean_up(self, tenant: str, *, any_tenant: bool, dry_run: bool) -> CleanedUp:
        """Let go of backups that are kept no longer."""

        async def run() -> CleanedUp:
            owners = self._owners(tenant, any_tenant=any_tenant)
            return await self._let_go(owners, dry_run=dry_run)

        return await self._alone(run)

    async def care(self, interval_s: float) -> None:
        """Sweep at once and then every so many seconds, until cancelled; failures are logged."""
        while True:
            try:
                await self.sweep()
            except (ServiceError, OSError) as error:
                log.warning("backups were not swept", extra={"why": str(error)})
            await asyncio.sleep(min(interval_s, _AGAIN_S) if self._keeper.restoring else interval_s)

    def check_open(self, context: Caller, method: Callee) -> None:
        """Refuse calls of a tenant that is being restored, but for those on backups.

        Raises:
            ServiceError: TENANT_RESTORING.
        """
        if context.tenant in self._keeper.restoring and not method.path.startswith(_OPEN):
            raise tenant_restoring(context.tenant)

    async def sweep(self) -> None:
        """Go on with restores that were cut off, let go of old backups and of files without one."""
        await self._alone(self._resume)
        await self._alone(lambda: self._let_go(self._folder.owners(), dry_run=False))

    async def purge(self, tenant: str) -> None:
        """Remove a tenant's own backups; a restore of it that does not get on is given up.

        What the operator's backups have of it stays until they go.
        """

        async def run() -> None:
            if tenant in self._keeper.restoring:
                await self._keeper.step(lambda step: _unmark(step, tenant))
                self._keeper.restoring.discard(tenant)
            await asyncio.to_thread(self._folder.remove_owner, tenant)

        await self._alone(run)

    def recover(self) -> None:
        """Refuse tenants whose restore was cut off. Before calls are served."""
        with self._keeper.engine.read() as view:
            for key in view.keys(RESTORES, b""):
                self._keeper.restoring.add(key.decode())

    async def close(self) -> None:
        """End what has begun, and let go of the folder. Safe to call twice."""
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.close()

    # What works alone with the folder.

    async def _make(self, tenant: str, *, full: bool) -> Manifest:
        if tenant in self._keeper.restoring:
            raise tenant_restoring(tenant)
        if self._keeper.restoring and not tenant:
            raise tenant_restoring(min(self._keeper.restoring))
        now_ns = self._keeper.time.now_ns()
        backup_id = _new_id(now_ns)
        with self._keeper.engine.snapshot() as view:
            manifest = await asyncio.to_thread(
                self._copy, view, tenant, full=full, backup_id=backup_id, now_ns=now_ns
            )
        await asyncio.to_thread(self._folder.put_manifest, manifest)
        log.info("backup made", extra={"backup_id": backup_id, "bytes": manifest.stored_bytes()})
        return manifest

    def _copy(
        self, view: View, owner: str, *, full: bool, backup_id: str, now_ns: int
    ) -> Manifest:
        maker = Maker(view, self._folder, full=full, stop=self._stop)
        try:
            names = [owner] if owner else tenants_of(view)
            parts = [self._copy_tenant(maker, name) for name in names]
        finally:
            maker.close()
        return Manifest(
            format=FORMAT,
            backup_id=backup_id,
            owner=owner,
            create_time_ns=now_ns,
            revision=view.revision(),
            full=full,
            tenants=parts,
            written_bytes=maker.written_bytes,
        )

    def _copy_tenant(self, maker: Maker, tenant: str) -> TenantPart:
        return maker.tenant(tenant, None)

    def _verified(self, owner: str, backup_id: str) -> Verified:
        try:
            manifest = self._folder.manifest(owner, backup_id)
        except ServiceError as error:
            if error.reason != Reason.BACKUP_CORRUPT:
                raise
            return Verified(backup_id, 0, 0, 0, [Damage(error.metadata["file"], error.message)])
        parts = manifest.tenants
        damages = [d for part in parts for d in self._damages(part)]
        return Verified(
            backup_id,
            chunk_count=sum(len(db.chunks) for part in parts for db in part.databases),
            blob_count=sum(len(part.blobs) for part in parts),
            stored_bytes=manifest.stored_bytes(),
            damages=damages,
        )

    def _damages(self, part: TenantPart) -> list[Damage]:
        return list(restoring.damages_of(self._folder, part, self._key_of(part)))

    def _check_sound(self, parts: Sequence[TenantPart]) -> None:
        for part in parts:
            for damage in restoring.damages_of(self._folder, part, self._key_of(part)):
                raise corrupt(damage.file, f"is damaged: {damage.why}")

    def _key_of(self, part: TenantPart) -> bytes | None:
        if not part.sealed_key:
            return None
        assert self._sealer is not None
        return self._sealer.open_key(part.sealed_key)

    async def _compare(self, manifest: Manifest, parts: Sequence[TenantPart]) -> Restored:
        with self._keeper.engine.snapshot() as view:
            deltas = await asyncio.to_thread(
                lambda: [self._compared(view, part) for part in parts]
            )
            revision = view.revision()
        return Restored(manifest.backup_id, True, deltas, "", revision)

    def _compared(self, view: View, part: TenantPart) -> TenantDelta:
        deltas = _Deltas(part.tenant)
        prefix = tenant_prefix(part.tenant)
        for each in slices_of(self._folder, part, self._key_of(part)):
            restoring.compare(view, each, prefix, deltas.of(each))
        return deltas.told()

    async def _restore(self, manifest: Manifest, part: TenantPart) -> TenantDelta:
        """Mark, replace, unmark; a crash in between is gone on with at the next start."""
        tenant = part.tenant
        self._keeper.restoring.add(tenant)
        try:
            await self._keeper.step(lambda step: _mark(step, tenant, manifest.backup_id))
        except BaseException:
            self._keeper.restoring.discard(tenant)
            raise
        failpoints.hit("restore.marked")
        deltas = await self._replace(part)
        revision_min = manifest.revision
        await self._keeper.step(
            lambda step: _finish(step, tenant, manifest.backup_id, revision_min)
        )
        failpoints.hit("restore.finished")
        self._keeper.restoring.discard(tenant)
        log.info("tenant restored", extra={"tenant": tenant, "backup_id": manifest.backup_id})
        return deltas

    async def _replace(self, part: TenantPart) -> TenantDelta:
        deltas = _Deltas(part.tenant)
        prefix = tenant_prefix(part.tenant)
        slices = slices_of(self._folder, part, self._key_of(part))
        while (each := await asyncio.to_thread(next, slices, None)) is not None:
            await self._replace_slice(each, prefix, deltas.of(each))
            failpoints.hit("restore.slice_written")
        for database in areas.CLEARED:
            await self._clear(database, prefix)
        return deltas.told()

    async def _replace_slice(self, part: Slice, prefix: bytes, delta: Delta) -> None:
        def drop(step: Step) -> bool:
            return restoring.drop_extra(step.txn.patient(), part, prefix, delta)

        while await self._keeper.step(drop):
            pass
        if part.rows:
            await self._keeper.step(
                lambda step: restoring.put_rows(step.txn.patient(), part, delta), grows=True
            )

    async def _clear(self, database: str, prefix: bytes) -> None:
        while await self._keeper.step(lambda step: restoring.clear(step.txn, database, prefix)):
            pass

    async def _resume(self) -> None:
        """Go on with restores that were cut off; one that cannot is logged and tried again."""
        with self._keeper.engine.read() as view:
            cut_off = [
                (key.decode(), backups.unpack_restoring(stored).backup_id)
                for key, stored in view.scan(RESTORES, b"")
            ]
        for tenant, backup_id in cut_off:
            try:
                owner = await self._owner_of(tenant, backup_id, any_tenant=True)
                manifest = await asyncio.to_thread(self._folder.manifest, owner, backup_id)
                (part,) = _parts(manifest, tenant)
                await asyncio.to_thread(self._check_sound, [part])
                await self._restore(manifest, part)
            except ServiceError as error:
                log.error(  # noqa: TRY400  (the message says it all)
                    "a restore that was cut off cannot go on",
                    extra={"tenant": tenant, "backup_id": backup_id, "why": error.message},
                )

    async def _retain(self, owner: str) -> None:
        """Let go of an owner's old backups; what fails is logged: the backup itself was made."""
        try:
            await self._let_go([owner], dry_run=False)
        except OSError as error:
            log.warning("old backups stay", extra={"why": str(error)})

    async def _let_go(self, owners: Sequence[str], *, dry_run: bool) -> CleanedUp:
        needed = self._needed()
        now_ns = self._keeper.time.now_ns()

        def run() -> CleanedUp:
            doomed = [
                (owner, each.backup_id)
                for owner in owners
                for each in outlived(self._folder.list(owner), self.retention, now_ns, needed)
            ]
            freed = self._only_of(doomed)
            if not dry_run:
                self._remove(doomed)
            return CleanedUp([backup_id for _, backup_id in doomed], freed)

        return await asyncio.to_thread(run)

    def _only_of(self, doomed: Sequence[tuple[str, str]]) -> int:
        """Bytes of the files that only these backups have."""
        gone: dict[tuple[str, str], int] = {}
        kept: set[tuple[str, str]] = set()
        for owner in self._folder.owners():
            for each in self._folder.list(owner):
                if (owner, each.backup_id) in doomed:
                    gone |= files_of(each)
                else:
                    kept |= files_of(each).keys()
        return sum(size for name, size in gone.items() if name not in kept)

    def _remove(self, doomed: Sequence[tuple[str, str]]) -> bool:
        removed = [self._folder.remove_manifest(*each) for each in doomed]
        self._folder.remove_unnamed()
        return any(removed)

    def _needed(self) -> set[str]:
        """Ids of backups that a restore that has not ended reads from."""
        with self._keeper.engine.read() as view:
            found = [stored for _, stored in view.scan(RESTORES, b"")]
        return {backups.unpack_restoring(stored).backup_id for stored in found}

    def _owners(self, tenant: str, *, any_tenant: bool) -> list[str]:
        if not tenant:
            return self._folder.owners()
        return [tenant, ""] if any_tenant else [tenant]

    async def _owner_of(self, tenant: str, backup_id: str, *, any_tenant: bool) -> str:
        """Whose backup it is.

        Raises:
            ServiceError: BACKUP_NOT_FOUND, also where the caller may not see it.
        """
        check_backup_id(backup_id)
        owners = self._owners(tenant, any_tenant=any_tenant)
        for owner in owners:
            if self._folder.manifest_path(owner, backup_id).exists():
                return owner
        raise not_found(backup_id)

    async def _revision(self) -> int:
        with self._keeper.engine.read() as view:
            return view.revision()

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do it when nobody else works with the folder; to its end, whoever waits for it."""

        async def run() -> T:
            async with self._lock:
                if self._stop.is_set():
                    raise ServiceError(Reason.SERVICE_UNAVAILABLE, "The process is stopping.")
                return await work()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked for it may have left


class _Deltas:
    """Counts of one tenant, by database."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._deltas: dict[str, Delta] = {}

    def of(self, part: Slice) -> Delta:
        """Where a slice's are counted."""
        name = part.records.database
        return self._deltas.setdefault(name, Delta(name))

    def told(self) -> TenantDelta:
        """All of them."""
        return TenantDelta(self._tenant, list(self._deltas.values()))


def _parts(manifest: Manifest, tenant: str) -> list[TenantPart]:
    if not tenant:
        return manifest.tenants
    part = manifest.part(tenant)
    if part is None:
        raise not_found(manifest.backup_id)
    return [part]


def _mark(step: Step, tenant: str, backup_id: str) -> None:
    restoring_now = backups.Restoring(backup_id, step.now_ns)
    step.txn.put(RESTORES, tenant.encode(), backups.pack_restoring(restoring_now))


def _unmark(step: Step, tenant: str) -> None:
    step.txn.delete(RESTORES, tenant.encode())


def _finish(step: Step, tenant: str, backup_id: str, revision_min: int) -> int:
    _unmark(step, tenant)
    return step.begin_anew(ChangeKind.RESTORE, tenant, backup_id, revision_min=revision_min)


def _new_id(now_ns: int) -> str:
    """Ids come in the order of their times: the second, the nanoseconds in it, some chance."""
    second, rest = divmod(now_ns, 10**9)
    moment = datetime.fromtimestamp(second, UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{rest:08x}{secrets.token_hex(2)}"
