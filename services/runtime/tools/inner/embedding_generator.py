"""embedding-generator: vectors of texts, as ingestion and retrieval make them."""

from __future__ import annotations

from typing import Any

from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner.desk import InnerDesk

TEXTS_MAX = 128
"""Texts in one call; more would make an answer that scripts cannot receive."""


async def embed(
    desk: InnerDesk, texts: list[str], field: str, provider: str | None
) -> dict[str, Any]:
    """The answer of EmbedTexts; `field`: what the texts are called in a refusal."""
    renames = {"texts": field} if len(texts) > 1 else {"texts[0]": field, "texts": field}
    return await desk.ask("RagService/EmbedTexts", {"texts": texts, "provider": provider}, renames)


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    given = arguments["input"]
    texts = [given] if isinstance(given, str) else given
    answer = await embed(desk, texts, "input", arguments.get("provider"))
    vectors, identity = answer["vectors"], answer["identity"]
    result: dict[str, Any] = {
        "embeddings": vectors,
        "count": len(vectors),
        "dimension": identity["dimension"],
        "model": identity["model"],
        "provider": identity["provider"],
        "token_count": answer["token_count"],
        "cached_count": answer["cached_count"],
    }
    if isinstance(given, str):
        result["embedding"] = vectors[0]
    return Outcome(operation="embed", result=result, message=f"Embedded {len(vectors)} texts")


TOOL = Tool(
    name="embedding-generator",
    description="Makes vectors of texts with the deployment's embedding model.",
    category="rag",
    level=Level.SAFE,
    synonyms={"text": "input", "texts": "input", "content": "input", "model": "provider"},
    parameters=parameters(
        ("input",),
        input={
            "description": f"A text, or a list of at most {TEXTS_MAX}; each of at most 64 KiB.",
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "maxItems": TEXTS_MAX,
                },
            ],
        },
        provider={
            "type": "string",
            "description": "Embedding provider by name; by default the deployment's.",
        },
    ),
    result={
        "type": "object",
        "properties": {
            "embeddings": {
                "type": "array",
                "description": "A vector for each text, of length 1 (L2).",
                "items": {"type": "array", "items": {"type": "number"}},
            },
            "embedding": {
                "type": "array",
                "description": "The vector, where one text was given.",
                "items": {"type": "number"},
            },
            "count": {"type": "integer", "description": "How many there are."},
            "dimension": {"type": "integer", "description": "Numbers in a vector."},
            "model": {"type": "string", "description": "The model that made them."},
            "provider": {"type": "string", "description": "The provider that has the model."},
            "token_count": {"type": "integer", "description": "Tokens that the model read."},
            "cached_count": {"type": "integer", "description": "Texts that were known already."},
        },
        "required": ["embeddings", "count", "dimension", "model", "provider"],
    },
    notes="A real model, the one that RAG uses. What it cannot read to the end is cut there. "
    "Needs rag.embed.",
    run=_run,
)
