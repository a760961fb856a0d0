"""csv-analyzer: statistics of CSV, and its conversion, filtering, sampling, changing, checking."""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from services.runtime.toolbox.data import row_filter, tables, workbooks
from services.runtime.toolbox.data.columns import Column
from services.runtime.toolbox.data.tables import Table
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    field_invalid,
    field_required,
    limit_exceeded,
    not_implemented,
    parameters,
)
from services.runtime.toolbox.schema import (
    anything,
    choice,
    flag,
    listing,
    mapping,
    one_of,
    record,
    text,
    whole,
)
from services.runtime.toolbox.utility import expression, validation_rules
from services.runtime.toolbox.utility.expression import ExpressionError

RESULT_BYTES_MAX = 1_500_000
BINARY_BYTES_MAX = 1_000_000
OBJECTS_MAX = 20_000
"""Rows that `convert` to JSON may give."""
ERRORS_MAX = 1_000


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    table = tables.open_table(arguments, desk)
    result, metadata = _OPERATIONS[operation](table, arguments["options"])
    if isinstance(result, str | bytes) and "output_file" in arguments:
        data = result.encode() if isinstance(result, str) else result
        desk.folder.write(arguments["output_file"], data, field="output_file")
        metadata["output_file"] = arguments["output_file"]
    if isinstance(result, bytes):
        result = _binary(result, arguments)
    return Outcome(operation=operation, result=result, metadata=metadata)


def _binary(data: bytes, arguments: Arguments) -> dict[str, Any]:
    """What became a file is not told a second time."""
    told = {"format": arguments["options"]["format"], "size_bytes": len(data)}
    if "output_file" in arguments:
        return {**told, "output_file": arguments["output_file"]}
    if len(data) > BINARY_BYTES_MAX:
        raise limit_exceeded("result", len(data), BINARY_BYTES_MAX, "bytes without output_file")
    return {**told, "encoding": "base64", "data": base64.b64encode(data).decode()}


Done = tuple[Any, dict[str, Any]]


def _analyze(table: Table, _: dict[str, Any]) -> Done:
    columns = [Column(name) for name in table.columns]
    count = 0
    for row in table.rows:
        count += 1
        for column, cell in zip(columns, row, strict=True):
            column.add(cell)
    result = {
        "row_count": count,
        "column_count": len(columns),
        "encoding": table.encoding,
        "delimiter": table.delimiter,
        "has_headers": table.has_headers,
        "columns": [column.told() for column in columns],
        "file_size_bytes": table.size_bytes,
        "parse_errors": table.faults,
    }
    return result, {}


def _convert(table: Table, options: dict[str, Any]) -> Done:
    shape = options.get("format", "json")
    if shape == "parquet":
        raise not_implemented("Parquet files are not written: there is no library for them here.")
    if shape == "excel":
        return workbooks.written(table.columns, table.rows), {}
    if shape == "tsv":
        return _text(tables.written(table.columns, table.rows, "\t"), table)
    if shape == "jsonl":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in _objects(table))
        return _text(lines, table)
    rows = list(itertools.islice(_objects(table), OBJECTS_MAX + 1))
    if len(rows) > OBJECTS_MAX:
        raise limit_exceeded("input", len(rows), OBJECTS_MAX, "rows")
    return rows, {"row_count": len(rows)}


def _objects(table: Table) -> Iterator[dict[str, Any]]:
    for row in table.rows:
        yield dict(zip(table.columns, map(tables.value_of, row), strict=True))


def _text(lines: Iterable[str], table: Table) -> Done:
    """All lines as one text, and how many rows went in and came out."""
    kept: list[str] = []
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line.encode())
        if size > RESULT_BYTES_MAX:
            raise limit_exceeded("result", size, RESULT_BYTES_MAX, "bytes")
    return "".join(kept), {"columns": table.columns}


def _filter(table: Table, options: dict[str, Any]) -> Done:
    condition = row_filter.read(_needed(options, "filter"), table.columns)
    counts = {"total_rows": 0, "row_count": 0}

    def wanted() -> Iterator[list[str]]:
        for row in table.rows:
            counts["total_rows"] += 1
            if condition(row):
                counts["row_count"] += 1
                yield row

    result, metadata = _text(tables.written(table.columns, wanted(), table.delimiter), table)
    return result, {**metadata, **counts}


def _sample(table: Table, options: dict[str, Any]) -> Done:
    """Of each row a number is drawn; those with the largest are taken, in their order."""
    size = int(options.get("size", 10))
    if options.get("method", "random") == "first":
        rows = list(itertools.islice(table.rows, size))
    else:
        drawn = random.Random(options.get("seed"))  # noqa: S311 - a sample is no secret
        numbered = ((drawn.random(), at, row) for at, row in enumerate(table.rows))
        chosen = heapq.nlargest(size, numbered)
        rows = [row for _, _, row in sorted(chosen, key=lambda one: one[1])]
    result, metadata = _text(tables.written(table.columns, rows, table.delimiter), table)
    return result, {**metadata, "row_count": len(rows)}


