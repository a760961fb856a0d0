"""file-converter: another encoding, other ends of lines, spaces for tabs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import charset_normalizer

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    failed,
    field_invalid,
    parameters,
)
from services.runtime.toolbox.texts import known_encoding

FILE_BYTES_MAX = 32 * MIB
_DETECTED_BYTES = MIB
_ENDS = {"lf": "\n", "unix": "\n", "crlf": "\r\n", "windows": "\r\n", "cr": "\r", "mac": "\r"}
_LINE_END = re.compile(r"\r\n|\r|\n")
_MARKS = ((b"\xef\xbb\xbf", "utf_8_sig"), (b"\xff\xfe\0\0", "utf_32"), (b"\0\0\xfe\xff", "utf_32"),
          (b"\xff\xfe", "utf_16"), (b"\xfe\xff", "utf_16"))  # fmt: skip


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation: str = arguments["operation"]
    path: str = arguments["path"]
    target: str = arguments.get("target_path") or path
    data = desk.folder.read(path, limit=FILE_BYTES_MAX)
    source = _source_encoding(arguments, data)
    text = _decoded(data, source)
    converted, encoding = _CONVERSIONS[operation](arguments, text, source)
    try:
        written = converted.encode(encoding)
    except UnicodeEncodeError as error:
        sign = error.object[error.start]
        text = f"The file has {sign!r}, which {arguments['to_encoding']} cannot hold."
        raise failed(text, position=error.start) from None
    desk.folder.write(target, written, field="target_path")
    result = {
        "input_path": path,
        "output_path": target,
        "operation": operation,
        "from_encoding": source.replace("_", "-"),
        "to_encoding": encoding.replace("_", "-"),
        "input_size": len(data),
        "output_size": len(written),
        "changed": written != data,
    }
    return Outcome(operation=operation, message=f"Converted {path} to {target}", result=result)


def _source_encoding(arguments: Arguments, data: bytes) -> str:
    """What the caller says, or what the bytes look like."""
    if "from_encoding" in arguments:
        return _encoding(arguments, "from_encoding")
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    try:
        data.decode()
    except UnicodeDecodeError:
        best = charset_normalizer.from_bytes(data[:_DETECTED_BYTES]).best()
        if best is None:
            raise failed("The file's encoding cannot be told; set from_encoding.") from None
        return best.encoding
    return "utf_8"


def _encoding(arguments: Arguments, field: str) -> str:
    known = known_encoding(arguments[field])
    if known is None:
        raise field_invalid(field, "must be an encoding of text, such as utf-8 or latin-1")
    return known


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeError as error:
        raise failed(f"The file is not {encoding.replace('_', '-')}: {error}.") from None


def _to_encoding(arguments: Arguments, text: str, _: str) -> tuple[str, str]:
    return text, _encoding(arguments, "to_encoding")


def _to_line_ends(arguments: Arguments, text: str, encoding: str) -> tuple[str, str]:
    return _LINE_END.sub(_ENDS[arguments["line_ending"]], text), encoding


def _to_indentation(arguments: Arguments, text: str, encoding: str) -> tuple[str, str]:
    """Of the begins of lines only; ends of lines stay what they are."""
    width: int = arguments["tab_size"]
    lines = text.splitlines(keepends=True)
    return "".join(
        _indented(line, width, arguments["convert_to_spaces"]) for line in lines
    ), encoding


def _indented(line: str, width: int, to_spaces: bool) -> str:
    body = line.lstrip(" \t")
    columns = len(line[: len(line) - len(body)].expandtabs(width))
    if to_spaces:
        return " " * columns + body
    return "\t" * (columns // width) + " " * (columns % width) + body


_CONVERSIONS: dict[str, Callable[[Arguments, str, str], tuple[str, str]]] = {
    "encoding": _to_encoding,
    "line_endings": _to_line_ends,
    "indentation": _to_indentation,
}

_RESULT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "input_path": {"description": "The file.", "type": "string"},
        "output_path": {"description": "Where it was written.", "type": "string"},
        "operation": {"description": "What was done.", "type": "string"},
        "from_encoding": {"description": "Encoding that it had.", "type": "string"},
        "to_encoding": {"description": "Encoding that it has.", "type": "string"},
        "input_size": {"description": "Bytes before.", "type": "integer"},
        "output_size": {"description": "Bytes now.", "type": "integer"},
        "changed": {"description": "Whether anything differs.", "type": "boolean"},
    },
    "required": ["input_path", "output_path", "operation"],
}

TOOLS = (
    Tool(
        name="file-converter",
        description="Converts a text file's encoding, ends of lines or indentation.",
        category="filesystem",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES}),
        limits=ToolLimits(memory_bytes=512 * MIB, cpu_s=20),
        synonyms={"input": "path", "input_path": "path", "output_path": "target_path"},
        parameters=parameters(
            ("operation", "path"),
            operation={"enum": list(_CONVERSIONS), "description": "What to convert."},
            path={"type": "string", "description": "The file."},
            target_path={"type": "string", "description": "Where the result goes; else in place."},
            from_encoding={
                "type": "string",
                "description": "The file's encoding; without it, it is told from the bytes.",
            },
            to_encoding={
                "type": "string",
                "default": "utf-8",
                "description": "encoding: to which.",
            },
            line_ending={
                "enum": list(_ENDS),
                "default": "lf",
                "description": "line_endings: which.",
            },
            convert_to_spaces={
                "type": "boolean",
                "default": True,
                "description": "indentation: tabs to spaces, or else spaces to tabs.",
            },
            tab_size={
                "type": "integer",
                "minimum": 1,
                "maximum": 16,
                "default": 4,
                "description": "indentation: columns of a tab.",
            },
        ),
        result=_RESULT,
        notes="Files up to 32 MiB. A sign that the new encoding cannot hold is an error, and the "
        "file stays as it was.",
        run=_run,
    ),
)
