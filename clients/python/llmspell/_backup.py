"""BackupService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llmspell._backup_types import (
    Backup,
    BackupCheck,
    BackupDamage,
    BackupsCleanedUp,
    BackupUsage,
    Restored,
    RestoreDelta,
    TenantImport,
)
from llmspell._contract import Call, Exchange, Page
from llmspell._values import from_timestamp
from llmspell.v1 import backup_pb2 as pb

_PART_BYTES = 1024**2

BACKUP_TIMEOUT_S = 300.0
"""Also the most that a deployment allows; what has begun goes on behind it."""


def create_backup(*, full: bool) -> Call[Backup]:
    """Make one."""
    request = pb.CreateBackupRequest(full=full)
    return Call(request, lambda answer: _backup(answer.backup), BACKUP_TIMEOUT_S)


def list_backups() -> Call[Page[Backup]]:
    """A page of them, the newest first."""
    return Call(
        pb.ListBackupsRequest(),
        lambda answer: Page([_backup(each) for each in answer.backups], answer.next_page_token),
    )


def verify_backup(backup_id: str) -> Call[BackupCheck]:
    """Read all of one."""
    request = pb.VerifyBackupRequest(backup_id=backup_id)
    return Call(request, lambda answer: _check(backup_id, answer), BACKUP_TIMEOUT_S)


def delete_backup(backup_id: str) -> Call[bool]:
    """Remove one; whether there was one."""
    request = pb.DeleteBackupRequest(backup_id=backup_id)
    return Call(request, lambda answer: answer.deleted_count > 0, BACKUP_TIMEOUT_S)


def restore_backup(
    backup_id: str, *, dry_run: bool, backup_current: bool, include_system: bool
) -> Call[Restored]:
    """Go back to one."""
    request = pb.RestoreBackupRequest(
        backup_id=backup_id,
        dry_run=dry_run,
        skip_safety_backup=not backup_current,
        include_system=include_system,
    )
    return Call(
        request,
        lambda answer: _restored(backup_id, answer, dry_run=dry_run),
        BACKUP_TIMEOUT_S,
    )


def backup_usage() -> Call[BackupUsage]:
    """What they take."""
    return Call(pb.GetBackupUsageRequest(), _usage)


def clean_up_backups(*, dry_run: bool) -> Call[BackupsCleanedUp]:
    """Let go of old ones."""
    request = pb.CleanUpBackupsRequest(dry_run=dry_run)
    return Call(
        request,
        lambda answer: BackupsCleanedUp(list(answer.backup_ids), answer.freed_bytes),
        BACKUP_TIMEOUT_S,
    )


def export_tenant(*, include_sensitive: bool) -> Call[bytes | None]:
    """The archive, a piece at a time."""
    request = pb.ExportTenantRequest(include_sensitive=include_sensitive)
    return Call(request, lambda answer: answer.data)


def import_tenant(
    archive: Iterable[bytes], *, replace: bool, dry_run: bool
) -> Exchange[TenantImport]:
    """Make the tenant what an archive says."""
    return Exchange(
        pb.ImportTenantRequest,
        _parts(archive, replace=replace, dry_run=dry_run),
        lambda answer: _progress(answer, dry_run=dry_run),
    )


def _parts(
    archive: Iterable[bytes], *, replace: bool, dry_run: bool
) -> Iterator[pb.ImportTenantRequest]:
    for piece in archive:
        for begin in range(0, len(piece), _PART_BYTES):
            yield pb.ImportTenantRequest(
                data=piece[begin : begin + _PART_BYTES], replace=replace, dry_run=dry_run
            )


def _progress(answer: pb.ImportTenantResponse, *, dry_run: bool) -> TenantImport:
    result = None
    if answer.HasField("result"):
        result = _restored(answer.backup_id, answer.result, dry_run=dry_run)
    return TenantImport(answer.received_bytes, result)


def _backup(message: pb.Backup) -> Backup:
    return Backup(
        backup_id=message.backup_id,
        tenant_id=message.tenant_id,
        create_time=from_timestamp(message, "create_time"),
        revision=message.revision,
        full=message.full,
        encrypted=message.encrypted,
        tenant_count=message.tenant_count,
        record_count=message.record_count,
        plain_bytes=message.plain_bytes,
        stored_bytes=message.stored_bytes,
        written_bytes=message.written_bytes,
        damaged=message.damaged,
    )


def _check(backup_id: str, answer: pb.VerifyBackupResponse) -> BackupCheck:
    return BackupCheck(
        backup_id=backup_id,
        valid=answer.valid,
        damages=[BackupDamage(each.file, each.why) for each in answer.damages],
        chunk_count=answer.chunk_count,
        blob_count=answer.blob_count,
        stored_bytes=answer.stored_bytes,
    )


def _restored(backup_id: str, answer: pb.RestoreBackupResponse, *, dry_run: bool) -> Restored:
    return Restored(
        backup_id=backup_id,
        dry_run=dry_run,
        deltas=[_delta(each) for each in answer.deltas],
        safety_backup_id=answer.safety_backup_id,
        revision=answer.revision,
    )


def _delta(message: pb.RestoreDelta) -> RestoreDelta:
    return RestoreDelta(
        tenant_id=message.tenant_id,
        database=message.database,
        added_count=message.added_count,
        changed_count=message.changed_count,
        removed_count=message.removed_count,
        unchanged_count=message.unchanged_count,
        written_bytes=message.written_bytes,
    )


def _usage(answer: pb.GetBackupUsageResponse) -> BackupUsage:
    return BackupUsage(
        backup_count=answer.backup_count,
        file_count=answer.file_count,
        stored_bytes=answer.stored_bytes,
        plain_bytes=answer.plain_bytes,
    )
