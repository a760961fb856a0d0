"""About 200 real pages, two tenants, and everything that finding things is made of.

Start `llmspell up` elsewhere, then: `python examples/pages.py`. It makes the tenants `library` and
`archive`, ingests the manual that Python carries with it, and asks it through the command line;
`examples/pages.lua` then asks the same through Lua. Both tenants are removed at the end.
"""

# ruff: noqa: INP001, T201, S603, PLW1510  (an example: a script that prints and starts commands)
from __future__ import annotations

import json
import os
import pydoc_data.topics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGES = 200
PIECE_CHARACTERS = 1000
LUA = Path(__file__).with_name("pages.lua")
COLLECTION = ("--collection", "manual")


class CommandLine:
    """`llmspell …`, as the operator or with a tenant's key."""

    def __init__(self, key: str = "") -> None:
        self._environment = {**os.environ, **({"LLMSPELL_API_KEY": key} if key else {})}

    def __call__(self, *arguments: str | Path) -> None:
        """Show a command and what it prints."""
        print(f"\n$ llmspell {' '.join(map(_shown, arguments))}", flush=True)
        self._run(arguments, check=True)

    def read(self, *arguments: str | Path) -> Any:
        """What a command prints as JSON."""
        done = self._run((*arguments, "--json"), check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    def _run(self, arguments: tuple[str | Path, ...], **options: Any) -> Any:
        command = [sys.executable, "-m", "services.gateway.cli.main", *map(str, arguments)]
        return subprocess.run(command, env=self._environment, text=True, **options)


def write_pages(folder: Path) -> None:
    """Python's own manual as pages of a thousand characters, a heading each."""
    folder.mkdir()
    written = 0
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        for start in range(0, len(text), PIECE_CHARACTERS):
            if written == PAGES:
                return
            name = f"{topic.lower()}-{start // PIECE_CHARACTERS + 1}.md"
            page = f"# {topic}\n\n{text[start : start + PIECE_CHARACTERS]}"
            (folder / name).write_text(page, "utf-8")
            written += 1


def main() -> None:
    """Walk through it, one command after the other."""
    operator = CommandLine()
    library, archive = (_tenant(operator, name) for name in ("library", "archive"))
    try:
        with tempfile.TemporaryDirectory() as folder:
            _ask(library, archive, Path(folder) / "pages")
    finally:
        for name in ("library", "archive"):
            operator("tenant", "delete", name, "--yes")


def _ask(library: CommandLine, archive: CommandLine, folder: Path) -> None:
    write_pages(folder)
    _title("A collection that keeps an hour of history, and 200 pages in it")
    library("exec", 'RAG.configure{collection = "manual"}; print("ready")')
    library("rag", "ingest", folder, *COLLECTION)
    library("vector", "update", "manual", "--history", "1h")

    _title("By meaning, by words, by both")
    question = "how do I catch an exception"
    for mode in ("dense", "lexical", "hybrid"):
        library("rag", "search", question, "-k", "2", "--mode", mode, *COLLECTION)

    _title("Only some pages, in either shape of filter")
    short = '{"title": {"prefix": "comp"}}'
    library("rag", "search", question, "-k", "2", "--filter", short, *COLLECTION)
    qdrant = '{"must_not": [{"key": "title", "match": {"any": ["compound", "exceptions"]}}]}'
    library("rag", "search", question, "-k", "2", "--filter", qdrant, "--mmr", "0.5", *COLLECTION)

    _title("A page is deleted, and yet there when asked about the time before")
    [found] = library.read("rag", "search", question, "-k", "1", *COLLECTION)["passages"]
    time.sleep(1)
    before = datetime.now(UTC).isoformat()
    time.sleep(1)
    library("rag", "delete", found["document_id"], *COLLECTION)
    library("rag", "search", question, "-k", "1", *COLLECTION)
    library("rag", "search", question, "-k", "1", "--as-of", before, *COLLECTION)

    _title("The other tenant has nothing, and is told nothing")
    archive("rag", "ingest", min(folder.glob("calls-*")), *COLLECTION)
    archive("rag", "search", question, "-k", "1", *COLLECTION)
    archive("rag", "list", *COLLECTION)

    _title("The same from a script")
    library("run", LUA, "--arg", f"before={before}", "--arg", f"deleted={found['document_id']}")
    library("rag", "stats")


def _tenant(operator: CommandLine, name: str) -> CommandLine:
    operator("tenant", "create", name, "--isolation", "hybrid")
    return CommandLine(operator.read("key", "create", "--tenant", name)["key"])


def _title(text: str) -> None:
    print(f"\n── {text} ".ljust(90, "─"), flush=True)


def _shown(argument: str | Path) -> str:
    text = argument.name if isinstance(argument, Path) else argument
    return f"'{text}'" if set(text) & set(' {}"') else text


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failure:  # the command has said why
        sys.exit(failure.returncode)
