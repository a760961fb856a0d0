"""A story of a migration for tests/crash/faults.py: three versions, a backup first, in slices.

What comes before it is told on a disk that is sound; so the calls that are counted are those of the
migration. `check` finds it killed: all old or all new, with a backup before the first change; the
next start ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from services.common.clock import SystemClock
from services.state.backup.folder import BackupFolder
from services.state.backup.service import Backups
from services.state.items import Items
from services.state.layout import MIGRATIONS, STAGED, tenant_prefix
from services.state.migrations import passes
from services.state.migrations.migrations import Migrations, Order
from services.state.migrations.model import Default, Family, Rename, Schema, Status
from services.state.migrations.schemas import Schemas
from services.state.model import Encoding, Value, Write
from services.state.step import Keeper
from tests.crash.faults import Ledger, Switch
from tests.state_engines import embedded_keeper

COUNT, SCOPE, TENANTS = 60, "custom:orders", ("acme", "globex")
STAGED_AT_A_TIME = 20
FLAW = "MIGRATION_WALK_FLAW"
"""Environment variable: `in_parts` or `no_backup`, how a build may be broken."""
VERSIONS = {
    "1.0.0": (),
    "1.1.0": (Rename("amount", "total"),),
    "1.2.0": (Default("currency", '"EUR"'),),
}
FORMS = {
    "1.0.0": [{"amount": number} for number in range(COUNT)],
    "1.2.0": [{"total": number, "currency": "EUR"} for number in range(COUNT)],
}


class Told:
    """One store, as the process has it."""

    def __init__(self, folder: Path) -> None:
        passes.STAGED_AT_A_TIME = STAGED_AT_A_TIME
        self.keeper: Keeper = embedded_keeper(folder / "state", SystemClock())
        self.items = Items(self.keeper)
        self.schemas = Schemas(self.keeper)
        self.backups = Backups(self.keeper, BackupFolder(folder / "backups"))
        self.migrations = Migrations(self.keeper, backup=self._make, items_at_once=0)

    async def _make(self, tenant: str) -> str:
        return (await self.backups.create(tenant)).backup_id

    async def prepare(self) -> None:
        """Two tenants with the same items and the same three versions."""
        for tenant in TENANTS:
            writes = [
                Write(SCOPE, f"k{n:03d}", Value(Encoding.JSON, json.dumps(form).encode()))
                for n, form in enumerate(FORMS["1.0.0"])
            ]
            await self.items.batch(tenant, [], writes)
            family = Family("orders", SCOPE, "", "")
            for version, transforms in VERSIONS.items():
                await self.schemas.put(tenant, family, Schema(version, (), transforms, 0))

    async def migrate(self, flaw: str = "") -> None:
        """To the last version, to the end, and until nothing that was made ready is left."""
        if flaw == "in_parts":
            writes = [
                Write(SCOPE, f"k{n:03d}", Value(Encoding.JSON, json.dumps(form).encode()))
                for n, form in enumerate(FORMS["1.2.0"][: COUNT // 2])
            ]
            await self.items.batch("acme", [], writes)
        if flaw == "no_backup":
            self.migrations = Migrations(self.keeper, items_at_once=0)
        self.migrations.resume()
        begun = await self.migrations.list("acme", limit=1)
        if not begun:
            begun = [await self.migrations.start("acme", Order(schema="orders"))]
        ended = await self.migrations.get("acme", begun[0].migration_id, wait_s=20)
        assert (ended.status, ended.items_done) == (Status.COMPLETED, COUNT), ended
        while self._staged():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def _staged(self) -> int:
        with self.keeper.engine.read() as view:
            return view.count(STAGED)

    async def forms(self, tenant: str) -> list[dict[str, object]]:
        """What the items are like."""
        page = await self.items.list(tenant, SCOPE, limit=COUNT + 1)
        return [json.loads(each.value.content) for each in page.items if each.value is not None]

    async def current(self, tenant: str) -> str:
        """At which version they are."""
        return (await self.schemas.get(tenant, "orders")).family.current

    async def close(self) -> None:
        """Let go of it."""
        await self.migrations.close()
        await self.backups.close()
        await self.items.close()

    async def check_backup(self) -> None:
        """There is one once anything was made ready, and it is whole."""
        with self.keeper.engine.read() as view:
            running = list(view.scan(MIGRATIONS, tenant_prefix("acme")))
        if self._staged() or await self.current("acme") != "1.0.0":
            (told,) = (json.loads(stored) for _, stored in running)
            verified = await self.backups.verify("acme", told["backup_id"], any_tenant=False)
            assert not verified.damages, "a step was made before its backup"


async def tell(folder: Path, ledger: Ledger) -> None:
    """Prepare on a sound disk, then migrate on one on which a call kills."""
    switch = Switch(Path(os.environ["FAULT_SWITCH"]))
    at, error, mask = switch.armed()
    switch.disarm()
    told = Told(folder)
    await told.prepare()
    switch.arm_mask(at, error, mask)
    await ledger.ask(1, told.migrate(os.environ.get(FLAW, "")))
    await told.close()


async def check(folder: Path, lines: Sequence[str]) -> None:
    """Old or new; then the next start ends it, and the other tenant is what it was."""
    told = Told(folder)
    version = await told.current("acme")
    assert await told.forms("acme") == FORMS[version]
    assert version == "1.2.0" or "answered 1" not in lines, "it had ended"
    await told.check_backup()
    await told.migrate()
    assert await told.forms("acme") == FORMS["1.2.0"]
    assert await told.forms("globex") == FORMS["1.0.0"]
    await told.check_backup()
    await told.close()
