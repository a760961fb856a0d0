"""Passages for a text: by nearness, by words, or by both, and different ones if asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    limit_exceeded,
    required,
)
from services.common.limits import QUERY_TEXT_BYTES_MAX, SEARCH_LIMIT_MAX
from services.common.tracing import span
from services.vector.checks import check_settings
from services.vector.embedding.cache import CachedProvider, EmbeddingCache
from services.vector.embedding.provider import Providers
from services.vector.fusion import RANK_K, diverse, reciprocal_ranks, weighted_scores
from services.vector.model import (
    Collection,
    Hit,
    Mask,
    Query,
    SearchPath,
    SearchResult,
    Value,
)
from services.vector.rag import DEFAULT_COLLECTION, Place, collection_name, split_record_id
from services.vector.refusals import embedding_mismatch
from services.vector.storage import VectorStorage

CANDIDATES_MIN = 50
"""Of each ranking of a hybrid search, and to choose different ones from."""
_CANDIDATES_EACH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """How two rankings become one."""

    weighted: bool = False
    """The weighted sum of scores instead of reciprocal ranks."""
    rank_k: int = RANK_K
    dense_weight: float = 0.5
    lexical_weight: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to look for; `query` has filter, times, limit and the rest, but no vector."""

    text: str
    query: Query
    provider: str = ""
    """Empty: the one that made the collection's vectors."""
    dense: bool = True
    lexical: bool = False
    fusion: Fusion = Fusion()
    diversity: float | None = None
    """0 looks at relevance alone, 1 at novelty alone; None: no choice of different ones."""
    candidates: int = CANDIDATES_MIN
    """To choose different ones from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document that was found."""

    record_id: str
    document_id: str
    chunk_index: int
    text: str
    score: float
    metadata: dict[str, Value]
    dense_score: float | None = None
    lexical_score: float | None = None
    event_time_ns: int | None = None
    ingest_time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """Passages, best first."""

    passages: list[Passage]
    exact: bool
    revision: int
    path: SearchPath = SearchPath.SCAN
    candidate_count: int = 0
    match_count: int = 0
    complete: bool = True


class Retriever:
    """For every tenant of a deployment."""

    def __init__(self, storage: VectorStorage, providers: Providers, cache: EmbeddingCache) -> None:
        self._storage = storage
        self._providers = providers
        self._cache = cache

    async def retrieve(
        self, tenant: str, scope: str, collection_id: str, question: Question
    ) -> Retrieved:
        """The passages that fit a text best.

        The default collection counts as empty where nothing was ingested into it yet.

        Raises:
            ServiceError: FIELD_REQUIRED, LIMIT_EXCEEDED, COLLECTION_NOT_FOUND, EMBEDDING_MISMATCH,
                PROVIDER_UNAVAILABLE, and what `VectorStorage.search` raises.
        """
        _check(question)
        place = (tenant, scope, collection_name(collection_id))
        try:
            collection, _ = await self._storage.get_collection(*place)
        except ServiceError as error:
            absent = error.reason == Reason.COLLECTION_NOT_FOUND
            if absent and place[2] == DEFAULT_COLLECTION:
                stats = await self._storage.stats(tenant, scope)
                return Retrieved(passages=[], exact=True, revision=stats.revision)
            raise
        while True:
            try:
                found = await self._found(place, collection, question)
            except ServiceError:
                again, _ = await self._storage.get_collection(*place)
                if again.embedding == collection.embedding:
                    raise
            else:
                again, _ = await self._storage.get_collection(*place)
                if again.embedding == collection.embedding:
                    return found
            collection = again  # it was embedded anew meanwhile: vectors of two kinds

    async def _found(self, place: Place, collection: Collection, question: Question) -> Retrieved:
        wanted = replace(
            question.query,
            limit=_wanted(question),
            score_threshold=None,
            mask=Mask(vector=question.diversity is not None),
        )
        dense, lexical = await asyncio.gather(
            self._dense(place, collection, question, wanted),
            self._lexical(place, question, wanted),
        )
        passages = _fused(dense, lexical, question.fusion)
        if question.diversity is not None:
            hits = [hit for each in (dense, lexical) if each for hit in each.hits]
            passages = await asyncio.to_thread(_different, passages, hits, question)
        least = question.query.score_threshold
        kept = [each for each in passages if least is None or each.score >= least]
        told = dense or lexical
        assert told is not None
        return Retrieved(
            passages=kept[: question.query.limit],
            exact=told.exact,
            revision=told.revision,
            path=told.path,
            candidate_count=sum(each.candidate_count for each in (dense, lexical) if each),
            match_count=told.match_count,
            complete=told.complete,
        )

    async def _dense(
        self, place: Place, collection: Collection, question: Question, query: Query
    ) -> SearchResult | None:
        if not question.dense:
            return None
        made_by = collection.embedding.provider if collection.embedding else ""
        chosen = self._providers.choose(question.provider or made_by)
        if collection.embedding != chosen.identity:
            raise embedding_mismatch(
                collection.collection_id, collection.embedding, chosen.identity
            )
        embedder = CachedProvider(chosen, self._cache, tenant=place[0])
        with span("embed the question", {"gen_ai.request.model": chosen.identity.model}):
            embedded = await embedder.embed([question.text])
        query = replace(query, vectors=[embedded.vectors[0]])
        with span("search by meaning"):
            [result] = await self._storage.search(*place, query)
        return result

    async def _lexical(self, place: Place, question: Question, query: Query) -> SearchResult | None:
        if not question.lexical:
            return None
        with span("search by words"):
            return await self._storage.lexical_search(*place, question.text, query)


