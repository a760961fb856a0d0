"""A migration in a process of its own, to be killed.

`python -m tests.crash.migration_story FOLDER AT_ONCE` begins one, or goes on with
the one that was cut off, and prints how it ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from services.common.clock import SystemClock
from services.state.engine import open_engine
from services.state.items import Items
from services.state.layout import STAGED
from services.state.migrations import passes
from services.state.migrations.migrations import Migrations, Order
from services.state.migrations.model import Default, Family, Migration, Remove, Rename, Schema
from services.state.migrations.schemas import Schemas
from services.state.model import Encoding, Value, Write
from services.state.step import Keeper

COUNT = 300
SCOPE = "custom:orders"
TENANTS = ("acme", "globex")
STEPS = (Rename("amount", "total"), Default("currency", '"EUR"'), Remove("old"))
_BATCH = 100


def old(number: int) -> dict[str, object]:
    """An item at the first version."""
    return {"amount": number, "old": [1]}


def new(number: int) -> dict[str, object]:
    """And at the second."""
    return {"total": number, "currency": "EUR"}


def keeper(folder: Path) -> Keeper:
    """The store, recovered."""
    return Keeper(open_engine("embedded", folder), clock=SystemClock())


async def prepare(folder: Path) -> None:
    """Two tenants with the same items and the same schema."""
    opened = keeper(folder)
    items, schemas = Items(opened), Schemas(opened)
    for tenant in TENANTS:
        for begin in range(0, COUNT, _BATCH):
            writes = [
                Write(SCOPE, f"k{n:03d}", Value(Encoding.JSON, json.dumps(old(n)).encode()))
                for n in range(begin, begin + _BATCH)
            ]
            await items.batch(tenant, [], writes)
        family = Family("orders", SCOPE, "", "")
        await schemas.put(tenant, family, Schema("1.0.0", (), (), 0))
        await schemas.put(tenant, family, Schema("1.1.0", (), STEPS, 0))
    await items.close()


async def finish(opened: Keeper, at_once: int) -> Migration:
    """Go on with what was cut off; begin where nothing was."""
    migrations = Migrations(opened, items_at_once=at_once)
    migrations.resume()
    begun = await migrations.list("acme", limit=1)
    if not begun:
        begun = [await migrations.start("acme", Order(schema="orders", backup=False))]
    ended = await migrations.get("acme", begun[0].migration_id, wait_s=20)
    await asyncio.to_thread(_until_clear, opened)
    await migrations.close()
    return ended


def _until_clear(opened: Keeper) -> None:
    """Wait until nothing that was made ready is left."""
    while True:
        with opened.engine.read() as view:
            if not view.count(STAGED):
                return
        time.sleep(0.01)


async def tell(folder: Path, at_once: int) -> None:
    """All of it."""
    passes.STAGED_AT_A_TIME = 50
    ended = await finish(keeper(folder), at_once)
    sys.stdout.write(ended.status.value)


if __name__ == "__main__":
    asyncio.run(tell(Path(sys.argv[1]), int(sys.argv[2])))
