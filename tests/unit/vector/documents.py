"""Documents of two tenants over a real engine and two real providers, for tests of the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.clock import FakeClock
from services.vector.chunking import Chunking, choose_chunking
from services.vector.embedding import open_providers
from services.vector.embedding.cache import EmbeddingCache
from services.vector.embedding.provider import EmbeddingSettings, OpenAISettings, Providers
from services.vector.engines import open_engine
from services.vector.model import Query
from services.vector.rag import Document, Ingested, Rag
from services.vector.reembed import Reembedder
from services.vector.retrieval import Question, Retrieved, Retriever
from services.vector.storage import VectorStorage
from tests.embedding_server import EmbeddingServer, serve_embeddings

ENGINES = ["memory", "embedded"]
DIMENSION = 16
WHOLE = choose_chunking(size=8192)


@dataclass(frozen=True)
class Library:
    """The parts, and the shortest way to use them."""

    storage: VectorStorage
    providers: Providers
    cache: EmbeddingCache
    server: EmbeddingServer
    clock: FakeClock

    @property
    def rag(self) -> Rag:
        """Documents in."""
        return Rag(self.storage, self.providers, self.cache)

    @property
    def reembedder(self) -> Reembedder:
        """A new one each time, as after a restart."""
        return Reembedder(self.storage, self.providers, self.cache)

    async def put(
        self, tenant: str, *documents: Document, chunking: Chunking = WHOLE, **rest: Any
    ) -> Ingested:
        """Ingest into `docs`."""
        return await self.rag.ingest(tenant, "global", "docs", documents, chunking=chunking, **rest)

    async def ask(self, tenant: str, text: str, *, limit: int = 10, **rest: Any) -> Retrieved:
        """Passages of `docs`; fields of Query may be given too."""
        names = Query.__dataclass_fields__.keys() & rest.keys()
        query = Query(vectors=(), limit=limit, **{name: rest.pop(name) for name in names})
        retriever = Retriever(self.storage, self.providers, self.cache)
        question = Question(text=text, query=query, **rest)
        return await retriever.retrieve(tenant, "global", "docs", question)


@asynccontextmanager
async def library(engine: str, folder: Path, *, default: str = "openai") -> AsyncIterator[Library]:
    """Everything, closed at the end."""
    clock = FakeClock()
    with serve_embeddings() as server:
        settings = EmbeddingSettings(
            default_provider=default,
            openai=OpenAISettings(
                base_url=server.base_url, api_key="sk-x", dimension=DIMENSION, max_retries=0
            ),
        )
        providers = open_providers(settings)
        opened = open_engine(engine, folder, clock=clock, exact_threshold=10_000)
        try:
            yield Library(opened.storage, providers, opened.embeddings, server, clock)
        finally:
            await opened.storage.close()
            await providers.close()


def texts(found: Retrieved) -> list[str]:
    """The passages' texts."""
    return [passage.text for passage in found.passages]
