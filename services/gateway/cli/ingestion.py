"""Sends files to be ingested, in batches that keep the progress bar moving."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
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
    from llmspell.types import Progress as Imported

Ingest: TypeAlias = "Callable[[list[Document]], IngestResult]"
"""Sends one batch."""
Import: TypeAlias = "Callable[[Iterator[Document]], Iterator[Imported]]"
"""Sends a stream, and tells of what is on disk."""

BATCH_DOCUMENTS = 64
BATCH_BYTES = 32 * 1024
"""About 70 chunks, which take a second or so to embed; far below the limits of a request."""

_PLAIN_LINES = 5
_PLAIN_WIDTH = 40


@dataclass(slots=True)
class Report:
    """What an ingestion did."""

    document_count: int = 0
    unchanged_count: int = 0
    """Documents that were there already, as they are."""
    chunk_count: int = 0
    token_count: int = 0
    cached_count: int = 0
    revision: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def done_count(self) -> int:
        """Documents that are in."""
        return self.document_count + self.unchanged_count

    def add_imported(self, progress: Imported) -> None:
        """Count what one stream came to."""
        self.document_count += progress.document_count
        self.unchanged_count += progress.unchanged_count
        self.chunk_count += progress.record_count
        self.token_count += progress.token_count
        self.cached_count += progress.cached_count
        self.revision = progress.revision

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


def ingest_sources(sources: list[Source], stream: Import, ingest: Ingest, report: Report) -> None:
    """Read and send; files that are unfit are named in the report.

    Where the service refuses a document of a stream, those that were not answered are sent in
    batches, which tells which of them it is, and a new stream takes the rest.

    Raises:
        LLMSpellError: the service refused something that is no single file's fault.
    """
    from llmspell import InvalidArgument  # noqa: PLC0415  (slow to import)
    from llmspell.errors import Unimplemented  # noqa: PLC0415  (likewise)

    started = time.monotonic()
    with _progress(sources) as advance:
        while sources:
            feed = _Feed(sources, report, advance)
            try:
                feed.run(stream)
                break
            except (InvalidArgument, Unimplemented) as error:
                if isinstance(error, InvalidArgument) and not _is_about_document(error):
                    raise
                waiting, sources = feed.stop()
                if isinstance(error, Unimplemented):  # an older deployment: batches do as well
                    waiting, sources = _chained(waiting, sources, report, advance), []
                for batch in _batches(waiting):
                    _send(batch, ingest, report)
                    advance(len(batch), sum(text.source.file_bytes for text in batch))
    report.elapsed_s = round(time.monotonic() - started, 3)


class _Feed:
    """Files on their way into one stream; what is not answered yet is remembered."""

    def __init__(self, sources: list[Source], report: Report, advance: Advance) -> None:
        self._sources = sources
        self._report = report
        self._advance = advance
        self._waiting: deque[Text] = deque()
        self._taken = 0
        self._lock = Lock()  # requests are read on a thread of gRPC's

    def run(self, stream: Import) -> None:
        """Send everything; count what was answered, also where it ends early."""
        answered, last = 0, None
        try:
            for progress in stream(self._documents()):
                total, last = progress.document_count + progress.unchanged_count, progress
                self._answer(total - answered)
                answered = total
        finally:
            if last is not None:
                self._report.add_imported(last)

    def stop(self) -> tuple[Iterable[Text], list[Source]]:
        """Texts that were not answered, and sources that were not read."""
        with self._lock:
            rest, self._sources = self._sources[self._taken :], []
            return list(self._waiting), rest

    def _documents(self) -> Iterator[Document]:
        while (text := self._next()) is not None:
            yield _document(text)

    def _next(self) -> Text | None:
        with self._lock:
            while self._taken < len(self._sources):
                source = self._sources[self._taken]
                self._taken += 1
                for text in _read([source], self._report, self._advance):
                    self._waiting.append(text)
                    return text
        return None

    def _answer(self, count: int) -> None:
        with self._lock:
            done = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        self._advance(len(done), sum(text.source.file_bytes for text in done))


def _chained(
    texts: Iterable[Text], sources: list[Source], report: Report, advance: Advance
) -> Iterator[Text]:
    yield from texts
    yield from _read(sources, report, advance)


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
