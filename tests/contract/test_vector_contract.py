"""Runs the vector suite over every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.clock import FakeClock
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.engines.isolated import IsolatedVectorStorage
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.model import Isolation
from services.vector.storage import Capability, VectorStorage
from tests.contract import vector_suite

TENANTS = ("acme", "acme2", "globex")
THRESHOLD = 50


@dataclass(frozen=True)
class Engine:
    """An engine, how it is made, and what it says that it can do."""

    name: str
    make: Callable[[Path, FakeClock], Awaitable[VectorStorage]]
    capabilities: frozenset[Capability] = frozenset(Capability)


class Graphed(EmbeddedVectorStorage):
    """An engine whose graphs have taken in everything before any search."""

    async def search(self, tenant, scope, collection_id, query):
        """Search twice: the first opens the collection."""
        await super().search(tenant, scope, collection_id, query)
        await self.settled()
        return await super().search(tenant, scope, collection_id, query)


def _fatal(message):
    raise AssertionError(message)


async def _memory(path, clock):
    return MemoryVectorStorage(clock)


def _embedded(threshold, isolation, kind=EmbeddedVectorStorage):
    def open_own(path):
        return open_store(path, on_fatal=_fatal, sync=False)

    async def make(path, clock):
        storage = IsolatedVectorStorage(
            open_own(path),
            open_own=open_own,
            make=lambda store: kind(store, clock, exact_threshold=threshold),
        )
        for tenant in TENANTS:
            await storage.configure_tenant(tenant, isolation)
        return storage

    return make


ENGINES = [
    Engine(
        "memory",
        _memory,
        frozenset({Capability.EXACT_SEARCH, Capability.HISTORY, Capability.SNAPSHOT}),
    ),
    Engine("embedded-scan", _embedded(8000, Isolation.NAMESPACE)),
    *(
        Engine(f"embedded-{isolation.value}", _embedded(THRESHOLD, isolation))
        for isolation in Isolation
    ),
    Engine("embedded-graph-ready", _embedded(THRESHOLD, Isolation.NAMESPACE, Graphed)),
]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("check", vector_suite.SUITE, ids=lambda check: check.__name__)
async def test_vector_storage(engine, check, tmp_path):
    """Each engine keeps each promise of the suite."""
    if not getattr(check, "needs", frozenset()) <= engine.capabilities:
        pytest.skip(f"{engine.name} does not say that it can do this")
    clock = FakeClock()
    storage = await engine.make(tmp_path, clock)
    assert storage.capabilities == engine.capabilities
    try:
        async with asyncio.timeout(60):
            await check(storage, clock)
        assert await storage.ready()
    finally:
        await storage.close()
        await storage.close()
    assert not await storage.ready()