def _transform(table: Table, options: dict[str, Any]) -> Done:
    added = {
        name: _made(value, table.columns) for name, value in options.get("add_columns", {}).items()
    }
    dropped = set(options.get("drop_columns", []))
    renamed = options.get("rename_columns", {})
    for name in (*dropped, *renamed):
        if name not in table.columns:
            raise field_invalid("options", f"names {name[:100]!r}, which is no column")
    kept = [at for at, name in enumerate(table.columns) if name not in dropped]
    columns = [renamed.get(table.columns[at], table.columns[at]) for at in kept] + list(added)
    if len(set(columns)) != len(columns):
        raise field_invalid("options", "makes two columns of one name")
    rows = (
        [*(row[at] for at in kept), *(made(row) for made in added.values())] for row in table.rows
    )
    result, metadata = _text(tables.written(columns, rows, table.delimiter), table)
    return result, {**metadata, "columns": columns}


_PLACE = re.compile(r"\{([^{}]+)\}")


def _made(value: Any, columns: list[str]) -> Callable[[list[str]], str]:
    """`=price * count` is computed; `{first} {last}` is filled in; what is neither is itself."""
    if isinstance(value, str) and value.startswith("="):
        return _computed(value[1:], columns)
    plain = value if isinstance(value, str) else json.dumps(value)
    places = {name: columns.index(name) for name in _PLACE.findall(plain) if name in columns}
    return lambda row: _PLACE.sub(
        lambda found: row[places[found[1]]] if found[1] in places else found[0], plain
    )


def _computed(source: str, columns: list[str]) -> Callable[[list[str]], str]:
    try:
        code = expression.read(source)
    except ExpressionError as error:
        raise field_invalid("options.add_columns", error.message.rstrip(".")) from None

    def made(row: list[str]) -> str:
        values = {
            name: float(cell)
            for name, cell in zip(columns, row, strict=True)
            if tables.is_number(cell.strip())
        }
        try:
            number = expression.evaluate(code, values)
        except ExpressionError as error:
            if error.code != "unknown_variable" or error.details["name"] not in columns:
                raise field_invalid("options.add_columns", error.message.rstrip(".")) from None
            return ""  # of a cell that is no number
        return str(int(number)) if number.is_integer() else repr(number)

    return made


def _validate(table: Table, options: dict[str, Any]) -> Done:
    """Rows of another width, and cells that break the rules of their column."""
    rules = {
        table.columns.index(name): _rules(name, given)
        for name, given in options.get("rules", {}).items()
        if name in table.columns
    }
    absent = options.get("rules", {}).keys() - set(table.columns)
    errors: list[dict[str, Any]] = [
        {"row": 0, "column": name, "value": None, "error": "there is no such column"}
        for name in sorted(absent)
    ]
    count, total = len(errors), 0
    for number, row in enumerate(table.rows, 2 if table.has_headers else 1):
        total += 1
        for error in _cell_faults(table, rules, row, number):
            count += 1
            if len(errors) < ERRORS_MAX:
                errors.append(error)
    errors += [{"column": "", "value": None, **fault} for fault in table.faults]
    count += len(table.faults)
    result = {
        "valid": not count,
        "errors": errors[:ERRORS_MAX],
        "total_rows": total,
        "error_count": count,
    }
    return result, {}


def _cell_faults(
    table: Table, rules: dict[int, list[validation_rules.Rule]], row: list[str], number: int
) -> Iterator[dict[str, Any]]:
    for at, known in rules.items():
        value = tables.value_of(row[at])
        for fault in validation_rules.check(value, known):
            yield {
                "row": number,
                "column": table.columns[at],
                "value": row[at][:500],
                "error": fault["message"],
            }


_SHORT: dict[str, Callable[[Any], dict[str, Any]]] = {
    "type": lambda value: {"type": "type", "expected": {"float": "number"}.get(value, value)},
    "pattern": lambda value: {"type": "pattern", "regex": value},
    "enum": lambda value: {"type": "enum", "values": value},
    "values": lambda value: {"type": "enum", "values": value},
    "min": lambda value: {"type": "range", "min": value},
    "max": lambda value: {"type": "range", "max": value},
    "min_length": lambda value: {"type": "length", "min": value},
    "max_length": lambda value: {"type": "length", "max": value},
    "format": lambda value: {"type": value},
}


def _rules(name: str, given: Any) -> list[validation_rules.Rule]:
    """A list as of data-validator, or the short form `{type="integer", required=true, min=0}`."""
    field = f"options.rules.{name}"
    if isinstance(given, dict) and "rules" not in given:
        rules: list[dict[str, Any]] = [{"type": "required"}] if given.get("required") else []
        for key, value in given.items():
            if key in _SHORT:
                rules.append(_SHORT[key](value))
            elif key != "required":
                raise field_invalid(
                    f"{field}.{key}", f"must be one of required, {', '.join(_SHORT)}"
                )
        given = rules
    return validation_rules.listed(given, field=field)


