"""VectorService: messages to values, one call of the engine, values to messages.

The tenant is the call's. Errors leave as ServiceError; the door makes a status of them.
"""

# ruff: noqa: N802  (methods are named as in the contract)

from __future__ import annotations

from llmspell.v1 import vector_pb2, vector_pb2_grpc

from services.common.context import current_context
from services.common.errors import required
from services.common.paging import PageTokens, page_size
from services.vector.checks import check_collection_id
from services.vector.servicers import messages
from services.vector.storage import VectorStorage

ALL_SCOPES = "*"


class VectorServicer(vector_pb2_grpc.VectorServiceServicer):
    """Answers from one engine."""

    def __init__(self, storage: VectorStorage, page_tokens: PageTokens) -> None:
        self._storage = storage
        self._page_tokens = page_tokens

    async def CreateCollection(
        self, request: vector_pb2.CreateCollectionRequest, context: object
    ) -> vector_pb2.CreateCollectionResponse:
        """Make a collection."""
        del context
        made, revision = await self._storage.create_collection(
            *_place(request),
            dimension=request.dimension,
            metric=messages.read_metric(request.metric),
        )
        return vector_pb2.CreateCollectionResponse(
            collection=messages.write_collection(made), revision=revision
        )

    async def GetCollection(
        self, request: vector_pb2.GetCollectionRequest, context: object
    ) -> vector_pb2.GetCollectionResponse:
        """One collection."""
        del context
        found, revision = await self._storage.get_collection(*_place(request))
        return vector_pb2.GetCollectionResponse(
            collection=messages.write_collection(found), revision=revision
        )

    async def ListCollections(
        self, request: vector_pb2.ListCollectionsRequest, context: object
    ) -> vector_pb2.ListCollectionsResponse:
        """A page of collections."""
        del context
        everywhere = request.scope == ALL_SCOPES
        scope = None if everywhere else messages.read_scope(request.scope)
        bound_to = f"ListCollections\0{_tenant()}\0{request.scope}"
        after = None
        if request.page_token:
            cursor = self._page_tokens.open(request.page_token, bound_to).decode()
            last_scope, _, last_id = cursor.partition("\0")
            after = (last_scope, last_id)
        page = await self._storage.list_collections(
            _tenant(), scope, limit=page_size(request.page_size), after=after
        )
        answer = vector_pb2.ListCollectionsResponse(
            collections=map(messages.write_collection, page.collections), revision=page.revision
        )
        if page.cursor is not None:
            cursor = "\0".join(page.cursor)
            answer.next_page_token = self._page_tokens.seal(bound_to, cursor.encode())
        return answer

    async def DeleteCollection(
        self, request: vector_pb2.DeleteCollectionRequest, context: object
    ) -> vector_pb2.DeleteCollectionResponse:
        """Remove a collection."""
        del context
        deleted = await self._storage.delete_collection(*_place(request))
        return vector_pb2.DeleteCollectionResponse(
            deleted_count=deleted.count, revision=deleted.revision
        )

    async def UpsertVectors(
        self, request: vector_pb2.UpsertVectorsRequest, context: object
    ) -> vector_pb2.UpsertVectorsResponse:
        """Write records."""
        del context
        records = messages.read_records(request.records)
        written = await self._storage.upsert(*_place(request), records)
        return vector_pb2.UpsertVectorsResponse(
            record_ids=written.record_ids, revision=written.revision
        )

    async def GetVectors(
        self, request: vector_pb2.GetVectorsRequest, context: object
    ) -> vector_pb2.GetVectorsResponse:
        """Records by id."""
        del context
        found, revision = await self._storage.get(
            *_place(request),
            messages.read_record_ids(request.record_ids),
            mask=messages.read_mask(request),
        )
        return messages.within_limit(
            vector_pb2.GetVectorsResponse(
                records=map(messages.write_record, found), revision=revision
            )
        )

    async def ListVectors(
        self, request: vector_pb2.ListVectorsRequest, context: object
    ) -> vector_pb2.ListVectorsResponse:
        """A page of records."""
        del context
        tenant, scope, collection_id = _place(request)
        where = messages.read_filter(request.filter) if request.HasField("filter") else None
        chosen = request.filter.SerializeToString(deterministic=True).hex()
        bound_to = f"ListVectors\0{tenant}\0{scope}\0{collection_id}\0{chosen}"
        after = ""
        if request.page_token:
            after = self._page_tokens.open(request.page_token, bound_to).decode()
        page = await self._storage.list_records(
            tenant,
            scope,
            collection_id,
            limit=page_size(request.page_size),
            after=after,
            where=where,
            mask=messages.read_mask(request),
        )
        answer = vector_pb2.ListVectorsResponse(
            records=map(messages.write_record, page.records), revision=page.revision
        )
        if page.cursor is not None:
            answer.next_page_token = self._page_tokens.seal(bound_to, page.cursor.encode())
        return messages.within_limit(answer)

    async def DeleteVectors(
        self, request: vector_pb2.DeleteVectorsRequest, context: object
    ) -> vector_pb2.DeleteVectorsResponse:
        """Remove records."""
        del context
        deleted = await self._storage.delete(
            *_place(request), messages.read_record_ids(request.record_ids)
        )
        return vector_pb2.DeleteVectorsResponse(
            deleted_count=deleted.count, revision=deleted.revision
        )

    async def DeleteScope(
        self, request: vector_pb2.DeleteScopeRequest, context: object
    ) -> vector_pb2.DeleteScopeResponse:
        """Remove the collections of a scope, which must be named: this is no default's work."""
        del context
        if not request.scope:
            raise required("scope")
        deleted = await self._storage.delete_scope(_tenant(), messages.read_scope(request.scope))
        return vector_pb2.DeleteScopeResponse(
            deleted_count=deleted.count, revision=deleted.revision
        )

    async def Search(
        self, request: vector_pb2.SearchRequest, context: object
    ) -> vector_pb2.SearchResponse:
        """The records nearest to one vector."""
        del context
        vector = messages.read_vector(request.vector, "vector")
        query = messages.read_query([vector], request.options)
        [result] = await self._storage.search(*_place(request), query)
        return messages.within_limit(messages.write_result(result))

    async def BatchSearch(
        self, request: vector_pb2.BatchSearchRequest, context: object
    ) -> vector_pb2.BatchSearchResponse:
        """The records nearest to each of several vectors."""
        del context
        vectors = [
            messages.read_vector(vector, f"vectors[{n}]")
            for n, vector in enumerate(request.vectors)
        ]
        query = messages.read_query(vectors, request.options)
        results = await self._storage.search(*_place(request), query)
        return messages.within_limit(
            vector_pb2.BatchSearchResponse(results=map(messages.write_result, results))
        )

    async def GetVectorStats(
        self, request: vector_pb2.GetVectorStatsRequest, context: object
    ) -> vector_pb2.GetVectorStatsResponse:
        """Counts of a scope, or of the tenant."""
        del context
        scope = messages.read_scope(request.scope) if request.scope else None
        stats = await self._storage.stats(_tenant(), scope)
        return vector_pb2.GetVectorStatsResponse(
            collection_count=stats.collection_count,
            record_count=stats.record_count,
            indexed_count=stats.indexed_count,
            stored_bytes=stats.stored_bytes,
            revision=stats.revision,
        )

    async def PurgeVectors(
        self, request: vector_pb2.PurgeVectorsRequest, context: object
    ) -> vector_pb2.PurgeVectorsResponse:
        """Erase the tenant."""
        del request, context
        deleted = await self._storage.purge(_tenant())
        return vector_pb2.PurgeVectorsResponse(
            deleted_count=deleted.count, revision=deleted.revision
        )


def _tenant() -> str:
    return current_context().tenant


def _place(request: object) -> tuple[str, str, str]:
    """Tenant, scope and collection of a request that names a collection."""
    scope = messages.read_scope(getattr(request, "scope", ""))
    collection_id: str = getattr(request, "collection_id", "")
    check_collection_id(collection_id)
    return _tenant(), scope, collection_id
