"""Runs the vector suite over every engine."""

from __future__ import annotations

import asyncio

import pytest

from services.common.clock import FakeClock
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.engines.memory import MemoryVectorStorage
from tests.contract import vector_suite


def _fatal(message):
    raise AssertionError(message)


class Graphed(EmbeddedVectorStorage):
    """An engine whose graphs have taken in everything before any search."""

    async def search(self, tenant, scope, collection_id, query):
        """Search twice: the first opens the collection."""
        await super().search(tenant, scope, collection_id, query)
        await self.settled()
        return await super().search(tenant, scope, collection_id, query)


def _embedded(path, clock, threshold, kind=EmbeddedVectorStorage):
    store = open_store(path, on_fatal=_fatal, sync=False)
    return kind(store, clock, exact_threshold=threshold)


ENGINES = {
    "memory": lambda path, clock: MemoryVectorStorage(clock),
    "embedded": lambda path, clock: _embedded(path, clock, 8000),
    "embedded-graph": lambda path, clock: _embedded(path, clock, 50),
    "embedded-graph-ready": lambda path, clock: _embedded(path, clock, 50, Graphed),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("check", vector_suite.SUITE, ids=lambda check: check.__name__)
async def test_vector_storage(engine, check, tmp_path):
    """Each engine keeps each promise of the suite."""
    clock = FakeClock()
    storage = ENGINES[engine](tmp_path, clock)
    try:
        async with asyncio.timeout(60):
            await check(storage, clock)
        assert await storage.ready()
    finally:
        await storage.close()
        await storage.close()
    assert not await storage.ready()
