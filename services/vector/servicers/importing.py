"""ImportVectors: messages of a stream into the store, answered in order once they are on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

from llmspell.v1 import vector_pb2

from services.common.context import current_tenant
from services.common.errors import field_invalid, limit_exceeded, required
from services.common.limits import UPSERT_RECORDS_MAX
from services.vector.checks import check_collection_id
from services.vector.model import NewRecord, Upserted
from services.vector.servicers import messages
from services.vector.servicers.policy import row_filter
from services.vector.storage import VectorStorage

AT_ONCE = 4
"""Messages that are being written while later ones are read: their commits share flushes."""

_Writing: TypeAlias = "asyncio.Task[Upserted] | None"


class Importing:
    """One stream."""

    def __init__(self, storage: VectorStorage) -> None:
        self._storage = storage
        self._place: tuple[str, str, str] | None = None
        self._dimension = 0
        self._sequence = 0
        self._record_count = 0

    async def run(
        self, requests: AsyncIterator[vector_pb2.ImportVectorsRequest]
    ) -> AsyncIterator[vector_pb2.ImportVectorsResponse]:
        """Write what comes; an answer for each message, in order, as soon as it is on disk.

        What was answered is there. Where a message fails, of those behind it some may be there too.
        """
        writing: asyncio.Queue[_Writing] = asyncio.Queue()
        room = asyncio.Semaphore(AT_ONCE)
        reading = asyncio.create_task(self._read(requests, writing, room))
        try:
            while (task := await writing.get()) is not None:
                yield self._answer(await task)
                room.release()
            await reading  # says why, where the caller's end was not what ended it
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await _give_up(writing)

    async def _read(
        self,
        requests: AsyncIterator[vector_pb2.ImportVectorsRequest],
        writing: asyncio.Queue[_Writing],
        room: asyncio.Semaphore,
    ) -> None:
        """Begin to write each message as it comes, where there is room; None is the end.

        Apart from answering: who waits for an answer before the next message would wait for ever.
        """
        try:
            await room.acquire()
            async for request in requests:
                await self._begin(request)
                writing.put_nowait(asyncio.create_task(self._write(request)))
                await room.acquire()
        finally:
            writing.put_nowait(None)

    async def _begin(self, request: vector_pb2.ImportVectorsRequest) -> None:
        if self._place is not None:
            return
        check_collection_id(request.collection_id)
        scope = messages.read_scope(request.scope)
        self._place = (current_tenant(), scope, request.collection_id)
        found, _ = await self._storage.get_collection(*self._place)
        self._dimension = found.dimension

    async def _write(self, request: vector_pb2.ImportVectorsRequest) -> Upserted:
        assert self._place is not None
        records = self._records(request)
        return await self._storage.upsert(*self._place, records, row_filter=row_filter())

    def _records(self, request: vector_pb2.ImportVectorsRequest) -> list[NewRecord]:
        if not request.HasField("columns"):
            return messages.read_records(request.records)
        if request.records:
            raise field_invalid("columns", "must not be set beside records")
        ids = request.columns.record_ids
        if not request.columns.f32:
            raise required("columns.f32")
        vectors = messages.read_matrix(request.columns.f32, self._dimension, "columns.f32")
        if len(vectors) > UPSERT_RECORDS_MAX:
            raise limit_exceeded("columns", len(vectors), UPSERT_RECORDS_MAX)
        if ids and len(ids) != len(vectors):
            raise field_invalid(
                "columns.record_ids", f"has {len(ids)} ids for {len(vectors)} vectors"
            )
        names = ids or [""] * len(vectors)
        return [
            NewRecord(record_id=record_id, vector=vector)
            for record_id, vector in zip(names, vectors, strict=True)
        ]

    def _answer(self, written: Upserted) -> vector_pb2.ImportVectorsResponse:
        self._sequence += 1
        self._record_count += len(written.record_ids)
        return vector_pb2.ImportVectorsResponse(
            sequence=self._sequence,
            record_count=self._record_count,
            revision=written.revision,
        )


async def _give_up(writing: asyncio.Queue[_Writing]) -> None:
    """End what nobody will be told of."""
    left = []
    while not writing.empty():
        if (task := writing.get_nowait()) is not None:
            task.cancel()
            left.append(task)
    await asyncio.gather(*left, return_exceptions=True)
