"""The names that a document pipeline takes: refused before a store sees them."""

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.vector.chunking import choose_chunking
from services.vector.embedding import open_providers
from services.vector.embedding.cache import MemoryCache
from services.vector.embedding.provider import EmbeddingSettings
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.model import Query
from services.vector.rag import Document, Rag
from services.vector.retrieval import Question, Retriever

BAD = ["a\0b", "../x", "-a", "a/b", "a" * 65, "ü"]


@pytest.fixture
def rag():
    return Rag(MemoryVectorStorage(FakeClock()), open_providers(EmbeddingSettings()), MemoryCache())


@pytest.mark.parametrize("name", BAD)
async def test_a_name_that_no_collection_can_have_is_refused_everywhere(rag, name):
    """In the same words by ingest, retrieve and delete (NUL reached the keys once)."""
    document = Document(text="x")
    retriever = Retriever(rag._storage, rag._providers, rag._cache)
    calls = [
        rag.ingest("acme", "global", name, [document], chunking=choose_chunking()),
        retriever.retrieve("acme", "global", name, Question(text="x", query=Query(vectors=()))),
        rag.delete("globex", "global", name, ["d"]),
    ]
    for call in calls:
        with pytest.raises(ServiceError) as caught:
            await call
        assert caught.value.reason == Reason.FIELD_INVALID
        assert caught.value.metadata["field"] == "collection_id"
