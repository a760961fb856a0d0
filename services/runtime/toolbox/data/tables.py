"""CSV text as a header and rows: delimiter and header are guessed where they are not told."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.toolbox import text_bytes
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import MIB, Arguments, field_invalid, limit_exceeded, required

INPUT_BYTES_MAX = 64 * MIB
COLUMNS_MAX = 1_000
CELL_BYTES_MAX = MIB
_GUESS_LINES = 50
_DELIMITERS = (",", ";", "\t", "|", ":")
_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_SURELY_FINITE = 5
"""Letters of a number below which no exponent makes it infinite."""
_LEADING_ZERO = re.compile(r"[+-]?0\d")
NULLS = frozenset({"", "null", "none", "na", "n/a", "nan", "nil"})
"""What stands for nothing, in lower case."""

csv.field_size_limit(CELL_BYTES_MAX)


@dataclass(slots=True)
class Table:
    """A header and its rows, read once, in order."""

    columns: list[str]
    rows: Iterator[list[str]]
    """Each has a cell for each column: missing ones are empty, others are dropped."""
    faults: list[dict[str, Any]]
    """Rows that had more or fewer, as they are met; at most `FAULTS_MAX`."""
    delimiter: str
    encoding: str
    has_headers: bool
    size_bytes: int


FAULTS_MAX = 100


def open_table(arguments: Arguments, desk: Desk) -> Table:
    """The table of `input` or `input_file`.

    Raises:
        ToolError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED, and what files raise.
    """
    text, encoding, size = _text(arguments, desk)
    options = arguments["options"]
    delimiter = _delimiter(text, options)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    rows = _records(lines)
    first = next(rows, None)
    if first is None:
        raise field_invalid("input", "has no rows")
    if len(first) > COLUMNS_MAX:
        raise limit_exceeded("input", len(first), COLUMNS_MAX, "columns")
    has_headers = bool(options.get("has_headers", _looks_like_header(first)))
    faults: list[dict[str, Any]] = []
    columns = _unique(first if has_headers else [f"column_{at + 1}" for at in range(len(first))])
    rest = rows if has_headers else itertools.chain([first], rows)
    return Table(
        columns=columns,
        rows=_fitted(rest, len(columns), faults, first_line=2 if has_headers else 1),
        faults=faults,
        delimiter=delimiter,
        encoding=encoding,
        has_headers=has_headers,
        size_bytes=size,
    )


def _text(arguments: Arguments, desk: Desk) -> tuple[str, str, int]:
    if "input_file" in arguments:
        path = arguments["input_file"]
        data = desk.folder.read(path, field="input_file", limit=INPUT_BYTES_MAX)
        text, encoding = text_bytes.decoded(data)
        return text, encoding, len(data)
    text = required(arguments, "input")
    return text.removeprefix("\ufeff"), "utf-8", len(text.encode())


def _delimiter(text: str, options: Mapping[str, Any]) -> str:
    told = options.get("delimiter")
    if told:
        delimiter = str(_NAMED.get(told.lower(), told))
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise field_invalid("options.delimiter", "must be one letter")
        return delimiter
    sample = list(itertools.islice(io.StringIO(text), _GUESS_LINES))
    return max(_DELIMITERS, key=lambda delimiter: _fitness(sample, delimiter))


def _fitness(sample: list[str], delimiter: str) -> tuple[float, int]:
    """How many rows have as many cells as the first, where that has several."""
    try:
        widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
    except csv.Error:
        return 0.0, 0
    if not widths or widths[0] == 1:
        return 0.0, 0
    return widths.count(widths[0]) / len(widths), widths[0]


def _records(lines: Iterable[list[str]]) -> Iterator[list[str]]:
    try:
        yield from (row for row in lines if row)
    except csv.Error as error:
        raise field_invalid("input", f"is not CSV: {error}") from None


def _looks_like_header(row: list[str]) -> bool:
    names = [cell.strip() for cell in row]
    return all(names) and len(set(names)) == len(names) and not any(map(is_number, names))


def _unique(names: list[str]) -> list[str]:
    """Names without blanks around them; one that comes again gets a number."""
    known: dict[str, int] = {}
    unique = []
    for at, name in enumerate(names):
        plain = name.strip() or f"column_{at + 1}"
        known[plain] = known.get(plain, 0) + 1
        unique.append(plain if known[plain] == 1 else f"{plain}_{known[plain]}")
    return unique


def _fitted(
    rows: Iterator[list[str]], width: int, faults: list[dict[str, Any]], *, first_line: int
) -> Iterator[list[str]]:
    for number, row in enumerate(rows, first_line):
        if len(row) != width:
            if len(faults) < FAULTS_MAX:
                error = f"has {len(row)} cells instead of {width}"
                faults.append({"row": number, "error": error})
            row = [*row[:width], *[""] * (width - len(row))]  # noqa: PLW2901 - the fitted one
        yield row


def is_number(cell: str) -> bool:
    """Whether a cell is a number as it stands, and a finite one; 007 is a name."""
    if not _NUMBER.fullmatch(cell) or _LEADING_ZERO.match(cell):
        return False
    return len(cell) < _SURELY_FINITE or math.isfinite(float(cell))


def value_of(cell: str) -> Any:
    """A cell as null, a truth, a number or text."""
    plain = cell.strip()
    if plain.lower() in NULLS:
        return None
    if plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    if is_number(plain):
        return int(plain) if _INTEGER.fullmatch(plain) else float(plain)
    return cell


def written(columns: list[str], rows: Iterable[list[str]], delimiter: str = ",") -> Iterator[str]:
    """CSV, line by line."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    for row in itertools.chain([columns], rows):
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
