"""What goes on beside the clients: a migration in one round, a backup in the next."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from llmspell.v1 import backup_pb2, migration_pb2, state_pb2

from tests.crash.ledgers.items import listed
from tests.crash.ledgers.ledger import Stubs, UnknownError, answered, caller

SCOPE = "custom:orders"
ITEMS = 120
WAIT_S = 20
BACKUPS_KEPT = 2


@dataclass
class Orders:
    """Items of a tenant, all of one form, which each migration makes the next one."""

    tenant: str
    version: int = -1
    """-1: there are none yet."""
    started: bool = False
    """Whether the migration to the next version was answered."""
    asked: bool = False

    def __post_init__(self) -> None:
        """Seal the tenant's calls once."""
        self.metadata = caller(self.tenant)

    def form(self, version: int) -> dict[str, Any]:
        """All items at a version."""
        return {f"o{n}": {f"f{version}": n, "text": "t" * 200} for n in range(ITEMS)}

    async def prepare(self, stubs: Stubs) -> None:
        """Write them."""
        request = state_pb2.BatchStateRequest()
        for key, value in self.form(0).items():
            request.writes.add(scope=SCOPE, key=key).set.json = json.dumps(value)
        await stubs.state.BatchState(request, metadata=self.metadata)
        await self._put(stubs, 0)
        self.version = 0

    async def _put(self, stubs: Stubs, version: int) -> None:
        request = migration_pb2.PutSchemaRequest(name="orders", scope_pattern=SCOPE)
        request.version.version = f"1.{version}.0"
        if version:
            rename = request.version.transforms.add().rename
            rename.source, rename.target = f"f{version - 1}", f"f{version}"
        await answered(stubs.migrations.PutSchema(request, metadata=self.metadata))

    async def run(self, stubs: Stubs) -> None:
        """Begin the next migration, with a backup first in every other round."""
        try:
            await self._put(stubs, self.version + 1)
            request = migration_pb2.StartMigrationRequest(
                schema="orders", skip_backup=self.version % 2 == 0
            )
            self.asked = True
            await answered(stubs.migrations.StartMigration(request, metadata=self.metadata))
            self.started = True
        except UnknownError:
            return

    async def check(self, stubs: Stubs) -> None:
        """One that was begun has come to its end since, or has not begun; nothing is between."""
        if self.version < 0:
            await self.prepare(stubs)
            return
        request = migration_pb2.ListMigrationsRequest(page_size=100)
        page = await stubs.migrations.ListMigrations(request, metadata=self.metadata)
        target = f"1.{self.version + 1}.0"
        begun = [each for each in page.migrations if each.to_version == target]
        assert begun or not self.started, f"{self.tenant}: a migration that was begun is not known"
        assert self.asked or not begun
        if begun:
            await self._await_end(stubs, begun[0].migration_id)
            self.version += 1
        self.asked = self.started = False
        texts = await listed(stubs, self.metadata, SCOPE)
        found = {key: json.loads(text) for key, text in texts.items()}
        assert found == self.form(self.version), f"{self.tenant}: items of another version"

    async def _await_end(self, stubs: Stubs, migration_id: str) -> None:
        request = migration_pb2.GetMigrationRequest(migration_id=migration_id)
        request.wait.FromSeconds(WAIT_S)
        answer = await stubs.migrations.GetMigration(request, metadata=self.metadata)
        assert answer.migration.status == migration_pb2.MIGRATION_STATUS_COMPLETED, answer
        assert answer.migration.items_done == ITEMS


@dataclass
class Copies:
    """Backups of a tenant."""

    tenant: str
    known: set[str] = field(default_factory=set)
    """Those that were answered, and not deleted."""

    def __post_init__(self) -> None:
        """Seal the tenant's calls once."""
        self.metadata = caller(self.tenant)

    async def run(self, stubs: Stubs) -> None:
        """Make them, and delete some, until the process is gone."""
        try:
            while True:
                request = backup_pb2.CreateBackupRequest()
                made = stubs.backups.CreateBackup(request, metadata=self.metadata, timeout=20)
                self.known.add((await answered(made)).backup.backup_id)
                if len(self.known) > BACKUPS_KEPT:
                    delete = backup_pb2.DeleteBackupRequest(backup_id=self.known.pop())
                    await answered(stubs.backups.DeleteBackup(delete, metadata=self.metadata))
        except UnknownError:
            return

    async def check(self, stubs: Stubs) -> None:
        """Those that were answered are there; the newest is whole; then most are deleted."""
        request = backup_pb2.ListBackupsRequest(page_size=100)
        page = await stubs.backups.ListBackups(request, metadata=self.metadata)
        found = [each.backup_id for each in page.backups]
        assert self.known <= set(found), f"{self.tenant}: a backup is lost"
        assert not any(each.damaged for each in page.backups)
        for backup_id in found[:1]:
            verify = backup_pb2.VerifyBackupRequest(backup_id=backup_id)
            answer = await stubs.backups.VerifyBackup(verify, metadata=self.metadata)
            assert answer.valid, answer.damages
        for backup_id in found[BACKUPS_KEPT:]:
            delete = backup_pb2.DeleteBackupRequest(backup_id=backup_id)
            await stubs.backups.DeleteBackup(delete, metadata=self.metadata)
        self.known = set(found[:BACKUPS_KEPT])