def _needed(options: dict[str, Any], name: str) -> str:
    if not options.get(name):
        field = f"options.{name}"
        raise field_required(field)
    return str(options[name])


_OPERATIONS: dict[str, Callable[[Table, dict[str, Any]], Done]] = {
    "analyze": _analyze,
    "convert": _convert,
    "filter": _filter,
    "sample": _sample,
    "transform": _transform,
    "validate": _validate,
}
_OPTIONS = record(
    "What the operation needs.",
    (),
    delimiter=text("One letter, or tab; guessed where it is not told."),
    has_headers=flag("Whether the first row has names; guessed where it is not told."),
    format=choice("convert: to what.", "json", "jsonl", "tsv", "excel", "parquet"),
    filter=text("filter: conditions `column operator value`, joined by `and`."),
    size=whole("sample: rows; default 10.", minimum=1, maximum=10_000),
    method=choice("sample: which rows; default random.", "random", "first"),
    seed=whole("sample: for the same rows again."),
    add_columns=mapping(
        "transform: a text by name; `=a * b` is computed, `{a}` filled in.",
        {"type": ["string", "number", "boolean"]},
    ),
    rename_columns=mapping("transform: new name by old.", {"type": "string"}),
    drop_columns=listing("transform: names of columns to leave out.", {"type": "string"}),
    rules=mapping("validate: rules by column, as of data-validator or in short.", {}),
)
_COLUMN = record(
    "",
    ("name", "data_type", "null_count", "unique_count"),
    name=text("Its name."),
    data_type=choice(
        "What is in it.", "integer", "float", "boolean", "date", "datetime", "string", "empty"
    ),
    null_count=whole("Cells with nothing in them."),
    unique_count=whole("Different values."),
    min_value=anything("The least."),
    max_value=anything("The most."),
    mean={"type": ["number", "null"], "description": "Of numbers."},
    median={"type": ["number", "null"], "description": "Of numbers."},
    std_dev={"type": ["number", "null"], "description": "Of numbers, as of a sample (n - 1)."},
    sample_values=listing("The first different ones.", text("One.")),
)
_FAULTS = listing(
    "Rows with more or fewer cells than the first.",
    record("", ("row", "error"), row=whole("Its line."), error=text("What is wrong.")),
)

TOOLS = (
    Tool(
        name="csv-analyzer",
        description="Analyzes, converts, filters, samples, changes and checks CSV.",
        category="data",
        level=Level.SAFE,
        needs=frozenset({Need.FILES}),
        old_names=("csv-processor", "csv_processor"),
        limits=ToolLimits(wall_s=60.0, cpu_s=30, memory_bytes=512 * MIB),
        synonyms={
            "data": "input",
            "csv": "input",
            "content": "input",
            "text": "input",
            "path": "input_file",
            "file": "input_file",
            "file_path": "input_file",
        },
        parameters=parameters(
            (),
            operation=choice("What to do.", *_OPERATIONS, default="analyze"),
            input=text("The CSV text."),
            input_file=text("A file that holds it, in any common encoding, instead of `input`."),
            output_file=text("File to write the result to: text as well, a binary format instead."),
            options={**_OPTIONS, "default": {}},
        ),
        result=one_of(
            record(
                "Of analyze.",
                ("row_count", "column_count", "columns"),
                row_count=whole("Rows without the header."),
                column_count=whole("Columns."),
                encoding=text("Of the bytes."),
                delimiter=text("Between cells."),
                has_headers=flag("Whether the first row has names."),
                columns=listing("Each column.", _COLUMN),
                file_size_bytes=whole("Bytes of the input."),
                parse_errors=_FAULTS,
            ),
            record(
                "Of validate.",
                ("valid", "errors", "total_rows", "error_count"),
                valid=flag("Whether all is right."),
                errors=listing(
                    f"What is wrong, at most {ERRORS_MAX}.",
                    record(
                        "",
                        ("row", "column", "value", "error"),
                        row=whole("Its line."),
                        column=text("Its column."),
                        value=anything("What is there."),
                        error=text("What is wrong."),
                    ),
                ),
                total_rows=whole("Rows that were looked at."),
                error_count=whole("All that is wrong."),
            ),
            record(
                "Of convert to excel.",
                ("format", "size_bytes"),
                format=text("The format."),
                size_bytes=whole("Bytes of the file."),
                encoding=text("base64."),
                data=text("The file, where it was not written to output_file."),
                output_file=text("Where it was written."),
            ),
            listing("Of convert to json: an object for each row.", mapping("A row.", {})),
            text("Of convert to jsonl and tsv, of filter, sample and transform."),
        ),
        notes="Cells such as null, NA and nothing at all are missing values; 007 is text. "
        "Parquet answers NOT_IMPLEMENTED. Input is at most "
        f"{tables.INPUT_BYTES_MAX // MIB} MiB, a result {RESULT_BYTES_MAX} bytes.",
        run=_run,
    ),
)
