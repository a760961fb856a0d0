"""Verifies backups and restores tenants from them.

A tenant that is being restored has a record in `restores` from before the first change until the
transaction that ends it. So a restore that was cut off is known, and gone on with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE
from services.common.store import View
from services.state import areas
from services.state.backup import restoring
from services.state.backup.blobs import BlobCare, keys_of
from services.state.backup.folder import BackupFolder
from services.state.backup.model import (
    Damage,
    Delta,
    Manifest,
    Restored,
    TenantDelta,
    TenantPart,
    Verified,
    corrupt,
    not_found,
)
from services.state.backup.restoring import Slice, slices_of
from services.state.backup.sealing import Sealing
from services.state.layout import ITEMS, RESTORES, SESSION_DUE, backups, tenant_prefix
from services.state.layout.items import ChangeKind, item_key
from services.state.layout.sessions import Due, due_key
from services.state.session_ends import forget_undone
from services.state.step import Keeper, Step

log = logging.getLogger(__name__)


class Restorer:
    """Reads from one folder into one keeper. Whoever uses it has the folder alone."""

    def __init__(
        self, keeper: Keeper, folder: BackupFolder, sealing: Sealing, care: BlobCare | None
    ) -> None:
        self._care = care
        self._keeper = keeper
        self._folder = folder
        self._sealing = sealing

    def verified(self, owner: str, backup_id: str) -> Verified:
        """Read every byte of a backup; what is damaged is told, not raised."""
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
        return list(restoring.damages_of(self._folder, part, self._sealing.open(part)))

    def check_sound(self, parts: Sequence[TenantPart]) -> None:
        """Read every byte of these parts.

        Raises:
            ServiceError: BACKUP_CORRUPT at the first that is not what it was.
        """
        for part in parts:
            for damage in restoring.damages_of(self._folder, part, self._sealing.open(part)):
                raise corrupt(damage.file, damage.why)

    async def compare(self, manifest: Manifest, parts: Sequence[TenantPart]) -> Restored:
        """What restoring these parts would change."""
        with self._keeper.engine.snapshot() as view:
            deltas = await asyncio.to_thread(lambda: [self._compared(view, part) for part in parts])
            revision = view.revision()
        return Restored(manifest.backup_id, deltas, "", revision)

    def _compared(self, view: View, part: TenantPart) -> TenantDelta:
        deltas = _Deltas(part.tenant)
        prefix = tenant_prefix(part.tenant)
        for each in slices_of(self._folder, part, self._sealing.open(part)):
            restoring.compare(view, each, prefix, deltas.of(each))
        return deltas.told()

    @asynccontextmanager
    async def refusing(self, tenants: Sequence[str]) -> AsyncIterator[Collection[str]]:
        """Refuse tenants that are about to be restored; what was under way is kept before.

        Whoever uses this restores them all, which ends that. Where it does not come to it, those
        of which nothing was changed are served again.
        """
        new = set(tenants) - self._keeper.restoring
        self._keeper.restoring.update(tenants)
        try:
            await self._keeper.step(lambda _: None)
            yield new
        except BaseException:
            with self._keeper.engine.read() as view:
                begun = {key.decode() for key in view.keys(RESTORES, b"")}
            self._keeper.restoring.difference_update(new - begun)
            raise

    async def restore(self, manifest: Manifest, part: TenantPart) -> TenantDelta:
        """Mark, replace, unmark; a crash in between is gone on with at the next start."""
        tenant = part.tenant
        self._keeper.restoring.add(tenant)
        try:
            await self._keeper.step(lambda step: _mark(step, tenant, manifest.backup_id))
        except BaseException:
            self._keeper.restoring.discard(tenant)
            raise
        failpoints.hit("restore.marked")
        deltas = await self._replace_all(part)
        revision_min = manifest.revision
        await self._keeper.step(
            lambda step: _finish(step, tenant, manifest.backup_id, revision_min)
        )
        failpoints.hit("restore.finished")
        self._keeper.restoring.discard(tenant)
        log.info("tenant restored", extra={"tenant": tenant, "backup_id": manifest.backup_id})
        return deltas

    async def _replace_all(self, part: TenantPart) -> TenantDelta:
        if self._care is None:
            return await self._replace(part)
        async with self._care.held(keys_of(part)):
            await self._care.put_back(self._folder, part, self._sealing.open(part))
            return await self._replace(part)

    async def _replace(self, part: TenantPart) -> TenantDelta:
        deltas = _Deltas(part.tenant)
        prefix = tenant_prefix(part.tenant)
        slices = slices_of(self._folder, part, self._sealing.open(part))
        while (each := await asyncio.to_thread(next, slices, None)) is not None:
            await self._replace_slice(each, prefix, deltas.of(each))
            failpoints.hit("restore.slice_written")
        await self._forget_undone(part.tenant)
        await self._keeper.step(partial(_go_on_erasing, part=part))
        for database in areas.CLEARED:
            await self._clear(database, prefix)
        return deltas.told()

    async def _replace_slice(self, part: Slice, prefix: bytes, delta: Delta) -> None:
        def drop(step: Step) -> bool:
            return restoring.drop_extra(step.txn.patient(), part, prefix, delta, now_ns=step.now_ns)

        def put(step: Step) -> None:
            restoring.put_rows(step.txn.patient(), part, delta, now_ns=step.now_ns)

        while await self._keeper.step(drop):
            pass
        if part.rows:
            await self._keeper.step(put, grows=True)

    async def _forget_undone(self, tenant: str) -> None:
        """Nobody may be told any more that a session has ended which goes on."""
        after: bytes | None = b""
        while after is not None:
            after = await self._keeper.step(partial(forget_undone, tenant=tenant, after=after))

    async def _clear(self, database: str, prefix: bytes) -> None:
        while await self._keeper.step(lambda step: restoring.clear(step.txn, database, prefix)):
            pass

    async def give_up(self, tenant: str) -> None:
        """Forget that a tenant is being restored; for who empties it."""
        await self._keeper.step(lambda step: _unmark(step, tenant))
        self._keeper.restoring.discard(tenant)


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


def parts_of(manifest: Manifest, tenant: str) -> list[TenantPart]:
    """What a backup has of a tenant, or of all where none is named.

    Raises:
        ServiceError: BACKUP_NOT_FOUND.
    """
    if not tenant:
        return manifest.tenants
    part = manifest.part(tenant)
    if part is None:
        raise not_found(manifest.backup_id)
    return [part]


def still_there(view: View, parts: Sequence[TenantPart]) -> list[TenantPart]:
    """The parts without who the tenants are, and without tenants that were deleted since.

    A store that has no list of tenants, as a new one, has none that was deleted.
    """
    there = item_key(SYSTEM_TENANT, TENANTS_SCOPE, "")
    if next(view.keys(ITEMS, there), None) is None:
        return [part for part in parts if part.tenant != SYSTEM_TENANT]
    return [part for part in parts if view.has(ITEMS, there + part.tenant.encode())]


def _mark(step: Step, tenant: str, backup_id: str) -> None:
    restoring_now = backups.Restoring(backup_id, step.now_ns)
    step.txn.put(RESTORES, tenant.encode(), backups.pack_restoring(restoring_now))


def _go_on_erasing(step: Step, part: TenantPart) -> None:
    """What was being erased when the backup was made is erased."""
    for session in part.erasing:
        step.txn.put(SESSION_DUE, due_key(Due.ERASE, 0, part.tenant, session), b"")


def _unmark(step: Step, tenant: str) -> None:
    step.txn.delete(RESTORES, tenant.encode())


def _finish(step: Step, tenant: str, backup_id: str, revision_min: int) -> int:
    _unmark(step, tenant)
    return step.begin_anew(ChangeKind.RESTORE, tenant, backup_id, revision_min=revision_min)
