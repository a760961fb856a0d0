"""VectorService: messages to values, one call of the engine, values to messages.

The tenant is the call's. Errors leave as ServiceError; the door makes a status of them.
"""

# ruff: noqa: N802  (methods are named as in the contract)

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from llmspell.v1 import vector_pb2, vector_pb2_grpc

from services.common.context import current_tenant
from services.common.erasure import Erased, erasure_messages
from services.common.errors import field_invalid, required
from services.common.paging import PageTokens, page_size
from services.common.scope_guard import may_see
from services.common.values import map_to_python
from services.vector.checks import check_collection_id
from services.vector.embedding.cache import EmbeddingCache
from services.vector.measures import SearchCounts
from services.vector.model import Filter, MetadataChange
from services.vector.servicers import messages
from services.vector.servicers.filter_messages import read_filter
from services.vector.servicers.importing import Importing
from services.vector.servicers.policy import refuse_restricted, restricted, row_filter
from services.vector.servicers.times import read_duration
from services.vector.storage import VectorStorage

ALL_SCOPES = "*"


class VectorServicer(vector_pb2_grpc.VectorServiceServicer):
    """Answers from one engine."""

    def __init__(
        self,
        storage: VectorStorage,
        page_tokens: PageTokens,
        searches: SearchCounts | None = None,
        embeddings: EmbeddingCache | None = None,
    ) -> None:
        """Serve an engine.

        Args:
            storage: It.
            page_tokens: Seals places in lists.
            searches: Counts which way they took.
            embeddings: They go with their tenant; None: there are none.
        """
        self._storage = storage
        self._embeddings = embeddings
        self._page_tokens = page_tokens
        self._searches = searches or SearchCounts()

    async def CreateCollection(
        self, request: vector_pb2.CreateCollectionRequest, context: object
    ) -> vector_pb2.CreateCollectionResponse:
        """Make a collection."""
        del context
        made, revision = await self._storage.create_collection(
            *_place(request),
            dimension=request.dimension,
            metric=messages.read_metric(request.metric),
            settings=messages.read_settings(request),
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

    async def UpdateCollection(
        self, request: vector_pb2.UpdateCollectionRequest, context: object
    ) -> vector_pb2.UpdateCollectionResponse:
        """Change a collection's settings."""
        del context
        refuse_restricted("UpdateCollection")
        changed, revision = await self._storage.update_collection(
            *_place(request), messages.read_changes(request)
        )
        return vector_pb2.UpdateCollectionResponse(
            collection=messages.write_collection(changed), revision=revision
        )

    async def ListCollections(
        self, request: vector_pb2.ListCollectionsRequest, context: object
    ) -> vector_pb2.ListCollectionsResponse:
        """A page of collections."""
        del context
        everywhere = request.scope == ALL_SCOPES
        scope = None if everywhere else messages.read_scope(request.scope)
        bound_to = f"ListCollections\0{current_tenant()}\0{request.scope}"
        after = None
        if request.page_token:
            cursor = self._page_tokens.open(request.page_token, bound_to).decode()
            last_scope, _, last_id = cursor.partition("\0")
            after = (last_scope, last_id)
        page = await self._storage.list_collections(
            current_tenant(), scope, limit=page_size(request.page_size), after=after
        )
        answer = vector_pb2.ListCollectionsResponse(
            collections=[
                messages.write_collection(each) for each in page.collections if may_see(each.scope)
            ],
            revision=page.revision,
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
        refuse_restricted("DeleteCollection")
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
        written = await self._storage.upsert(*_place(request), records, row_filter=row_filter())
        return vector_pb2.UpsertVectorsResponse(
            record_ids=written.record_ids, revision=written.revision
        )

    async def ImportVectors(
        self, requests: AsyncIterator[vector_pb2.ImportVectorsRequest], context: object
    ) -> AsyncIterator[vector_pb2.ImportVectorsResponse]:
        """Write records from a stream, message by message."""
        del context
        importing = Importing(self._storage)
        async for answer in importing.run(requests):
            yield answer

    async def UpdateMetadata(
        self, request: vector_pb2.UpdateMetadataRequest, context: object
    ) -> vector_pb2.UpdateMetadataResponse:
        """Change metadata."""
        del context
        where = _filter(request)
        _check_choice(request.record_ids, where)
        change = MetadataChange(
            set=map_to_python(request.set, "set"),
            remove=tuple(request.remove),
            replace=request.replace,
        )
        updated = await self._storage.update_metadata(
            *_place(request),
            change,
            record_ids=messages.read_record_ids(request.record_ids),
            where=where,
            row_filter=row_filter(),
        )
        return vector_pb2.UpdateMetadataResponse(
            updated_count=updated.count, revision=updated.revision
        )

    async def ConfigureScope(
        self, request: vector_pb2.ConfigureScopeRequest, context: object
    ) -> vector_pb2.ConfigureScopeResponse:
        """Change a scope's settings."""
        del context
        if not request.scope:
            raise required("scope")
        refuse_restricted("ConfigureScope")
        scope = messages.read_scope(request.scope)
        settings, revision = await self._storage.configure_scope(
            current_tenant(),
            scope,
            record_ttl_ns=read_duration(request, "record_ttl"),
            ttl_ns=read_duration(request, "ttl"),
        )
        answer = vector_pb2.ConfigureScopeResponse(scope=scope, revision=revision)
        if settings.record_ttl_ns is not None:
            answer.record_ttl.FromNanoseconds(settings.record_ttl_ns)
        if settings.expire_time_ns is not None:
            answer.expire_time.FromNanoseconds(settings.expire_time_ns)
        return answer

    async def GetVectors(
        self, request: vector_pb2.GetVectorsRequest, context: object
    ) -> vector_pb2.GetVectorsResponse:
        """Records by id."""
        del context
        found, revision = await self._storage.get(
            *_place(request),
            messages.read_record_ids(request.record_ids),
            mask=messages.read_mask(request),
            row_filter=row_filter(),
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
        where = _filter(request)
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
            where=restricted(where),
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
        where = _filter(request)
        _check_choice(request.record_ids, where)
        deleted = await self._storage.delete(
            *_place(request),
            messages.read_record_ids(request.record_ids),
            where=where,
            row_filter=row_filter(),
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
        refuse_restricted("DeleteScope")
        deleted = await self._storage.delete_scope(
            current_tenant(), messages.read_scope(request.scope)
        )
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
        self._searches.vectors([result])
        return messages.within_limit(messages.write_result(result, columns=query.columns))

    async def BatchSearch(
        self, request: vector_pb2.BatchSearchRequest, context: object
    ) -> vector_pb2.BatchSearchResponse:
        """The records nearest to each of several vectors."""
        del context
        place = _place(request)
        dimension = 0
        if request.f32:
            dimension = (await self._storage.get_collection(*place))[0].dimension
        query = messages.read_query(messages.read_vectors(request, dimension), request.options)
        results = await self._storage.search(*place, query)
        self._searches.vectors(results)
        return messages.within_limit(messages.write_results(results, columns=query.columns))

    async def GetVectorStats(
        self, request: vector_pb2.GetVectorStatsRequest, context: object
    ) -> vector_pb2.GetVectorStatsResponse:
        """Counts of a scope, or of the tenant."""
        del context
        refuse_restricted("GetVectorStats")
        scope = messages.read_scope(request.scope) if request.scope else None
        stats = await self._storage.stats(current_tenant(), scope)
        answer = vector_pb2.GetVectorStatsResponse(
            collection_count=stats.collection_count,
            record_count=stats.record_count,
            indexed_count=stats.indexed_count,
            stored_bytes=stats.stored_bytes,
            revision=stats.revision,
            history_count=stats.history_count,
            history_bytes=stats.history_bytes,
            memory_bytes=stats.memory_bytes,
            index_bytes=stats.index_bytes,
            segment_count=stats.segment_count,
            dead_count=stats.dead_count,
            search_count=stats.search_count,
        )
        if stats.search_count:
            answer.search_duration.FromNanoseconds(stats.search_ns // stats.search_count)
        return answer

    async def PurgeVectors(
        self, request: vector_pb2.PurgeVectorsRequest, context: object
    ) -> vector_pb2.PurgeVectorsResponse:
        """Erase the tenant."""
        del context
        refuse_restricted("PurgeVectors")
        tenant = current_tenant()
        before = await self._census(tenant)
        deleted = await self._storage.purge(tenant)
        embeddings = 0 if self._embeddings is None else await self._embeddings.forget(tenant)
        rewritten = await self._storage.rewrite() if request.rewrite else True
        after = await self._census(tenant)
        erased = [Erased(what, before[what], after[what]) for what in before]
        erased.append(Erased("embeddings that were remembered", embeddings))
        if request.rewrite:
            note = "" if rewritten else "it is too large to be written anew while others wait"
            erased.append(Erased("the data file, written anew", 1, int(not rewritten), note))
        return vector_pb2.PurgeVectorsResponse(
            deleted_count=deleted.count,
            revision=deleted.revision,
            erasures=erasure_messages(erased),
        )

    async def _census(self, tenant: str) -> dict[str, int]:
        """How much a tenant has of each kind."""
        stats = await self._storage.stats(tenant, None)
        return {
            "collections": stats.collection_count,
            "vectors and documents": stats.record_count,
            "older versions of them": stats.history_count,
            "snapshots": len(await self._storage.list_snapshots(tenant, None)),
        }


def _filter(request: Any) -> Filter | None:
    return read_filter(request.filter) if request.HasField("filter") else None


def _check_choice(record_ids: Sequence[str], where: Filter | None) -> None:
    """Records are named, or described; nobody means all of them by saying nothing."""
    if record_ids and where is not None:
        raise field_invalid("filter", "must not be set beside record_ids")


def _place(request: object) -> tuple[str, str, str]:
    """Tenant, scope and collection of a request that names a collection."""
    scope = messages.read_scope(getattr(request, "scope", ""))
    collection_id: str = getattr(request, "collection_id", "")
    check_collection_id(collection_id)
    return current_tenant(), scope, collection_id
