"""Backups of the blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from llmspell import _backup
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class BackupCalls(BlockingCaller):
    """What a client does with backups of state: a tenant's; the operator's who names none, all."""

    def create_backup(self, *, full: bool = False) -> t.Backup:
        """Back up what is there now. What earlier backups have is not written again.

        Args:
            full: Write everything anew.
        """
        return self._unary(_backup.create_backup(full=full))

    def list_backups(self) -> Iterator[t.Backup]:
        """The backups, the newest first; pages come as they are needed."""
        return self._entries(_backup.list_backups())

    def verify_backup(self, backup_id: str) -> t.BackupCheck:
        """Read all of a backup, and tell what is damaged.

        Raises:
            NotFound: BACKUP_NOT_FOUND.
        """
        return self._unary(_backup.verify_backup(backup_id))

    def delete_backup(self, backup_id: str) -> bool:
        """Remove a backup; whether there was one."""
        return self._unary(_backup.delete_backup(backup_id))

    def restore_backup(
        self,
        backup_id: str,
        *,
        dry_run: bool = False,
        backup_current: bool = True,
        include_system: bool = False,
    ) -> t.Restored:
        """Make the tenant what it was when the backup was made; its other calls are refused.

        Args:
            backup_id: Which.
            dry_run: Only tell what would change.
            backup_current: Make a backup of what is there before.
            include_system: Where all tenants are restored: restore who they are, and their keys,
                too. A key that was revoked since is good again by it.

        Raises:
            NotFound: BACKUP_NOT_FOUND.
            DataLoss: BACKUP_CORRUPT; nothing was changed.
        """
        return self._unary(
            _backup.restore_backup(
                backup_id,
                dry_run=dry_run,
                backup_current=backup_current,
                include_system=include_system,
            )
        )

    def backup_usage(self) -> t.BackupUsage:
        """What the backups take on disk."""
        return self._unary(_backup.backup_usage())

    def clean_up_backups(self, *, dry_run: bool = False) -> t.BackupsCleanedUp:
        """Remove backups that are kept no longer, as the deployment's settings say."""
        return self._unary(_backup.clean_up_backups(dry_run=dry_run))

    def export_tenant(self, *, include_sensitive: bool = False) -> Generator[bytes, None, None]:
        """The tenant's state as a tar of JSON lines, a piece at a time: write them to a file.

        Args:
            include_sensitive: Write values that are marked as sensitive too, in clear.
        """
        return self._stream(_backup.export_tenant(include_sensitive=include_sensitive))

    def import_tenant(
        self, archive: Iterable[bytes], *, replace: bool = False, dry_run: bool = False
    ) -> Generator[t.TenantImport, None, None]:
        """Make the tenant what an archive says, all or nothing; the last progress has the result.

        Args:
            archive: Pieces of it, such as an open file's.
            replace: What the tenant has goes, after a backup of it.
            dry_run: Check everything, and only tell what would change.

        Raises:
            FailedPrecondition: TENANT_NOT_EMPTY.
            InvalidArgument: FIELD_INVALID that names the file and the line that is unfit.
        """
        return self._exchange(_backup.import_tenant(archive, replace=replace, dry_run=dry_run))
