"""Writers of items and artifacts that know at which revision what was there."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

from services.common.clock import SystemClock
from services.state.artifact_model import Choice, Draft, Query
from services.state.artifacts import Artifacts
from services.state.backup.blobs import BlobCare
from services.state.backup.folder import BackupFolder
from services.state.backup.service import Backups
from services.state.blobs import open_blobs
from services.state.items import Items
from services.state.model import Encoding, Value
from tests.state_engines import embedded_keeper

TENANTS = ("a", "b")
SCOPE = "session:s"
KEYS = [f"k{number}" for number in range(40)]
NAMES = [f"n{number}" for number in range(6)]

State = tuple[dict[str, bytes], dict[tuple[str, int], bytes]]
"""Items by key, and artifacts by name and version."""


class World:
    """One store with its artifacts and backups, as the process has them."""

    def __init__(self, folder: Path, backups: Path) -> None:
        self.keeper = embedded_keeper(folder, SystemClock(), sync=False)
        self.items = Items(self.keeper)
        self.artifacts = Artifacts(self.keeper, open_blobs("embedded", folder))
        collector = self.artifacts.collector
        care = BlobCare(collector.blobs, collector.pins)
        self.backups = Backups(self.keeper, BackupFolder(backups), care=care)

    async def close(self) -> None:
        """Let go of both folders."""
        await self.backups.close()
        await self.artifacts.close()
        await self.items.close()

    async def state(self, tenant: str) -> State:
        """All that a tenant has, bytes included."""
        page = await self.items.list(tenant, SCOPE, limit=1000)
        items = {item.key: item.value.content for item in page.items if item.value is not None}
        artifacts = {}
        for artifact in (
            await self.artifacts.list(tenant, Query(scope=SCOPE), limit=1000)
        ).artifacts:
            choice = Choice(scope=SCOPE, name=artifact.name, version=artifact.version)
            pieces = [piece async for _, piece in self.artifacts.read(tenant, choice)]
            artifacts[artifact.name, artifact.version] = b"".join(pieces)
        return items, artifacts


@dataclass
class Writer:
    """Writes as one tenant, one call after the other, and keeps a log of what it did."""

    world: World
    tenant: str
    rng: random.Random
    names: list[str]
    """Items and artifacts that nobody else writes."""
    log: list[tuple[int, str, object, bytes | None]] = field(default_factory=list)
    """Revision, `item` or `artifact`, key or name and version, what it holds from there on."""

    async def run(self) -> None:
        """Until it is cancelled, and then to the end of a call."""
        while True:
            await asyncio.shield(asyncio.ensure_future(self._write()))
            await asyncio.sleep(self.rng.random() / 500)

    async def _write(self) -> None:
        await self.rng.choice([self._set, self._set, self._delete, self._store, self._remove])()

    async def _set(self) -> None:
        key, content = self.rng.choice(self.names), self.rng.randbytes(self.rng.choice((20, 3000)))
        item = await self.world.items.set(self.tenant, SCOPE, key, Value(Encoding.RAW, content))
        self.log.append((item.revision, "item", key, content))

    async def _delete(self) -> None:
        key = self.rng.choice(self.names)
        changed = await self.world.items.delete(self.tenant, SCOPE, key)
        self.log.append((changed.revision, "item", key, None))

    async def _store(self) -> None:
        content = self.rng.randbytes(self.rng.choice((100, 40_000)))
        draft = Draft(scope=SCOPE, name=f"by-{self.names[0]}")
        stored = await self.world.artifacts.store(self.tenant, draft, [content])
        place = (stored.artifact.name, stored.artifact.version)
        self.log.append((stored.revision, "artifact", place, content))

    async def _remove(self) -> None:
        there = {place for _, what, place, content in self.log if what == "artifact" and content}
        gone = {place for _, what, place, content in self.log if what == "artifact" and not content}
        if len(there - gone) > 3:
            name, version = min(there - gone)
            choice = Choice(scope=SCOPE, name=name, version=version)
            changed = await self.world.artifacts.delete(self.tenant, choice)
            self.log.append((changed.revision, "artifact", (name, version), None))


def at(revision: int, writers: list[Writer], tenant: str) -> State:
    """What a tenant had when this revision was the last."""
    items: dict[str, bytes] = {}
    artifacts: dict[tuple[str, int], bytes] = {}
    log = [entry for writer in writers if writer.tenant == tenant for entry in writer.log]
    for number, what, place, content in sorted(log, key=lambda entry: entry[0]):
        if number > revision:
            break
        found: dict = items if what == "item" else artifacts
        found.pop(place, None)
        if content is not None:
            found[place] = content
    return items, artifacts
