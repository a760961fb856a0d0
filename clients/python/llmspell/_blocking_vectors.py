"""Vectors and documents of the blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Unpack

from llmspell import _admin, _rag, _vectors
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class VectorCalls(BlockingCaller):
    """What a client does with collections, records and documents."""

    def create_collection(
        self,
        collection: str,
        dimension: int,
        *,
        metric: t.Metric = "cosine",
        scope: str = "global",
        hnsw: t.Hnsw | None = None,
        default_ttl_s: float | None = None,
        history_s: float | None = None,
        ttl_s: float | None = None,
    ) -> t.Collection:
        """Make a collection of vectors of one dimension and one metric.

        Args:
            collection: Its name.
            dimension: Length of each vector.
            metric: How nearness is measured.
            scope: Scope of the collection.
            hnsw: How graphs are built.
            default_ttl_s: Time to live of a record that is written without its own.
            history_s: How far back a search can look (`as_of`); None: not at all.
            ttl_s: Time to live of the collection itself.
        """
        call = _vectors.create_collection(
            collection,
            dimension,
            metric=metric,
            scope=scope,
            hnsw=hnsw,
            default_ttl_s=default_ttl_s,
            history_s=history_s,
            ttl_s=ttl_s,
        )
        return self._unary(call)

    def get_collection(self, collection: str, *, scope: str = "global") -> t.Collection:
        """One collection with its counts."""
        return self._unary(_vectors.get_collection(collection, scope))

    def update_collection(
        self,
        collection: str,
        *,
        scope: str = "global",
        default_ttl_s: float | None = None,
        history_s: float | None = None,
        ttl_s: float | None = None,
        ef_search: int | None = None,
    ) -> t.Collection:
        """Change settings; None leaves one as it is, 0 takes it away."""
        call = _vectors.update_collection(
            collection,
            scope=scope,
            default_ttl_s=default_ttl_s,
            history_s=history_s,
            ttl_s=ttl_s,
            ef_search=ef_search,
        )
        return self._unary(call)

    def configure_scope(
        self, scope: str, *, record_ttl_s: float | None = None, ttl_s: float | None = None
    ) -> t.ScopeSettings:
        """Set how long records of a scope live, and when it ends; None leaves, 0 takes away."""
        return self._unary(_vectors.configure_scope(scope, record_ttl_s=record_ttl_s, ttl_s=ttl_s))

    def list_collections(self, *, scope: str = "global") -> Iterator[t.Collection]:
        """The collections of a scope; `*` means of all scopes."""
        return self._entries(_vectors.list_collections(scope))

    def delete_collection(self, collection: str, *, scope: str = "global") -> int:
        """Remove a collection; how many records went with it."""
        return self._unary(_vectors.delete_collection(collection, scope))

    def upsert(
        self, collection: str, records: Iterable[t.Record], *, scope: str = "global"
    ) -> list[str]:
        """Write records, all or none, at most 1000; their ids."""
        return self._unary(_vectors.upsert(collection, records, scope))

    def import_vectors(
        self,
        collection: str,
        records: Iterable[t.Record] | t.Columns,
        *,
        scope: str = "global",
    ) -> Generator[t.Progress, None, None]:
        """Write any number of records; progress each time that more of them are on disk.

        Records are taken as there is room for them. An error ends it; what progress told of stands.
        """
        return self._exchange(_vectors.import_vectors(collection, records, scope))

    def update_metadata(
        self,
        collection: str,
        record_ids: Iterable[str] = (),
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002  (the field's own word for it)
        remove: Iterable[str] = (),
        replace: bool = False,
        filter: t.Filter | None = None,  # noqa: A002  (likewise)
        scope: str = "global",
    ) -> int:
        """Change metadata of records by id, or of all that match; how many there were.

        Args:
            collection: Where they are.
            record_ids: Which; at most 1000.
            set: Fields to write.
            remove: Fields to take away.
            replace: Take all other fields away.
            filter: Instead of ids.
            scope: Scope of the collection.
        """
        call = _vectors.update_metadata(
            collection,
            record_ids,
            where=filter,
            set_fields=set or {},
            remove=remove,
            replace=replace,
            scope=scope,
        )
        return self._unary(call)

    def get_vectors(
        self,
        collection: str,
        record_ids: Iterable[str],
        *,
        scope: str = "global",
        with_vectors: bool = False,
    ) -> list[t.Record]:
        """Records by id, in the order asked; those that are not there are left out."""
        return self._unary(
            _vectors.get_vectors(collection, record_ids, scope=scope, with_vectors=with_vectors)
        )

    def list_vectors(
        self,
        collection: str,
        *,
        filter: t.Filter | None = None,  # noqa: A002  (the field's own word for it)
        scope: str = "global",
        with_vectors: bool = False,
    ) -> Iterator[t.Record]:
        """Records in order of id; pages come as they are needed."""
        return self._entries(
            _vectors.list_vectors(collection, where=filter, scope=scope, with_vectors=with_vectors)
        )

    def delete_vectors(
        self,
        collection: str,
        record_ids: Iterable[str] = (),
        *,
        filter: t.Filter | None = None,  # noqa: A002  (the field's own word for it)
        scope: str = "global",
    ) -> int:
        """Remove records by id, or all that match; how many were there."""
        return self._unary(
            _vectors.delete_vectors(collection, record_ids, where=filter, scope=scope)
        )

    def delete_scope(self, scope: str) -> int:
        """Remove every collection of a scope; how many records went with them."""
        return self._unary(_vectors.delete_scope(scope))

    def search(
        self,
        collection: str,
        vector: t.VectorLike,
        k: int = 10,
        *,
        scope: str = "global",
        **settings: Unpack[t.VectorSettings],
    ) -> t.SearchResult[t.Hit]:
        """The `k` records nearest to a vector, as `types.VectorSettings` say.

        Raises:
            NotFound: COLLECTION_NOT_FOUND.
            InvalidArgument: DIMENSION_MISMATCH, VECTOR_ZERO, FILTER_INVALID, …
        """
        return self._unary(_vectors.search(collection, vector, k, scope=scope, settings=settings))

    def batch_search(
        self,
        collection: str,
        vectors: Iterable[t.VectorLike] | t.Matrix,
        k: int = 10,
        *,
        scope: str = "global",
        **settings: Unpack[t.VectorSettings],
    ) -> list[t.SearchResult[t.Hit]]:
        """Like `search`, for at most 100 vectors in one call; one result each, in order."""
        return self._unary(
            _vectors.batch_search(collection, vectors, k, scope=scope, settings=settings)
        )

    def stats(self, scope: str | None = None) -> t.VectorStats:
        """Counts of a scope's vectors; None: of the whole tenant's."""
        return self._unary(_vectors.stats(scope))

    def create_snapshot(self, collection: str, *, scope: str = "global") -> t.Snapshot:
        """Keep a copy of a collection as it is now."""
        return self._unary(_admin.create_snapshot(collection, scope))

    def list_snapshots(self, *, scope: str = "*", collection: str = "") -> list[t.Snapshot]:
        """The copies that there are, the newest first; `*` means of all scopes."""
        return self._unary(_admin.list_snapshots(scope, collection))

    def restore_snapshot(self, snapshot_id: str, *, scope: str = "", collection: str = "") -> int:
        """Put a collection back, or make another one of it; how many records that are."""
        return self._unary(_admin.restore_snapshot(snapshot_id, scope=scope, collection=collection))

    def delete_snapshot(self, snapshot_id: str) -> bool:
        """Remove a copy; whether there was one."""
        return self._unary(_admin.delete_snapshot(snapshot_id))

    def rebuild_index(self, collection: str, *, scope: str = "global") -> int:
        """Begin to build a collection's graphs anew; how many records they will hold."""
        return self._unary(_admin.rebuild_index(collection, scope))

    def checkpoint_index(self, collection: str, *, scope: str = "global") -> t.Checkpoint:
        """Wait until graphs cover what they should, and give back what deletions left."""
        return self._unary(_admin.checkpoint_index(collection, scope))

    def ingest(
        self,
        documents: Iterable[t.Document | str],
        *,
        collection: str = "documents",
        scope: str = "global",
        chunk_unit: t.ChunkUnit | None = None,
        chunk_size: int = 0,
        overlap: int | None = None,
        language: str = "",
        provider: str = "",
        timeout_s: float = _rag.INGEST_TIMEOUT_S,
    ) -> t.IngestResult:
        """Chunk, embed and store documents; one that was there under the same id is replaced.

        Args:
            documents: At most 256, 8 MiB and 5 000 chunks in all.
            collection: Made if there is none.
            scope: Scope of the collection.
            chunk_unit: Cut by characters (None), sentences, tokens, Markdown or code.
            chunk_size: In that unit; 0: 512 characters or 128 tokens.
            overlap: What the next chunk repeats; None: an eighth of the size, or none.
            language: For code, such as `python`; empty: by metadata or the end of the id.
            provider: Embedding provider; empty: the collection's, else the default.
            timeout_s: Seconds until it is given up; embedding may take long.

        Raises:
            FailedPrecondition: EMBEDDING_MISMATCH where the collection has another embedding.
        """
        call = _rag.ingest(
            documents,
            collection=collection,
            scope=scope,
            provider=provider,
            chunking=_rag.chunking(chunk_unit, chunk_size, overlap, language),
            timeout_s=timeout_s,
        )
        return self._unary(call)

    def import_documents(
        self,
        documents: Iterable[t.Document | str],
        *,
        collection: str = "documents",
        scope: str = "global",
        chunk_unit: t.ChunkUnit | None = None,
        chunk_size: int = 0,
        overlap: int | None = None,
        language: str = "",
        provider: str = "",
    ) -> Generator[t.Progress, None, None]:
        """Ingest any number of documents; progress each time that more of them are on disk.

        One that is there unchanged is passed over, so an import that was cut off goes on where it
        was when it is made again. Arguments as in `ingest`.
        """
        exchange = _rag.import_documents(
            documents,
            collection=collection,
            scope=scope,
            provider=provider,
            chunking=_rag.chunking(chunk_unit, chunk_size, overlap, language),
        )
        return self._exchange(exchange)

    def ensure_document_collection(
        self,
        collection: str = "documents",
        *,
        scope: str = "global",
        provider: str = "",
        hnsw: t.Hnsw | None = None,
        default_ttl_s: float | None = None,
        history_s: float | None = None,
        ttl_s: float | None = None,
    ) -> t.Collection:
        """Make a collection for documents with settings of its own, if there is none."""
        call = _rag.ensure_document_collection(
            collection,
            scope=scope,
            provider=provider,
            hnsw=hnsw,
            default_ttl_s=default_ttl_s,
            history_s=history_s,
            ttl_s=ttl_s,
        )
        return self._unary(call)

    def list_documents(
        self, *, collection: str = "documents", scope: str = "global"
    ) -> Iterator[t.DocumentSummary]:
        """The documents of a collection in order of id; pages come as they are needed."""
        return self._entries(_rag.list_documents(collection, scope))

    def retrieve(
        self,
        text: str,
        k: int = 10,
        *,
        collection: str = "documents",
        scope: str = "global",
        **settings: Unpack[t.TextSettings],
    ) -> t.SearchResult[t.Passage]:
        """The `k` best passages for a text, as `types.TextSettings` say."""
        return self._unary(
            _rag.retrieve(text, k, collection=collection, scope=scope, settings=settings)
        )

    def delete_documents(
        self,
        document_ids: Iterable[str],
        *,
        collection: str = "documents",
        scope: str = "global",
    ) -> int:
        """Remove documents, at most 1000; how many chunks went with them."""
        return self._unary(_rag.delete_documents(document_ids, collection, scope))

    def reembed(
        self, provider: str, *, collection: str = "documents", scope: str = "global"
    ) -> t.Reembedding:
        """Begin to embed a collection's texts with another provider, in the background."""
        return self._unary(_rag.reembed(provider, collection, scope))

    def reembedding(self, *, collection: str = "documents", scope: str = "global") -> t.Reembedding:
        """How far that is."""
        return self._unary(_rag.reembedding(collection, scope))

    def end_reembedding(self, *, collection: str = "documents", scope: str = "global") -> int:
        """End it, or give up the vectors that were kept to go back; how many records that were."""
        return self._unary(_rag.end_reembedding(collection, scope))

    def embedding_providers(self) -> list[t.EmbeddingProvider]:
        """The embedding providers that the deployment has."""
        return self._unary(_rag.embedding_providers())

    def chunk_text(
        self,
        text: str,
        *,
        chunk_unit: t.ChunkUnit | None = None,
        chunk_size: int = 0,
        overlap: int | None = None,
        language: str = "",
        provider: str = "",
    ) -> list[t.TextChunk]:
        """Cut a text as ingestion would, and store nothing; arguments as those of `ingest`."""
        how = _rag.chunking(chunk_unit, chunk_size, overlap, language)
        return self._unary(_rag.chunk_text(text, how, provider))

    def embed_texts(self, texts: Iterable[str], *, provider: str = "") -> t.EmbeddedTexts:
        """A vector for each text, as ingestion and retrieval make them; at most 256."""
        return self._unary(_rag.embed_texts(texts, provider))