def _check(question: Question) -> None:
    if not question.text or question.text.isspace():
        raise required("text")
    size = len(question.text.encode())
    if size > QUERY_TEXT_BYTES_MAX:
        raise limit_exceeded("text", size, QUERY_TEXT_BYTES_MAX, "bytes")
    check_settings(question.query)
    fusion = question.fusion
    weights = (fusion.dense_weight, fusion.lexical_weight)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise field_invalid("fusion", "must have weights that are not negative, and not both zero")
    if not 1 <= fusion.rank_k <= SEARCH_LIMIT_MAX:
        raise field_invalid("fusion.reciprocal_rank_k", f"must be 1 to {SEARCH_LIMIT_MAX}")
    if question.diversity is not None and not 0 <= question.diversity <= 1:
        raise field_invalid("diversity.strength", "must be a number from 0 to 1")
    if not 1 <= question.candidates <= SEARCH_LIMIT_MAX:
        raise field_invalid("diversity.candidates", f"must be 1 to {SEARCH_LIMIT_MAX}")


def _wanted(question: Question) -> int:
    """How many of each ranking to ask for."""
    limit = question.query.limit
    if question.diversity is not None:
        limit = max(limit, question.candidates)
    if question.dense and question.lexical:
        limit = max(CANDIDATES_MIN, _CANDIDATES_EACH * limit)
    return min(limit, SEARCH_LIMIT_MAX)


def _fused(
    dense: SearchResult | None, lexical: SearchResult | None, fusion: Fusion
) -> list[Passage]:
    """All candidates, best first, equal ones in order of id."""
    near = {hit.record.record_id: hit for hit in dense.hits} if dense else {}
    worded = {hit.record.record_id: hit for hit in lexical.hits} if lexical else {}
    if dense and lexical:
        scores = _scores(list(near.values()), list(worded.values()), fusion)
    else:
        scores = {record_id: hit.score for record_id, hit in (near or worded).items()}
    passages = [
        _passage(
            near.get(record_id) or worded[record_id],
            score,
            dense_score=near[record_id].score if record_id in near else None,
            lexical_score=worded[record_id].score if record_id in worded else None,
        )
        for record_id, score in scores.items()
    ]
    return sorted(passages, key=lambda each: (-each.score, each.record_id))


def _different(
    passages: Sequence[Passage], hits: Sequence[Hit], question: Question
) -> list[Passage]:
    """As many as were asked for, of the best, that say something new each."""
    assert question.diversity is not None
    limit = question.query.limit
    best = passages[: max(question.candidates, limit)]
    if not best:
        return []
    vectors = {hit.record.record_id: hit.record.vector for hit in hits}
    matrix = np.asarray([vectors[each.record_id] for each in best], np.float32)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix /= np.where(lengths > 0, lengths, 1)
    scores = [each.score for each in best]
    chosen = diverse(scores, matrix, strength=question.diversity, limit=limit)
    return [best[place] for place in chosen]


def _scores(near: Sequence[Hit], worded: Sequence[Hit], fusion: Fusion) -> dict[str, float]:
    weights = (fusion.dense_weight, fusion.lexical_weight)
    if fusion.weighted:
        rankings = [{hit.record.record_id: hit.score for hit in hits} for hits in (near, worded)]
        return weighted_scores(rankings, weights)
    ids = [[hit.record.record_id for hit in hits] for hits in (near, worded)]
    return reciprocal_ranks(ids, weights, fusion.rank_k)


def _passage(
    hit: Hit, score: float, *, dense_score: float | None, lexical_score: float | None
) -> Passage:
    document_id, number = split_record_id(hit.record.record_id)
    return Passage(
        record_id=hit.record.record_id,
        document_id=document_id,
        chunk_index=number,
        text=hit.record.text,
        score=score,
        metadata=hit.record.metadata,
        dense_score=dense_score,
        lexical_score=lexical_score,
        event_time_ns=hit.record.event_time_ns,
        ingest_time_ns=hit.record.ingest_time_ns,
    )
