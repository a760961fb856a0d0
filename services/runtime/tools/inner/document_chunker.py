"""document-chunker: cuts a text as ingestion would."""

from __future__ import annotations

from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner.desk import InnerDesk, text_of

_UNITS = {
    "sliding_window": "CHARACTERS",
    "characters": "CHARACTERS",
    "sentences": "SENTENCES",
    "tokens": "TOKENS",
    "markdown": "MARKDOWN",
    "code": "CODE",
}
_RENAMES = {
    "text": "input",
    "chunks": "input",
    "chunking.size": "chunk_size",
    "chunking.overlap": "overlap",
    "chunking.language": "language",
}


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    strategy = arguments["strategy"]
    chunking = {
        "unit": _UNITS[strategy],
        "size": arguments.get("chunk_size"),
        "overlap": arguments.get("overlap"),
        "language": arguments.get("language"),
    }
    request = {
        "text": text_of(arguments, "input"),
        "chunking": chunking,
        "provider": arguments.get("provider"),
    }
    answer = await desk.ask("RagService/ChunkText", request, _RENAMES)
    chunks = [{"index": index, **chunk} for index, chunk in enumerate(answer["chunks"])]
    result = {"chunks": chunks, "chunk_count": len(chunks), "strategy": strategy}
    return Outcome(operation="chunk", result=result, message=f"Cut into {len(chunks)} chunks")


TOOL = Tool(
    name="document-chunker",
    description="Cuts a text into chunks of characters, sentences, tokens, Markdown or code.",
    category="rag",
    level=Level.SAFE,
    synonyms={
        "text": "input",
        "content": "input",
        "document": "input",
        "data": "input",
        "size": "chunk_size",
        "max_chunk_size": "chunk_size",
        "chunk_overlap": "overlap",
        "method": "strategy",
    },
    parameters=parameters(
        ("input",),
        input={"type": "string", "description": "The text, at most 4 MiB."},
        strategy={
            "enum": list(_UNITS),
            "default": "sliding_window",
            "description": "What to cut by; `sliding_window` is by characters, at word ends.",
        },
        chunk_size={
            "type": "integer",
            "minimum": 1,
            "description": "Largest chunk, in characters or tokens; by default 512 or 128.",
        },
        overlap={
            "type": "integer",
            "minimum": 0,
            "description": "How much a chunk repeats of the one before; by default an eighth of "
            "the size, and nothing for Markdown and code.",
        },
        language={
            "enum": ["c", "go", "java", "javascript", "python", "rust", "typescript"],
            "description": "Of program text, with the strategy `code`.",
        },
        provider={
            "type": "string",
            "description": "Embedding provider whose tokens are counted; by default the "
            "deployment's.",
        },
    ),
    result={
        "type": "object",
        "properties": {
            "chunks": {
                "type": "array",
                "description": "In order: `index` from 0, `text`, and `start` and `end` of it in "
                "characters.",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": {"type": "integer"},
                        "text": {"type": "string"},
                        "start": {"type": "integer"},
                        "end": {"type": "integer"},
                    },
                    "required": ["index", "text", "start", "end"],
                },
            },
            "chunk_count": {"type": "integer", "description": "How many there are."},
            "strategy": {"type": "string", "description": "What was cut by."},
        },
        "required": ["chunks", "chunk_count", "strategy"],
    },
    notes="The same cut that `RAG.ingest` makes. At most 5000 chunks. Needs rag.read.",
    run=_run,
)
