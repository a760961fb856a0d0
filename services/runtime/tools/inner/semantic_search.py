"""semantic-search: passages of ingested documents for a text."""

from __future__ import annotations

from typing import Any

from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner import filters
from services.runtime.tools.inner.desk import InnerDesk, text_of

_MODES = {"semantic": "DENSE", "lexical": "LEXICAL", "hybrid": "HYBRID"}
_RENAMES = {"text": "input", "collection_id": "collection"}
_PASSAGE = ("document_id", "chunk_index", "text", "score", "metadata")


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    query = text_of(arguments, "input")
    request = {
        "text": query,
        "scope": arguments["scope"],
        "collection_id": arguments["collection"],
        "mode": _MODES[arguments["mode"]],
        "limit": arguments["limit"],
        "score_threshold": arguments.get("threshold"),
        "filter": filters.filter_tree(arguments.get("filter")),
        "diversity": {} if arguments["diverse"] else None,
        "provider": arguments.get("provider"),
    }
    if arguments["diverse"]:
        request["diversity"] = {"strength": 0.5}
    answer = await desk.ask("RagService/RetrieveDocuments", request, _RENAMES)
    passages = [_passage(passage) for passage in answer["passages"]]
    result = {
        "query": query,
        "results": passages,
        "count": len(passages),
        "mode": arguments["mode"],
        "complete": answer["complete"],
    }
    return Outcome(operation="search", result=result, message=f"Found {len(passages)} passages")


def _passage(passage: dict[str, Any]) -> dict[str, Any]:
    return {name: passage[name] for name in _PASSAGE}


TOOL = Tool(
    name="semantic-search",
    description="Finds the passages of ingested documents that fit a text best.",
    category="rag",
    level=Level.RESTRICTED,
    synonyms={
        "query": "input",
        "text": "input",
        "k": "limit",
        "top_k": "limit",
        "max_results": "limit",
        "collection_id": "collection",
        "filters": "filter",
        "min_score": "threshold",
    },
    parameters=parameters(
        ("input",),
        input={"type": "string", "description": "What to look for, in words."},
        collection={"type": "string", "default": "documents", "description": "Where to look."},
        scope={"type": "string", "default": "global", "description": "Of the collection."},
        limit={
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "default": 10,
            "description": "How many.",
        },
        mode={
            "enum": list(_MODES),
            "default": "semantic",
            "description": "By meaning, by words, or by both.",
        },
        threshold={"type": "number", "description": "Only those with at least this score."},
        filter=filters.SCHEMA,
        diverse={
            "type": "boolean",
            "default": False,
            "description": "Whether to choose passages that differ from each other.",
        },
        provider={
            "type": "string",
            "description": "Embedding provider; by default the collection's own.",
        },
    ),
    result={
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What was looked for."},
            "results": {
                "type": "array",
                "description": "Best first: `document_id`, `chunk_index`, `text`, `score`, "
                "`metadata`.",
                "items": {"type": "object", "required": list(_PASSAGE)},
            },
            "count": {"type": "integer", "description": "How many there are."},
            "mode": {"type": "string", "description": "How they were found."},
            "complete": {
                "type": "boolean",
                "description": "Whether these are all that are to be had, up to the limit.",
            },
        },
        "required": ["query", "results", "count", "mode", "complete"],
    },
    notes="The same as `RAG.search`: documents come in by `RAG.ingest` or `llmspell rag ingest`. "
    "Needs rag.read.",
    run=_run,
)
