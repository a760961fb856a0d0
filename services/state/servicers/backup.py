"""BackupService: messages to values, one call of the backups, values to messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from llmspell.v1 import backup_pb2, backup_pb2_grpc

from services.common.context import current_context, current_tenant
from services.common.paging import PageTokens, page_size
from services.state.backup.model import Listed, Restored
from services.state.backup.service import Backups
from services.state.backup.transfer import Transfer
from services.state.servicers.journal_privacy import tells_secret

_DAMAGES_TOLD = 100
_PIECE_BYTES = 1024**2


class BackupServicer(backup_pb2_grpc.BackupServiceServicer):
    """Answers from one folder of backups."""

    def __init__(self, backups: Backups, page_tokens: PageTokens) -> None:
        self._backups = backups
        self._transfer = Transfer(backups, tells_secret=tells_secret)
        self._page_tokens = page_tokens

    async def CreateBackup(  # noqa: N802  (the contract's name)
        self, request: backup_pb2.CreateBackupRequest, context: object
    ) -> backup_pb2.CreateBackupResponse:
        """Make one."""
        del context
        tenant = current_tenant()
        manifest = await self._backups.create(tenant, full=request.full)
        listed = Listed(manifest.backup_id, manifest)
        return backup_pb2.CreateBackupResponse(backup=_backup(tenant, listed))

    async def ListBackups(  # noqa: N802
        self, request: backup_pb2.ListBackupsRequest, context: object
    ) -> backup_pb2.ListBackupsResponse:
        """A page of them."""
        del context
        caller = current_context()
        limit = page_size(request.page_size)
        bound_to = f"ListBackups\0{caller.tenant}"
        before = ""
        if request.page_token:
            before = self._page_tokens.open(request.page_token, bound_to).decode()
        found = await self._backups.listed(caller.tenant, any_tenant=caller.any_tenant)
        rest = [each for each in found if not before or each[1].backup_id < before]
        answer = backup_pb2.ListBackupsResponse(
            backups=[_backup(owner, listed) for owner, listed in rest[:limit]]
        )
        if len(rest) > limit:
            cursor = rest[limit - 1][1].backup_id.encode()
            answer.next_page_token = self._page_tokens.seal(bound_to, cursor)
        return answer

    async def VerifyBackup(  # noqa: N802
        self, request: backup_pb2.VerifyBackupRequest, context: object
    ) -> backup_pb2.VerifyBackupResponse:
        """Read all of it."""
        del context
        caller = current_context()
        found = await self._backups.verify(
            caller.tenant, request.backup_id, any_tenant=caller.any_tenant
        )
        return backup_pb2.VerifyBackupResponse(
            valid=not found.damages,
            damages=[
                backup_pb2.BackupDamage(file=damage.file, why=damage.why)
                for damage in found.damages[:_DAMAGES_TOLD]
            ],
            chunk_count=found.chunk_count,
            blob_count=found.blob_count,
            stored_bytes=found.stored_bytes,
        )

    async def DeleteBackup(  # noqa: N802
        self, request: backup_pb2.DeleteBackupRequest, context: object
    ) -> backup_pb2.DeleteBackupResponse:
        """Remove one."""
        del context
        caller = current_context()
        deleted = await self._backups.delete(
            caller.tenant, request.backup_id, any_tenant=caller.any_tenant
        )
        return backup_pb2.DeleteBackupResponse(deleted_count=int(deleted))

    async def RestoreBackup(  # noqa: N802
        self, request: backup_pb2.RestoreBackupRequest, context: object
    ) -> backup_pb2.RestoreBackupResponse:
        """Go back to one."""
        del context
        caller = current_context()
        restored = await self._backups.restore(
            caller.tenant,
            request.backup_id,
            any_tenant=caller.any_tenant,
            dry_run=request.dry_run,
            backup_current=not request.skip_safety_backup,
            include_system=request.include_system,
        )
        return _restored(restored)

    async def GetBackupUsage(  # noqa: N802
        self, request: backup_pb2.GetBackupUsageRequest, context: object
    ) -> backup_pb2.GetBackupUsageResponse:
        """What they take."""
        del request, context
        caller = current_context()
        usage = await self._backups.usage(caller.tenant, any_tenant=caller.any_tenant)
        return backup_pb2.GetBackupUsageResponse(
            backup_count=usage.backup_count,
            file_count=usage.file_count,
            stored_bytes=usage.stored_bytes,
            plain_bytes=usage.plain_bytes,
        )

    async def CleanUpBackups(  # noqa: N802
        self, request: backup_pb2.CleanUpBackupsRequest, context: object
    ) -> backup_pb2.CleanUpBackupsResponse:
        """Let go of old ones."""
        del context
        caller = current_context()
        cleaned = await self._backups.clean_up(
            caller.tenant, any_tenant=caller.any_tenant, dry_run=request.dry_run
        )
        return backup_pb2.CleanUpBackupsResponse(
            backup_ids=cleaned.backup_ids, freed_bytes=cleaned.freed_bytes
        )

    async def ExportTenant(  # noqa: N802
        self, request: backup_pb2.ExportTenantRequest, context: object
    ) -> AsyncGenerator[backup_pb2.ExportTenantResponse, None]:
        """The archive, a piece at a time."""
        del context
        with self._transfer.aside() as aside:
            await self._transfer.export_tenant(
                current_tenant(), aside, in_clear=request.include_sensitive
            )
            total = aside.size
            with aside.reading() as archive:
                while data := await asyncio.to_thread(archive.read, _PIECE_BYTES):
                    yield backup_pb2.ExportTenantResponse(data=data, total_bytes=total)

    async def ImportTenant(  # noqa: N802
        self, requests: AsyncIterator[backup_pb2.ImportTenantRequest], context: object
    ) -> AsyncGenerator[backup_pb2.ImportTenantResponse, None]:
        """The archive comes first, whole; then it is taken in."""
        del context
        replace = dry_run = False
        received = 0
        with self._transfer.aside() as aside:
            with aside.writing() as archive:
                async for request in requests:
                    if not received:
                        replace, dry_run = request.replace, request.dry_run
                    await asyncio.to_thread(archive.write, request.data)
                    received += len(request.data)
                    yield backup_pb2.ImportTenantResponse(received_bytes=received)
            done = await self._transfer.import_tenant(
                current_tenant(), aside, replace=replace, dry_run=dry_run
            )
        yield backup_pb2.ImportTenantResponse(
            received_bytes=received,
            result=_restored(done),
            backup_id="" if dry_run else done.backup_id,
        )


def _restored(done: Restored) -> backup_pb2.RestoreBackupResponse:
    return backup_pb2.RestoreBackupResponse(
        deltas=_deltas(done), safety_backup_id=done.safety_backup_id, revision=done.revision
    )


def _backup(owner: str, listed: Listed) -> backup_pb2.Backup:
    manifest = listed.manifest
    if manifest is None:
        return backup_pb2.Backup(backup_id=listed.backup_id, tenant_id=owner, damaged=True)
    message = backup_pb2.Backup(
        backup_id=manifest.backup_id,
        tenant_id=manifest.owner,
        revision=manifest.revision,
        full=manifest.full,
        encrypted=any(part.sealed_key for part in manifest.tenants),
        tenant_count=len(manifest.tenants),
        record_count=sum(part.record_count() for part in manifest.tenants),
        plain_bytes=manifest.plain_bytes(),
        stored_bytes=manifest.stored_bytes(),
        written_bytes=manifest.written_bytes,
    )
    message.create_time.FromNanoseconds(manifest.create_time_ns)
    return message


def _deltas(restored: Restored) -> list[backup_pb2.RestoreDelta]:
    return [
        backup_pb2.RestoreDelta(
            tenant_id=tenant.tenant,
            database=delta.database,
            added_count=delta.added,
            changed_count=delta.changed,
            removed_count=delta.removed,
            unchanged_count=delta.unchanged,
            written_bytes=delta.written_bytes,
        )
        for tenant in restored.tenants
        for delta in tenant.databases
    ]
