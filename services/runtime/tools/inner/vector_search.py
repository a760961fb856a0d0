"""vector-search: the records of a collection that are nearest to a vector or a text."""

from __future__ import annotations

from typing import Any

from services.common.errors import field_invalid
from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner import filters
from services.runtime.tools.inner.desk import InnerDesk, text_of
from services.runtime.tools.inner.embedding_generator import embed

_RENAMES = {"collection_id": "collection", "options.limit": "limit", "options.filter": "filter"}
_MASK = {"text": True, "metadata": True}


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    options = {
        "filter": filters.filter_tree(arguments.get("filter")),
        "limit": arguments["limit"],
        "score_threshold": arguments.get("threshold"),
        "exactness": "EXACT" if arguments["exact"] else None,
        "mask": _MASK,
    }
    request = {
        "scope": arguments["scope"],
        "collection_id": arguments["collection"],
        "vector": await _vector(arguments, desk),
        "options": options,
    }
    answer = await desk.ask("VectorService/Search", request, _RENAMES)
    hits = [_hit(hit) for hit in answer["hits"]]
    result = {
        "results": hits,
        "count": len(hits),
        "exact": answer["exact"],
        "complete": answer["complete"],
        "revision": answer["revision"],
    }
    return Outcome(operation="search", result=result, message=f"Found {len(hits)} records")


async def _vector(arguments: Arguments, desk: InnerDesk) -> list[float]:
    if ("vector" in arguments) == ("input" in arguments):
        raise field_invalid("vector", "or input must be set, and not both")
    if "vector" in arguments:
        given: list[float] = arguments["vector"]
        return given
    text = text_of(arguments, "input")
    answer = await embed(desk, [text], "input", arguments.get("provider"))
    made: list[float] = answer["vectors"][0]
    return made


def _hit(hit: dict[str, Any]) -> dict[str, Any]:
    told = {name: hit[name] for name in ("record_id", "score", "distance", "metadata", "text")}
    return told | {name: hit[name] for name in ("event_time", "ingest_time") if name in hit}


TOOL = Tool(
    name="vector-search",
    description="Finds the records of a collection nearest to a vector or a text.",
    category="rag",
    level=Level.RESTRICTED,
    synonyms={
        "query_vector": "vector",
        "embedding": "vector",
        "query": "input",
        "text": "input",
        "k": "limit",
        "top_k": "limit",
        "collection_id": "collection",
        "filters": "filter",
        "min_score": "threshold",
    },
    parameters=parameters(
        vector={
            "type": "array",
            "items": {"type": "number"},
            "minItems": 1,
            "maxItems": 4096,
            "description": "What to look for; or `input`.",
        },
        input={"type": "string", "description": "A text that is embedded and looked for."},
        collection={
            "type": "string",
            "default": "documents",
            "description": "Where to look; `documents` is RAG's.",
        },
        scope={"type": "string", "default": "global", "description": "Of the collection."},
        limit={
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "default": 10,
            "description": "How many.",
        },
        threshold={"type": "number", "description": "Only those with at least this score."},
        filter=filters.SCHEMA,
        exact={
            "type": "boolean",
            "default": False,
            "description": "Whether every record must be looked at.",
        },
        provider={"type": "string", "description": "Embedding provider for `input`."},
    ),
    result={
        "type": "object",
        "properties": {
            "results": {
                "type": "array",
                "description": "Best first: `record_id`, `score` (larger is nearer), `distance`, "
                "`text`, `metadata`, `event_time`, `ingest_time`.",
                "items": {"type": "object", "required": ["record_id", "score"]},
            },
            "count": {"type": "integer", "description": "How many there are."},
            "exact": {"type": "boolean", "description": "Whether every record was looked at."},
            "complete": {
                "type": "boolean",
                "description": "Whether these are all that are to be had, up to the limit.",
            },
            "revision": {"type": "integer", "description": "When this was true."},
        },
        "required": ["results", "count", "exact", "complete", "revision"],
    },
    notes="Sees what the caller's key sees, its row filter included. Needs vector.read, and "
    "rag.embed for `input`.",
    run=_run,
)
