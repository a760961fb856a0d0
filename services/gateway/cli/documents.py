"""Files as documents: which files a path means, and what each of them says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.common.limits import DOCUMENT_BYTES_MAX
from services.gateway.cli.markup import heading, html_to_text

SUFFIXES = (".txt", ".md", ".rst", ".html", ".htm")
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is to be ingested."""

    path: Path
    document_id: str
    """Its path relative to the root that was given."""
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not ingested, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Text:
    """What a file says."""

    source: Source
    text: str
    title: str


class UnfitFileError(Exception):
    """A file cannot be ingested; the message says why."""


def find_sources(roots: Iterable[Path]) -> tuple[list[Source], list[Skipped]]:
    """The files that the given files and folders mean, in order, and those that are unfit.

    Folders are walked without following links to folders; names that begin with a dot are left
    out, and so are files of other kinds.
    """
    sources: dict[str, Source] = {}
    skipped = []
    for root in roots:
        for path, document_id in _files(root):
            try:
                _refuse_bytes(path)
                source = Source(path, document_id, _size(path))
                _refuse_twin(source, sources.get(document_id))
            except UnfitFileError as error:
                shown = os.fsencode(path).decode("utf-8", "replace")
                skipped.append(Skipped(shown, str(error)))
            else:
                sources.setdefault(document_id, source)
    return list(sources.values()), skipped


def read_text(source: Source) -> Text:
    """What a file says.

    Raises:
        UnfitFileError: it cannot be read, is not UTF-8, or says nothing.
    """
    try:
        content = source.path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnfitFileError(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UnfitFileError(f"it is not UTF-8 text at byte {error.start}") from None
    suffix = source.path.suffix.lower()
    if suffix in (".html", ".htm"):
        title, text = html_to_text(content)
    else:
        title, text = heading(content, suffix), content
    if not text.strip():
        raise UnfitFileError("it holds no text")
    return Text(source, text, title or source.path.stem)


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    """Files under a root with their ids; a root that is no folder stands for itself."""
    if not root.is_dir():
        yield root, root.name
        return
    for folder, folders, names in os.walk(root, onerror=None):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                yield path, path.relative_to(root).as_posix()


def _size(path: Path) -> int:
    """A file's size.

    Raises:
        UnfitFileError: there is none, or it is not a file that can be ingested.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UnfitFileError(f"it cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnfitFileError("it is not a regular file")
    if path.suffix.lower() not in SUFFIXES:
        raise UnfitFileError(f"it is none of {', '.join(SUFFIXES)}")
    if status.st_size > DOCUMENT_BYTES_MAX:
        size, limit = status.st_size / _MIB, DOCUMENT_BYTES_MAX // _MIB
        raise UnfitFileError(f"it has {size:.1f} MiB; the limit is {limit} MiB")
    return status.st_size


def _refuse_bytes(path: Path) -> None:
    """A name that is no text can be neither an id nor a source."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UnfitFileError("its name is not UTF-8 text") from None


def _refuse_twin(source: Source, twin: Source | None) -> None:
    """Two files of one id would replace each other."""
    if twin is not None and not twin.path.samefile(source.path):
        raise UnfitFileError(
            f"its id {source.document_id} is that of {twin.path} too; ingest a folder above both"
        )
