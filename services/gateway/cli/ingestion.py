"""Sends files to be ingested, in batches that keep the progress bar moving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from services.gateway.cli.documents import Skipped, Source, Text, UnfitFileError, read_text
from services.gateway.cli.output import say, stderr

if TYPE_CHECKING:
    from llmspell import Document, InvalidArgument
    from llmspell.types import IngestResult

Ingest: TypeAlias = "Callable[[list[Document]], IngestResult]"
"""Sends one batch."""

BATCH_DOCUMENTS = 64
BATCH_BYTES = 32 * 1024
"""About 70 chunks, which take a second or so to embed; far below the limits of a request."""

_PLAIN_LINES = 5
_PLAIN_WIDTH = 40


@dataclass(slots=True)
class Report:
    """What an ingestion did."""

    document_count: int = 0
    chunk_count: int = 0
    token_count: int = 0
    cached_count: int = 0
    revision: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    elapsed_s: float = 0.0

    def add(self, result: IngestResult) -> None:
        """Count one answer."""
        self.document_count += len(result.document_ids)
        self.chunk_count += result.chunk_count
        self.token_count += result.token_count
        self.cached_count += result.cached_count
        self.revision = result.revision

    def skip(self, path: str, why: str) -> None:
        """Name a file that is left out, at once and in the end."""
        self.skipped.append(Skipped(path, why))
        say(f"skipped {path}: {why}", "yellow")


Advance: TypeAlias = Callable[[int, int], None]
"""Told of documents and bytes that are done."""


def ingest_sources(sources: list[Source], ingest: Ingest, report: Report) -> None:
    """Read, batch and send; files that are unfit are named in the report.

    Raises:
        LLMSpellError: the service refused something that is no single file's fault.
    """
    started = time.monotonic()
    with _progress(sources) as advance:
        for batch in _batches(_read(sources, report, advance)):
            _send(batch, ingest, report)
            advance(len(batch), sum(text.source.file_bytes for text in batch))
    report.elapsed_s = round(time.monotonic() - started, 3)


def _read(sources: Iterable[Source], report: Report, advance: Advance) -> Iterator[Text]:
    for source in sources:
        try:
            yield read_text(source)
        except UnfitFileError as error:
            report.skip(str(source.path), str(error))
            advance(1, source.file_bytes)


def _batches(texts: Iterable[Text]) -> Iterator[list[Text]]:
    batch: list[Text] = []
    size = 0
    for text in texts:
        length = len(text.text.encode())
        if batch and (len(batch) == BATCH_DOCUMENTS or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


def _send(batch: list[Text], ingest: Ingest, report: Report) -> None:
    """Send a batch; where a document of it is refused, each alone, so that the others get in."""
    from llmspell import InvalidArgument  # noqa: PLC0415  (slow to import)

    try:
        report.add(ingest([_document(text) for text in batch]))
    except InvalidArgument as error:
        if not _is_about_document(error):
            raise
        if len(batch) == 1:
            report.skip(str(batch[0].source.path), error.message)
            return
        for text in batch:
            _send([text], ingest, report)


def _is_about_document(error: InvalidArgument) -> bool:
    """Whether another document might pass; a wrong collection or chunk size fails for all."""
    named = error.metadata.get("field", "")
    return named.startswith(("document", "metadata", "text")) or named == "chunks"


def _document(text: Text) -> Document:
    from llmspell import Document  # noqa: PLC0415  (slow to import)

    metadata = {"source": str(text.source.path), "title": text.title}
    return Document(text.text, text.source.document_id, metadata)


@contextmanager
def _progress(sources: list[Source]) -> Iterator[Advance]:
    """A bar with rate and time left on a terminal, a few lines elsewhere; on stderr."""
    total_bytes = sum(source.file_bytes for source in sources)
    console = stderr()
    if not console.is_terminal:
        yield _plain_progress(len(sources))
        return
    columns = (
        TextColumn("ingesting"),
        BarColumn(),
        TextColumn("{task.fields[documents]}/{task.fields[document_total]} documents"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        done = 0
        task = bar.add_task("", total=total_bytes, documents=0, document_total=len(sources))

        def advance(documents: int, file_bytes: int) -> None:
            nonlocal done
            done += documents
            bar.update(task, advance=file_bytes, documents=done)

        yield advance


def _plain_progress(total: int) -> Advance:
    """A line with a bar each time another part is done; for a pipe or a log."""
    done = 0

    def advance(documents: int, _: int) -> None:
        nonlocal done
        before = done * _PLAIN_LINES // max(total, 1)
        done += documents
        if done * _PLAIN_LINES // max(total, 1) > before:
            filled = done * _PLAIN_WIDTH // max(total, 1)
            say(f"  {'#' * filled:.<{_PLAIN_WIDTH}} {done}/{total} documents")

    return advance
