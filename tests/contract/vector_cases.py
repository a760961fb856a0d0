"""The words of the vector suite: two tenants, and what is asked of their records."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.errors import Reason, ServiceError
from services.vector.model import EmbeddingIdentity, Filter, Hit, Metric, NewRecord, Query
from services.vector.storage import Capability, VectorStorage

PLACE = ("acme", "global", "docs")
OTHER = ("globex", "global", "docs")
MINILM = EmbeddingIdentity("local", "all-MiniLM-L6-v2", 384, "abc")


def record(record_id: str, *vector: float, **rest: object) -> NewRecord:
    """A record, said briefly."""
    return NewRecord(record_id=record_id, vector=np.array(vector, np.float32), **rest)


def query(*vector: float, **rest: object) -> Query:
    """A query of one vector."""
    return Query(vectors=[np.array(vector, np.float32)], **rest)


async def make(storage: VectorStorage, metric: Metric = Metric.COSINE, dimension: int = 2) -> None:
    """The same collection for two tenants, the other one's with a record that fits everything."""
    for tenant, scope, name in (PLACE, OTHER):
        await storage.create_collection(tenant, scope, name, dimension=dimension, metric=metric)
    await storage.upsert(*OTHER, [record("theirs", *[1.0] * dimension, metadata={"n": 1})])


async def hits(storage: VectorStorage, asked: Query) -> list[Hit]:
    """The hits of all vectors of a query, one after the other."""
    results = await storage.search(*PLACE, asked)
    return [hit for result in results for hit in result.hits]


async def ids(storage: VectorStorage, asked: Query) -> list[str]:
    """The ids found."""
    return [hit.record.record_id for hit in await hits(storage, asked)]


async def all_ids(storage: VectorStorage, where: Filter | None = None, limit: int = 7) -> list[str]:
    """The ids of a whole list, page after page."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await storage.list_records(*PLACE, limit=limit, after=after, where=where)
        assert len(page.records) <= limit
        found += [each.record_id for each in page.records]
        after = page.cursor
    return found


def refused(reason: Reason, **metadata: object):
    """A ServiceError of this reason with these metadata."""

    def fits(error: ServiceError) -> bool:
        told = {name: error.metadata.get(name) for name in metadata}
        return error.reason == reason and told == {k: str(v) for k, v in metadata.items()}

    return pytest.raises(ServiceError, check=fits)


def needs(*capabilities: Capability):
    """Mark a check that only engines with these capabilities can pass."""

    def mark(check):
        check.needs = frozenset(capabilities)
        return check

    return mark
