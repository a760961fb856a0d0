"""What changes all that a tenant has: a restore of its backup, its end, and other keys."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from llmspell.v1 import backup_pb2, state_pb2, vault_pb2, vault_pb2_grpc

from tests.crash.ledgers.items import listed
from tests.crash.ledgers.ledger import Stubs, UnknownError, answered, caller

SCOPE = "custom:all"
ITEMS = 200
RESTORED_S_MAX = 20
ROTATED_S_MAX = 20


@dataclass
class Restores:
    """A tenant whose items are of one form, or of that of its backup."""

    tenant: str = "initech"
    backup_id: str = ""
    form: str = "before"
    restoring: bool = False

    def __post_init__(self) -> None:
        """Seal the tenant's calls once."""
        self.metadata = caller(self.tenant)

    def all(self, form: str) -> dict[str, str]:
        """All items of a form."""
        return {f"k{n}": f"{form} {n}" for n in range(ITEMS)}

    async def write(self, stubs: Stubs, form: str) -> None:
        """Give all items a form."""
        request = state_pb2.BatchStateRequest()
        for key, text in self.all(form).items():
            request.writes.add(scope=SCOPE, key=key).set.text = text
        await answered(stubs.state.BatchState(request, metadata=self.metadata))

    async def run(self, stubs: Stubs) -> None:
        """Restore the backup."""
        request = backup_pb2.RestoreBackupRequest(backup_id=self.backup_id, skip_safety_backup=True)
        self.restoring = True
        try:
            await answered(stubs.backups.RestoreBackup(request, metadata=self.metadata))
        except UnknownError:
            return
        self.form, self.restoring = "before", False

    async def check(self, stubs: Stubs) -> None:
        """All items are of one form; a restore that was cut off has come to its end."""
        if not self.backup_id:
            await self.write(stubs, "before")
            made = await stubs.backups.CreateBackup(
                backup_pb2.CreateBackupRequest(), metadata=self.metadata
            )
            self.backup_id = made.backup.backup_id
        else:
            found = await self._found(stubs)
            allowed = {self.form, "before"} if self.restoring else {self.form}
            assert found in [self.all(form) for form in allowed], f"{self.tenant} between two"
        await self.write(stubs, "after")
        self.form, self.restoring = "after", False

    async def _found(self, stubs: Stubs) -> dict[str, str]:
        """What there is once the tenant may be read."""
        for _ in range(RESTORED_S_MAX * 50):
            try:
                return await listed(stubs, self.metadata, SCOPE)
            except (UnknownError, grpc.aio.AioRpcError):
                await asyncio.sleep(0.02)
        raise AssertionError(f"{self.tenant} is being restored still")


@dataclass
class Keys:
    """A master key that is replaced, data keys too, and a tenant that ends and comes again."""

    folder: Path
    tenant: str = "umbrella"

    def __post_init__(self) -> None:
        """Make the first key."""
        self.metadata, self.other = caller(self.tenant), caller("acme")
        self.current, self.previous = self.folder / "master", self.folder / "previous"
        self.replace()

    @property
    def settings(self) -> list[str]:
        """Of the process."""
        return [
            f"state.master_key_file={self.current}",
            f"state.previous_master_key_file={self.previous}",
        ]

    def replace(self) -> None:
        """Another key; the one before is the previous one."""
        if self.current.exists():
            self.current.replace(self.previous)
        self.current.touch(mode=0o600)
        self.current.write_text(os.urandom(32).hex())

    async def run(self, stubs: Stubs) -> None:
        """Replace keys, and end a tenant."""
        vault = vault_pb2_grpc.VaultServiceStub(stubs.channel)
        try:
            write = state_pb2.SetStateRequest(scope="global", key="k")
            write.value.text = "x"
            await answered(stubs.state.SetState(write, metadata=self.metadata))
            self.replace()
            master = vault_pb2.RotateMasterKeyRequest()
            await answered(vault.RotateMasterKey(master, metadata=self.other))
            own = vault_pb2.RotateTenantKeyRequest()
            await answered(vault.RotateTenantKey(own, metadata=self.other))
            purge = state_pb2.PurgeStateRequest()
            await answered(stubs.state.PurgeState(purge, metadata=self.metadata))
            assert not await listed(stubs, self.metadata, "global")
        except UnknownError:
            return

    async def check(self, stubs: Stubs) -> None:
        """The key of the file is in force, and soon nothing is left under the one before."""
        vault = vault_pb2_grpc.VaultServiceStub(stubs.channel)
        await vault.RotateMasterKey(vault_pb2.RotateMasterKeyRequest(), metadata=self.other)
        for _ in range(ROTATED_S_MAX * 50):
            status: Any = await vault.GetVaultStatus(
                vault_pb2.GetVaultStatusRequest(), metadata=self.other
            )
            assert status.encrypted
            if not status.previous_wrapped_count and not status.older_count:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"keys were to be replaced: {status}")
