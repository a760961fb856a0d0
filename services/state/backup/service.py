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
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from services.common.errors import Reason, ServiceError
from services.common.store import View
from services.state.backup.blobs import BlobCare, keys_in
from services.state.backup.calling import Callee, Caller, Plan
from services.state.backup.folder import BackupFolder
from services.state.backup.forgetting import Forgetting
from services.state.backup.making import Maker, tenants_of
from services.state.backup.model import (
    FORMAT,
    CleanedUp,
    Listed,
    Manifest,
    Restored,
    TenantPart,
    Usage,
    Verified,
    check_backup_id,
    not_found,
)
from services.state.backup.restorer import Restorer, parts_of, still_there
from services.state.backup.retention import Retention, files_of, outlived
from services.state.backup.sealing import Sealing
from services.state.blob_format import BlobKey
from services.state.keyring import Keyring
from services.state.layout import RESTORES, backups
from services.state.step import Keeper, tenant_restoring

log = logging.getLogger(__name__)

T = TypeVar("T")

_AGAIN_S = 5.0
"""How long a restore that could not go on waits for the next try."""
_OPEN = ("/llmspell.v1.BackupService/", "/llmspell.v1.StateService/PurgeState")
"""What may be asked of a tenant that is being restored."""


class Backups:
    """Backups of the tenants of one keeper."""

    def __init__(
        self,
        keeper: Keeper,
        folder: BackupFolder,
        *,
        retention: Retention | None = None,
        ring: Keyring | None = None,
        care: BlobCare | None = None,
    ) -> None:
        """`ring`: its master key encrypts backups. `care`: has the bytes of artifacts."""
        self.keeper = keeper
        self.folder = folder
        self.retention = retention or Retention()
        """Which backups are kept no longer."""
        self.days_of: Callable[[str, float], float] = lambda _, most: most
        """How old a tenant's backups may become, given what every owner's may; in days."""
        self.sealing = Sealing(ring)
        self.restorer = Restorer(keeper, folder, self.sealing, care)
        self.blob_care = care
        self._lock = asyncio.Lock()
        self._last_ns = 0
        self.stop = threading.Event()
        self.forgetting = Forgetting(folder, self.sealing, self.stop)
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
            manifest = await self.make(tenant, full=full)
            await self._retain(tenant)
            return manifest

        return await self.alone(run)

    async def listed(self, tenant: str, *, any_tenant: bool) -> Sequence[tuple[str, Listed]]:
        """Owner and backup, the newest first."""

        def read() -> list[tuple[str, Listed]]:
            owners = self._owners(tenant, any_tenant=any_tenant)
            found = [(owner, each) for owner in owners for each in self.folder.listed(owner)]
            return sorted(found, key=lambda each: each[1].backup_id, reverse=True)

        return await asyncio.to_thread(read)

    async def verify(self, tenant: str, backup_id: str, *, any_tenant: bool) -> Verified:
        """Read every byte of a backup.

        Raises:
            ServiceError: BACKUP_NOT_FOUND.
        """

        async def run() -> Verified:
            owner = await self._owner_of(tenant, backup_id, any_tenant=any_tenant)
            return await asyncio.to_thread(self.restorer.verified, owner, backup_id)

        return await self.alone(run)

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

        return await self.alone(run)

    async def restore(
        self,
        tenant: str,
        backup_id: str,
        *,
        any_tenant: bool,
        dry_run: bool = False,
        backup_current: bool = True,
        include_system: bool = False,
    ) -> Restored:
        """Make a tenant, or each that the backup has, what it was then.

        Every file is read before anything is changed. Tenants are refused from then on until they
        are restored, so that the backup made before has all that they had; others are served. What
        a crash or an error cuts off goes on by itself.

        Args:
            tenant: Which; empty: all of the backup.
            backup_id: To which backup.
            any_tenant: Whether the caller may act for every tenant.
            dry_run: Only tell what would change.
            backup_current: Make a backup before.
            include_system: With all of the backup, restore who the tenants are, and their keys;
                otherwise tenants that were deleted since stay so.

        Raises:
            ServiceError: BACKUP_NOT_FOUND, BACKUP_CORRUPT, STORAGE_FULL.
        """

        async def run() -> Restored:
            owner = await self._owner_of(tenant, backup_id, any_tenant=any_tenant)
            manifest = await asyncio.to_thread(self.folder.manifest, owner, backup_id)
            parts = parts_of(manifest, tenant)
            if not (tenant or include_system):
                with self.keeper.engine.read() as view:
                    parts = still_there(view, parts)
            await asyncio.to_thread(self.restorer.check_sound, parts)
            if dry_run:
                return await self.restorer.compare(manifest, parts)
            safety = ""
            async with self.restorer.refusing([part.tenant for part in parts]) as allowed:
                if backup_current:
                    made = await self.make(tenant or owner, full=False, allowed=allowed)
                    safety = made.backup_id
                done = [await self.restorer.restore(manifest, part) for part in parts]
            await self._retain(tenant or owner)
            with self.keeper.engine.read() as view:
                revision = view.revision()
            return Restored(backup_id, done, safety, revision)

        return await self.alone(run)

    async def usage(self, tenant: str, *, any_tenant: bool) -> Usage:
        """What the backups that the caller sees take on disk."""

        def read() -> Usage:
            owners = self._owners(tenant, any_tenant=any_tenant)
            found = [each for owner in owners for each in self.folder.listed(owner)]
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

        return await self.alone(run)

    async def care(self, interval_s: float) -> None:
        """Sweep at once and then every so many seconds, until cancelled; failures are logged."""
        while True:
            try:
                await self.sweep()
            except (ServiceError, OSError) as error:
                log.warning("backups were not swept", extra={"why": str(error)})
            await asyncio.sleep(min(interval_s, _AGAIN_S) if self.keeper.restoring else interval_s)

    def check_open(self, context: Caller, method: Callee) -> None:
        """Refuse calls of a tenant that is being restored, but for those on backups.

        Raises:
            ServiceError: TENANT_RESTORING.
        """
        if context.tenant in self.keeper.restoring and not method.path.startswith(_OPEN):
            raise tenant_restoring(context.tenant)

    async def sweep(self) -> None:
        """Go on with restores that were cut off, let go of old backups and of files without one."""
        await self.alone(self._resume)
        await self.alone(lambda: self._let_go(self.folder.owners(), dry_run=False))
        await self.alone(lambda: asyncio.to_thread(self._renew_keys))

    async def purge(self, tenant: str) -> None:
        """Remove a tenant's own backups; a restore of it that does not get on is given up.

        What the operator's backups have of it goes as well.
        """

        async def run() -> None:
            if tenant in self.keeper.restoring:
                await self.restorer.give_up(tenant)
            await asyncio.to_thread(self.folder.remove_owner, tenant)
            await asyncio.to_thread(self.forgetting.forget, tenant)

        await self.alone(run)

    def recover(self) -> None:
        """Refuse tenants whose restore was cut off. Before calls are served."""
        with self.keeper.engine.read() as view:
            for key in view.keys(RESTORES, b""):
                self.keeper.restoring.add(key.decode())

    async def close(self) -> None:
        """End what has begun, and let go of the folder. Safe to call twice."""
        self.stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.folder.close()

    # What works alone with the folder.

    def _copy_tenant(
        self, maker: Maker, view: View, tenant: str, keys: Sequence[BlobKey]
    ) -> TenantPart:
        part = maker.tenant(view, tenant, *self.key_for(tenant))
        mine = [key for key in keys if key.tenant == tenant]
        if self.blob_care is None or not mine:
            return part
        before = next((each.part(tenant) for each in self.manifests(tenant)), None)
        return maker.blobs(part, self.blob_care, before, mine)

    def held(self, keys: Sequence[BlobKey]) -> AbstractAsyncContextManager[None]:
        """While this is open none of the blobs is removed."""
        return nullcontext() if self.blob_care is None else self.blob_care.held(keys)

    def manifests(self, tenant: str) -> list[Manifest]:
        """Of every backup that has the tenant, the newest first."""
        listed = [*self.folder.listed(tenant), *self.folder.listed("")]
        listed.sort(key=lambda each: each.backup_id, reverse=True)
        found = [each.manifest for each in listed if each.manifest is not None]
        return [each for each in found if each.part(tenant) is not None]

    def key_for(self, tenant: str) -> tuple[bytes | None, str]:
        """The key of a new backup of a tenant, and as its manifest has it."""
        return self.sealing.key_for(tenant, self.manifests(tenant))

    def moment(self) -> int:
        """Now, later than for any other backup."""
        self._last_ns = max(self.keeper.time.now_ns(), self._last_ns + 1)
        return self._last_ns

    async def make(
        self, tenant: str, *, full: bool, allowed: Collection[str] = frozenset()
    ) -> Manifest:
        """Make a backup; for who is alone with the folder.

        Args:
            tenant: Of which; empty: of all.
            full: Write every file anew.
            allowed: Tenants that are refused, and yet whole.

        Raises:
            ServiceError: TENANT_RESTORING, STORAGE_FULL, RECORD_CORRUPT.
        """
        cut_off = self.keeper.restoring.difference(allowed)
        if tenant in cut_off or (cut_off and not tenant):
            raise tenant_restoring(tenant or min(cut_off))
        now_ns = self.moment()
        backup_id = new_id(now_ns)
        try:
            with self.keeper.engine.snapshot() as view:
                names = [tenant] if tenant else tenants_of(view)
                keys = keys_in(view, names)
                async with self.held(keys):
                    plan = Plan(tenant, backup_id, now_ns, full, names, keys)
                    manifest = await asyncio.to_thread(self._copy, view, plan)
            await asyncio.to_thread(self.folder.put_manifest, manifest)
        except (ServiceError, OSError):  # what it has written is of no backup, and takes room
            await asyncio.to_thread(self.folder.remove_unnamed)
            raise
        log.info("backup made", extra={"backup_id": backup_id, "bytes": manifest.stored_bytes()})
        return manifest

    def _copy(self, view: View, plan: Plan) -> Manifest:
        maker = Maker(self.folder, full=plan.full, stop=self.stop)
        try:
            parts = [self._copy_tenant(maker, view, name, plan.keys) for name in plan.names]
        finally:
            maker.close()
        return Manifest(
            format=FORMAT,
            backup_id=plan.backup_id,
            owner=plan.owner,
            create_time_ns=plan.now_ns,
            revision=view.revision(),
            full=plan.full,
            tenants=parts,
            written_bytes=maker.written_bytes,
        )

    async def _resume(self) -> None:
        """Go on with restores that were cut off; one that cannot is logged and tried again."""
        with self.keeper.engine.read() as view:
            cut_off = [
                (key.decode(), backups.unpack_restoring(stored).backup_id)
                for key, stored in view.scan(RESTORES, b"")
            ]
        for tenant, backup_id in cut_off:
            try:
                owner = await self._owner_of(tenant, backup_id, any_tenant=True)
                manifest = await asyncio.to_thread(self.folder.manifest, owner, backup_id)
                (part,) = parts_of(manifest, tenant)
                await asyncio.to_thread(self.restorer.check_sound, [part])
                await self.restorer.restore(manifest, part)
            except ServiceError as error:
                log.error(  # noqa: TRY400  (the message says it all)
                    "a restore that was cut off cannot go on",
                    extra={"tenant": tenant, "backup_id": backup_id, "why": error.message},
                )

    def _renew_keys(self) -> None:
        """Wrap keys of backups with the master key in force, before the one before it is gone."""
        for owner in self.folder.owners():
            for each in self.folder.listed(owner):
                renewed = self.sealing.renewed(each.manifest) if each.manifest else None
                if renewed is not None and renewed is not each.manifest:
                    self.folder.put_manifest(renewed)

    async def _retain(self, owner: str) -> None:
        """Let go of an owner's old backups; what fails is logged: the backup itself was made."""
        try:
            await self._let_go([owner], dry_run=False)
        except OSError as error:
            log.warning("old backups stay", extra={"why": str(error)})

    async def _let_go(self, owners: Sequence[str], *, dry_run: bool) -> CleanedUp:
        needed = self._needed()
        now_ns = self.keeper.time.now_ns()

        def run() -> CleanedUp:
            doomed = [
                (owner, each.backup_id)
                for owner in owners
                for each in outlived(
                    self.folder.listed(owner), self._retention_of(owner), now_ns, needed
                )
            ]
            freed = self._only_of(doomed)
            if not dry_run:
                self._remove(doomed)
            return CleanedUp([backup_id for _, backup_id in doomed], freed)

        return await asyncio.to_thread(run)

    def _retention_of(self, owner: str) -> Retention:
        if not owner:
            return self.retention
        return replace(self.retention, days=self.days_of(owner, self.retention.days))

    def _only_of(self, doomed: Sequence[tuple[str, str]]) -> int:
        """Bytes of the files that only these backups have."""
        gone: dict[tuple[str, str], int] = {}
        kept: set[tuple[str, str]] = set()
        for owner in self.folder.owners():
            for each in self.folder.listed(owner):
                if (owner, each.backup_id) in doomed:
                    gone |= files_of(each)
                else:
                    kept |= files_of(each).keys()
        return sum(size for name, size in gone.items() if name not in kept)

    def _remove(self, doomed: Sequence[tuple[str, str]]) -> bool:
        removed = [self.folder.remove_manifest(*each) for each in doomed]
        self.folder.remove_unnamed()
        return any(removed)

    def _needed(self) -> set[str]:
        """Ids of backups that a restore that has not ended reads from."""
        with self.keeper.engine.read() as view:
            found = [stored for _, stored in view.scan(RESTORES, b"")]
        return {backups.unpack_restoring(stored).backup_id for stored in found}

    def _owners(self, tenant: str, *, any_tenant: bool) -> list[str]:
        if not tenant:
            return self.folder.owners()
        return [tenant, ""] if any_tenant else [tenant]

    async def _owner_of(self, tenant: str, backup_id: str, *, any_tenant: bool) -> str:
        """Whose backup it is.

        Raises:
            ServiceError: BACKUP_NOT_FOUND, also where the caller may not see it.
        """
        check_backup_id(backup_id)
        owners = self._owners(tenant, any_tenant=any_tenant)
        for owner in owners:
            if self.folder.manifest_path(owner, backup_id).exists():
                return owner
        raise not_found(backup_id)

    async def alone(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do it when nobody else works with the folder; to its end, whoever waits for it."""

        async def run() -> T:
            async with self._lock:
                if self.stop.is_set():
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


def new_id(now_ns: int) -> str:
    """Ids come in the order of their times: the second, the nanoseconds in it, some chance."""
    second, rest = divmod(now_ns, 10**9)
    moment = datetime.fromtimestamp(second, UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{rest:08x}{secrets.token_hex(2)}"
