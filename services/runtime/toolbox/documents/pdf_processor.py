"""pdf-processor: text, metadata and pages of a PDF."""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pypdf
import pypdf._crypt_providers
import pypdf._text_extraction
import pypdf._text_extraction._layout_mode
import pypdf.filters
import pypdf.generic
import pypdf.xmp

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Failure,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.texts import ENCODINGS

FILE_BYTES_MAX = 100 * MIB
TEXT_LENGTH_MAX = 400_000
PAGES_MAX = 10_000
assert ENCODINGS  # loaded before the jail
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    """What a PDF has wrong is an answer with `success` false, as it always was."""
    operation, path = arguments["operation"], arguments["input"]
    with desk.folder.file(path, field="input") as file:
        size = os.fstat(file.fileno()).st_size
        if size > FILE_BYTES_MAX:
            raise limit_exceeded("input", size, FILE_BYTES_MAX, "bytes")
        try:
            return _OPERATIONS[operation](arguments, file)
        except (ToolError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - broken files raise anything
            text = f"{path} cannot be read as PDF: {error}"
            return Outcome(operation=operation, failure=Failure(message=text, code="pdf_invalid"))


def _opened(arguments: Arguments, file: BinaryIO) -> pypdf.PdfReader:
    reader = pypdf.PdfReader(file, strict=False)
    if reader.is_encrypted and not reader.decrypt(arguments["password"]):
        raise ValueError("it is encrypted, and this password does not open it")
    if len(reader.pages) > PAGES_MAX:
        raise limit_exceeded("input (pages)", len(reader.pages), PAGES_MAX)
    return reader


def _text(reader: pypdf.PdfReader, begin: int, end: int) -> tuple[list[str], bool]:
    """Each page's text from number `begin` to `end`, until there is too much of it."""
    left, pages = TEXT_LENGTH_MAX, []
    for number in range(begin, end + 1):
        text = reader.pages[number - 1].extract_text().encode("utf-8", "replace").decode()
        pages.append(text[:left])
        left -= len(text)
        if left <= 0:
            return pages, number < end or left < 0
    return pages, False


def _extract_text(arguments: Arguments, file: BinaryIO) -> Outcome:
    reader = _opened(arguments, file)
    pages, truncated = _text(reader, 1, len(reader.pages))
    text = "\n".join(pages)
    result = {
        "text": text,
        "file_path": arguments["input"],
        "length": len(text),
        "page_count": len(reader.pages),
        "truncated": truncated,
    }
    message = f"Extracted {len(text)} characters from {len(pages)} pages"
    return Outcome(operation="extract_text", message=message, result=result)


def _extract_pages(arguments: Arguments, file: BinaryIO) -> Outcome:
    reader = _opened(arguments, file)
    count: int = len(reader.pages)
    begin: int = arguments["start_page"]
    last: int = arguments.get("end_page", begin)
    end = min(last, count)
    if begin > count:
        text = f"There is no page {begin}; the document has {count}"
        return Outcome(
            operation="extract_pages", failure=Failure(message=text, code="page_not_found")
        )
    pages, truncated = _text(reader, begin, end)
    result = {
        "text": "\n".join(pages),
        "pages": [{"page": begin + n, "text": text} for n, text in enumerate(pages)],
        "start_page": begin,
        "end_page": begin + len(pages) - 1,
        "page_count": count,
        "file_path": arguments["input"],
        "truncated": truncated,
    }
    return Outcome(
        operation="extract_pages", message=f"Extracted {len(pages)} pages", result=result
    )


def _extract_metadata(arguments: Arguments, file: BinaryIO) -> Outcome:
    reader = _opened(arguments, file)
    known = os.fstat(file.fileno())
    path = PurePosixPath(arguments["input"])
    information = reader.metadata
    result: dict[str, Any] = {
        "file_path": arguments["input"],
        "file_size": known.st_size,
        "file_name": path.name,
        "file_extension": path.suffix.lstrip("."),
        "modified": round(known.st_mtime, 3),
        "page_count": len(reader.pages),
        "pdf_version": reader.pdf_header.removeprefix("%PDF-"),
        "encrypted": reader.is_encrypted,
    }
    for name in ("title", "author", "subject", "creator", "producer"):
        value = information and getattr(information, name)
        if value:
            result[name] = str(value)[:1000].encode("utf-8", "replace").decode()
    for name in ("creation_date", "modification_date"):
        moment = information and getattr(information, name)
        if isinstance(moment, dt.datetime):
            result[name] = moment.isoformat()
    message = f"Read metadata of {path.name}"
    return Outcome(operation="extract_metadata", message=message, result=result)


_OPERATIONS: dict[str, Callable[[Arguments, BinaryIO], Outcome]] = {
    "extract_text": _extract_text,
    "extract_metadata": _extract_metadata,
    "extract_pages": _extract_pages,
}

TOOLS = (
    Tool(
        name="pdf-processor",
        description="Extracts text, metadata and pages of a PDF.",
        category="data",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES}),
        limits=ToolLimits(wall_s=60.0, cpu_s=50, memory_bytes=512 * MIB),
        synonyms={"path": "input", "file_path": "input", "file": "input"},
        parameters=parameters(
            ("operation", "input"),
            operation={"enum": list(_OPERATIONS), "description": "What to extract."},
            input={"type": "string", "description": "The file."},
            start_page={
                "type": "integer",
                "minimum": 1,
                "default": 1,
                "description": "extract_pages: the first page.",
            },
            end_page={
                "type": "integer",
                "minimum": 1,
                "description": "extract_pages: the last page; without it, the first only.",
            },
            password={"type": "string", "default": "", "description": "Of an encrypted file."},
        ),
        result={
            "type": "object",
            "properties": {
                "text": {"description": "The text.", "type": "string"},
                "file_path": {"description": "The file.", "type": "string"},
                "length": {"description": "Characters of the text.", "type": "integer"},
                "pages": {"description": "Each page with its number and text.", "type": "array"},
                "page_count": {"description": "Pages of the document.", "type": "integer"},
                "start_page": {"description": "The first that was read.", "type": "integer"},
                "end_page": {"description": "The last that was read.", "type": "integer"},
                "truncated": {"description": "Whether there is more text.", "type": "boolean"},
                "file_size": {"description": "Bytes.", "type": "integer"},
                "file_name": {"description": "Its name without folders.", "type": "string"},
                "file_extension": {"description": "Its ending.", "type": "string"},
                "modified": {
                    "description": "When the file changed, in seconds since 1970.",
                    "type": "number",
                },
                "pdf_version": {"description": "Version of the format.", "type": "string"},
                "encrypted": {"description": "Whether it is encrypted.", "type": "boolean"},
                "title": {
                    "description": "As the document says, like all that follow.",
                    "type": "string",
                },
                "author": {"description": "Author.", "type": "string"},
                "subject": {"description": "Subject.", "type": "string"},
                "creator": {"description": "Program it was written with.", "type": "string"},
                "producer": {"description": "Program that made the PDF.", "type": "string"},
                "creation_date": {"description": "When it was made.", "type": "string"},
                "modification_date": {"description": "When it was changed.", "type": "string"},
            },
        },
        notes="Files up to 100 MiB; at most 400 000 characters come at once, and `truncated` tells "
        "that there is more. Pictures of text are not read.",
        run=_run,
    ),
)
