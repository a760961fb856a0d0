"""Vectors of one client: upserts in batches, removals, searches for what it has."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

from llmspell.v1 import types_pb2, vector_pb2

from tests.crash.ledgers.ledger import Ledger, Stubs, Work, answered

DIMENSION = 16
IDS = 60
Records = dict[str, int]
"""Each record's id, and the number that its vector was made of."""


@lru_cache(1000)
def vector_of(number: int) -> types_pb2.Vector:
    """Another one for each number."""
    chance = random.Random(f"vector {number}")
    return types_pb2.Vector(values=[chance.uniform(-1, 1) for _ in range(DIMENSION)])


class Vectors(Ledger[Records]):
    """A collection of one client; both tenants' collections have the same names."""

    secret = ""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, {})
        self.collection = f"c{self.number // 2}"
        self.made = 0

    def works(self) -> list[Work]:
        """See Ledger."""
        return [self.upsert, self.upsert] + ([self.delete, self.search] * bool(self.known))

    async def create(self, stubs: Stubs) -> None:
        """Before everything else."""
        request = vector_pb2.CreateCollectionRequest(
            collection_id=self.collection, dimension=DIMENSION
        )
        await stubs.vectors.CreateCollection(request)

    async def upsert(self, stubs: Stubs) -> None:
        """Some, new ones or again."""
        request, after = self._request(vector_pb2.UpsertVectorsRequest), dict(self.known)
        for record_id in self.rng.sample([f"r{n}" for n in range(IDS)], self.rng.randint(1, 8)):
            self.made += 1
            after[record_id] = self.made
            record = request.records.add(record_id=record_id, vector=vector_of(self.made))
            record.metadata["number"].int_value = self.made
            record.text = self.secret
        await self.ask(stubs.vectors.UpsertVectors, request, after)

    async def delete(self, stubs: Stubs) -> None:
        """Some that are there."""
        gone = self.rng.sample(sorted(self.known), min(3, len(self.known)))
        request = self._request(vector_pb2.DeleteVectorsRequest)
        request.record_ids.extend(gone)
        after = {key: number for key, number in self.known.items() if key not in gone}
        await self.ask(stubs.vectors.DeleteVectors, request, after)

    async def search(self, stubs: Stubs) -> None:
        """What is nearest to a vector that is there: itself."""
        record_id, number = self.rng.choice(sorted(self.known.items()))
        request = self._request(vector_pb2.SearchRequest)
        request.vector.CopyFrom(vector_of(number))
        request.options.limit, request.options.mask.text = 3, True
        answer = await answered(stubs.vectors.Search(request))
        assert answer.hits[0].record_id == record_id, f"{self.collection}: {record_id} is not found"
        assert answer.hits[0].text == self.secret

    async def check(self, stubs: Stubs) -> None:
        """See Ledger."""
        request = self._request(vector_pb2.ListVectorsRequest)
        request.page_size, request.mask.metadata = 1000, True
        page = await answered(stubs.vectors.ListVectors(request))
        found = {each.record_id: each.metadata["number"].int_value for each in page.records}
        self.settle(found, f"vectors of {self.tenant}")

    def _request(self, kind: Any) -> Any:
        return kind(collection_id=self.collection)
