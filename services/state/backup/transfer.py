"""Exports a tenant into an archive, and makes a tenant of one.

What comes in becomes a backup first, every line checked; then the tenant is restored from that. So
an import is all or nothing as a restore is, and goes on after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.errors import Reason, ServiceError
from services.common.store import is_full, storage_full
from services.state import areas
from services.state.backup.archive import Archive
from services.state.backup.aside import Aside
from services.state.backup.blobs import keys_in
from services.state.backup.desk import full_told
from services.state.backup.exporting import Export, export_tenant
from services.state.backup.journal_lines import Secret, call_form
from services.state.backup.making import Maker
from services.state.backup.model import FORMAT, Manifest, Restored
from services.state.backup.service import Backups, new_id
from services.state.layout import JOURNAL, tenant_prefix
from services.state.step import tenant_restoring


class Transfer:
    """Archives in and out, over the folder of backups."""

    def __init__(self, backups: Backups, *, tells_secret: Secret | None = None) -> None:
        """`tells_secret`: knows a call's messages; None: only their bytes are looked at."""
        self._forms = {} if tells_secret is None else {JOURNAL: call_form(tells_secret)}
        self._backups = backups
        self._keeper = backups.keeper

    @contextmanager
    def aside(self) -> Iterator[Aside]:
        """A file for an archive, gone in the end."""
        aside = Aside(self._backups.folder.aside())
        try:
            yield aside
        finally:
            aside.remove()

    @contextmanager
    def _desk(self) -> Iterator[Path]:
        path = self._backups.folder.aside()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def export_tenant(self, tenant: str, target: Aside, *, in_clear: bool = False) -> None:
        """Write a tenant as it is at one revision.

        Args:
            tenant: Which.
            target: The file.
            in_clear: Write what is marked as sensitive, and what looks like a credential, too.

        Raises:
            ServiceError: TENANT_RESTORING, STORAGE_FULL, RECORD_CORRUPT, ARTIFACT_CORRUPT.
        """
        await self._backups.alone(lambda: self._export(tenant, target, in_clear=in_clear))

    async def _export(self, tenant: str, target: Aside, *, in_clear: bool) -> None:
        if tenant in self._keeper.restoring:
            raise tenant_restoring(tenant)
        with self._keeper.engine.snapshot() as view:
            keys = keys_in(view, [tenant])
            export = Export(
                tenant=tenant,
                in_clear=in_clear,
                care=self._backups.blob_care,
                forms=self._forms,
            )
            async with self._backups.held(keys):
                try:
                    await asyncio.to_thread(export_tenant, view, export, target, self._backups.stop)
                except OSError as error:
                    raise storage_full() if is_full(error) else error from None

    async def import_tenant(
        self, tenant: str, source: Aside, *, replace: bool, dry_run: bool
    ) -> Restored:
        """Make a tenant what an archive says; the archive stays as a backup of it.

        Args:
            tenant: Which; the archive may be of another one.
            source: The archive.
            replace: Whether what the tenant has may go; a backup of it is made.
            dry_run: Check all of the archive, and only tell what would change.

        Raises:
            ServiceError: TENANT_NOT_EMPTY, STORAGE_FULL; FIELD_INVALID that names file and line.
        """

        async def run() -> Restored:
            if not replace:
                self._check_empty(tenant)  # before time is spent on the archive
            return await self._import(tenant, source, replace=replace, dry_run=dry_run)

        return await self._backups.alone(run)

    async def _import(
        self, tenant: str, source: Aside, *, replace: bool, dry_run: bool
    ) -> Restored:
        restorer, folder = self._backups.restorer, self._backups.folder
        try:
            with self._desk() as desk, full_told():
                manifest = await asyncio.to_thread(self._taken_in, tenant, source, desk)
            (part,) = manifest.tenants
            if dry_run:
                return await restorer.compare(manifest, [part])
            async with restorer.refusing([tenant]) as allowed:
                if not replace:
                    self._check_empty(tenant)
                safety = ""
                if not self._is_empty(tenant):
                    made = await self._backups.make(tenant, full=False, allowed=allowed)
                    safety = made.backup_id
                await asyncio.to_thread(folder.put_manifest, manifest)
                done = await restorer.restore(manifest, part)
        finally:
            await asyncio.to_thread(folder.remove_unnamed)
        return Restored(manifest.backup_id, [done], safety, await self._revision())

    def _check_empty(self, tenant: str) -> None:
        if not self._is_empty(tenant):
            raise ServiceError(
                Reason.TENANT_NOT_EMPTY,
                f"Tenant {tenant} has data already; import into an empty one, or replace it.",
                tenant_id=tenant,
            )

    def _taken_in(self, tenant: str, source: Aside, desk: Path) -> Manifest:
        """An archive's records as files of a backup, not named by a manifest yet."""
        archive = Archive(source, desk)
        maker = Maker(self._backups.folder, stop=self._backups.stop)
        try:
            found = {each.database: archive.records(each) for each in areas.KEPT}
            part = maker.part(tenant, found, *self._backups.key_for(tenant), strip=0)
            part = maker.taken_in(part, archive.blobs())
        finally:
            maker.close()
            archive.close()
        now_ns = self._backups.moment()
        return Manifest(
            format=FORMAT,
            backup_id=new_id(now_ns),
            owner=tenant,
            create_time_ns=now_ns,
            revision=archive.revision,
            full=False,
            tenants=[part],
            written_bytes=maker.written_bytes,
        )

    def _is_empty(self, tenant: str) -> bool:
        prefix = tenant_prefix(tenant)
        with self._keeper.engine.read() as view:
            return all(next(view.keys(each.database, prefix), None) is None for each in areas.KEPT)

    async def _revision(self) -> int:
        with self._keeper.engine.read() as view:
            return view.revision()
