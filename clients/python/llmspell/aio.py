"""The client for asyncio: the same methods as `llmspell.client`, whose docstrings say more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any

from llmspell import _rag, _scripts, _state, _tenants, _vectors
from llmspell import types as t
from llmspell._awaiting import AsyncCaller
from llmspell.errors import NotFound


class AsyncClient(AsyncCaller):
    """A connection to a gateway, as one caller; belongs to one event loop.

    Example:
        async with AsyncClient("127.0.0.1:50060", "llms_…") as client:
            await client.set_state("answer", 42)
            async for item in client.list_state():
                print(item.key)
    """

    # State.

    async def get_state(self, key: str, *, scope: str = "global") -> t.Item | None:
        """One item; None where there is none."""
        try:
            return await self._unary(_state.get_state(key, scope))
        except NotFound as error:
            if error.reason != "ITEM_NOT_FOUND":
                raise
            return None

    async def set_state(
        self,
        key: str,
        value: Any,
        *,
        scope: str = "global",
        ttl_s: float | None = None,
        text: bool = False,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> int:
        """Write one item; its new revision."""
        item = t.SetItem(key, value, scope, ttl_s, text)
        return await self._unary(
            _state.set_state(
                item, if_revision=if_revision, if_absent=if_absent, if_present=if_present
            )
        )

    async def delete_state(
        self, key: str, *, scope: str = "global", if_revision: int | None = None
    ) -> bool:
        """Remove one item; whether it was there."""
        return await self._unary(_state.delete_state(key, scope, if_revision=if_revision))

    async def increment_state(
        self, key: str, by: float = 1, *, scope: str = "global"
    ) -> int | float:
        """Add to a number, where none counts as 0; the sum."""
        return await self._unary(_state.increment_state(key, by, scope))

    def list_state(
        self, prefix: str = "", *, scope: str = "global", keys_only: bool = False
    ) -> AsyncIterator[t.Item]:
        """Items whose keys begin with `prefix`, in order of key; pages come as they are needed."""
        return self._entries(_state.list_state(prefix, scope, keys_only=keys_only))

    async def batch(
        self, operations: Iterable[t.CheckItem | t.SetItem | t.DeleteItem]
    ) -> t.BatchResult:
        """Checks and writes, all or nothing; at most 256."""
        return await self._unary(_state.batch(operations))

    # Vectors.

    async def create_collection(
        self,
        collection: str,
        dimension: int,
        *,
        metric: t.Metric = "cosine",
        scope: str = "global",
    ) -> t.Collection:
        """Make a collection of vectors of one dimension and one metric."""
        call = _vectors.create_collection(collection, dimension, metric=metric, scope=scope)
        return await self._unary(call)

    async def get_collection(self, collection: str, *, scope: str = "global") -> t.Collection:
        """One collection with its counts."""
        return await self._unary(_vectors.get_collection(collection, scope))

    def list_collections(self, *, scope: str = "global") -> AsyncIterator[t.Collection]:
        """The collections of a scope; `*` means of all scopes."""
        return self._entries(_vectors.list_collections(scope))

    async def delete_collection(self, collection: str, *, scope: str = "global") -> int:
        """Remove a collection; how many records went with it."""
        return await self._unary(_vectors.delete_collection(collection, scope))

    async def upsert(
        self, collection: str, records: Iterable[t.Record], *, scope: str = "global"
    ) -> list[str]:
        """Write records, all or none, at most 1000; their ids."""
        return await self._unary(_vectors.upsert(collection, records, scope))

    async def get_vectors(
        self,
        collection: str,
        record_ids: Iterable[str],
        *,
        scope: str = "global",
        with_vectors: bool = False,
    ) -> list[t.Record]:
        """Records by id, in the order asked; those that are not there are left out."""
        return await self._unary(
            _vectors.get_vectors(collection, record_ids, scope=scope, with_vectors=with_vectors)
        )

    def list_vectors(
        self,
        collection: str,
        *,
        filter: t.Filter | None = None,  # noqa: A002  (the field's own word for it)
        scope: str = "global",
        with_vectors: bool = False,
    ) -> AsyncIterator[t.Record]:
        """Records in order of id; pages come as they are needed."""
        return self._entries(
            _vectors.list_vectors(collection, where=filter, scope=scope, with_vectors=with_vectors)
        )

    async def delete_vectors(
        self, collection: str, record_ids: Iterable[str], *, scope: str = "global"
    ) -> int:
        """Remove records by id; how many were there."""
        return await self._unary(_vectors.delete_vectors(collection, record_ids, scope))

    async def delete_scope(self, scope: str) -> int:
        """Remove every collection of a scope; how many records went with them."""
        return await self._unary(_vectors.delete_scope(scope))

    async def search(
        self,
        collection: str,
        vector: t.VectorLike,
        k: int = 10,
        *,
        filter: t.Filter | None = None,  # noqa: A002  (the field's own word for it)
        scope: str = "global",
        threshold: float | None = None,
        exact: bool | None = None,
        expansion: int = 0,
        with_vectors: bool = False,
        include_expired: bool = False,
    ) -> t.SearchResult[t.Hit]:
        """The `k` records nearest to a vector."""
        settings = _vectors.SearchSettings(
            k=k,
            where=filter,
            threshold=threshold,
            exact=exact,
            expansion=expansion,
            with_vectors=with_vectors,
            include_expired=include_expired,
        )
        return await self._unary(
            _vectors.search(collection, vector, scope=scope, settings=settings)
        )

    async def batch_search(
        self,
        collection: str,
        vectors: Iterable[t.VectorLike],
        k: int = 10,
        *,
        filter: t.Filter | None = None,  # noqa: A002  (the field's own word for it)
        scope: str = "global",
        threshold: float | None = None,
        exact: bool | None = None,
        expansion: int = 0,
        with_vectors: bool = False,
        include_expired: bool = False,
    ) -> list[t.SearchResult[t.Hit]]:
        """Like `search`, for at most 100 vectors in one call; one result each, in order."""
        settings = _vectors.SearchSettings(
            k=k,
            where=filter,
            threshold=threshold,
            exact=exact,
            expansion=expansion,
            with_vectors=with_vectors,
            include_expired=include_expired,
        )
        call = _vectors.batch_search(collection, vectors, scope=scope, settings=settings)
        return await self._unary(call)

    async def stats(self, scope: str | None = None) -> t.VectorStats:
        """Counts of a scope's vectors; None: of the whole tenant's."""
        return await self._unary(_vectors.stats(scope))

    # Documents.

    async def ingest(
        self,
        documents: Iterable[t.Document | str],
        *,
        collection: str = "documents",
        scope: str = "global",
        chunk_unit: t.ChunkUnit | None = None,
        chunk_size: int = 0,
        overlap: int | None = None,
        provider: str = "",
        timeout_s: float = _rag.INGEST_TIMEOUT_S,
    ) -> t.IngestResult:
        """Chunk, embed and store documents; one that was there under the same id is replaced."""
        call = _rag.ingest(
            documents,
            collection=collection,
            scope=scope,
            provider=provider,
            chunking=_rag.chunking(chunk_unit, chunk_size, overlap),
            timeout_s=timeout_s,
        )
        return await self._unary(call)

    async def retrieve(
        self,
        text: str,
        k: int = 10,
        *,
        filter: t.Filter | None = None,  # noqa: A002  (the field's own word for it)
        collection: str = "documents",
        scope: str = "global",
        threshold: float | None = None,
        exact: bool | None = None,
        provider: str = "",
    ) -> t.SearchResult[t.Passage]:
        """The `k` passages nearest to a text; arguments as in `search`."""
        call = _rag.retrieve(
            text,
            k,
            where=filter,
            collection=collection,
            scope=scope,
            threshold=threshold,
            exact=exact,
            provider=provider,
        )
        return await self._unary(call)

    async def delete_documents(
        self,
        document_ids: Iterable[str],
        *,
        collection: str = "documents",
        scope: str = "global",
    ) -> int:
        """Remove documents, at most 1000; how many chunks went with them."""
        return await self._unary(_rag.delete_documents(document_ids, collection, scope))

    async def embedding_providers(self) -> list[t.EmbeddingProvider]:
        """The embedding providers that the deployment has."""
        return await self._unary(_rag.embedding_providers())

    # Scripts.

    def run(
        self,
        source: str,
        *,
        name: str = "",
        args: Iterable[str] = (),
        named: Mapping[str, str] | None = None,
        limits: t.RunLimits | None = None,
    ) -> AsyncGenerator[t.RunEvent, None]:
        """Run a script; its events as they happen, `RunResult` last."""
        call = _scripts.run(source, name=name, args=args, named=named, limits=limits)
        return self._stream(call)

    async def check(self, source: str, *, name: str = "") -> None:
        """Compile a script without running it; InvalidArgument where it does not compile."""
        await self._unary(_scripts.check(source, name))

    # Tenants and processes.

    async def create_tenant(self, tenant_id: str, *, display_name: str = "") -> t.Tenant:
        """Make a tenant; the operator's call, like all that follow on tenants and keys."""
        return await self._unary(_tenants.create_tenant(tenant_id, display_name))

    async def get_tenant(self, tenant_id: str) -> t.Tenant:
        """One tenant."""
        return await self._unary(_tenants.get_tenant(tenant_id))

    def list_tenants(self) -> AsyncIterator[t.Tenant]:
        """All tenants in order of id; pages come as they are needed."""
        return self._entries(_tenants.list_tenants())

    async def delete_tenant(self, tenant_id: str) -> t.DeletedTenant:
        """Remove a tenant, its keys and everything it has stored."""
        return await self._unary(_tenants.delete_tenant(tenant_id))

    async def create_key(
        self, tenant_id: str, *, roles: Iterable[str] = (), display_name: str = ""
    ) -> t.CreatedKey:
        """Make a key with the roles `reader`, `writer` or `admin` (none given)."""
        return await self._unary(_tenants.create_key(tenant_id, roles, display_name))

    def list_keys(self, tenant_id: str) -> AsyncIterator[t.ApiKey]:
        """A tenant's keys without their secrets; pages come as they are needed."""
        return self._entries(_tenants.list_keys(tenant_id))

    async def revoke_key(self, key_id: str) -> bool:
        """End a key; whether there was one."""
        return await self._unary(_tenants.revoke_key(key_id))

    async def who_am_i(self) -> t.Caller:
        """Who the server takes this client for, and what it may."""
        return await self._unary(_tenants.who_am_i())

    async def processes(self) -> list[t.ProcessStatus]:
        """The gateway and the processes behind it."""
        return await self._unary(_tenants.processes())
