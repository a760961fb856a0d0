"""json-processor: jq, JSON Schema, JSON Lines, merging and printing.

The queries are jq's own, https://jqlang.org/manual/. The process has no files and
no modules, so `env` shows a time zone and `import` finds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jq

from services.runtime.toolbox import json_schema, json_text
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Outcome,
    Tool,
    field_invalid,
    limit_exceeded,
    parameters,
    required,
)
from services.runtime.toolbox.schema import anything, choice, flag, one_of, record, text, whole

RESULTS_MAX = 100_000
"""Values that a query, or documents that a stream may have."""
QUERY_BYTES_MAX = 64 * 1024


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    return _OPERATIONS[arguments["operation"]](arguments)


def _query(arguments: Arguments) -> Outcome:
    document = json_text.given(arguments["input"], field="input")
    values = _asked(arguments["query"], [document])
    return Outcome(
        operation="query", result=_one_or_all(values), metadata={"result_count": len(values)}
    )


def _stream(arguments: Arguments) -> Outcome:
    documents = _documents(arguments["input"])
    values = _asked(arguments["query"], documents)
    return Outcome(
        operation="stream",
        result=values,
        metadata={"document_count": len(documents), "result_count": len(values)},
    )


def _one_or_all(values: list[Any]) -> Any:
    """A query that gives one value means it; several are a list."""
    return None if not values else values[0] if len(values) == 1 else values


def _asked(query: str, documents: list[Any]) -> list[Any]:
    if len(query.encode()) > QUERY_BYTES_MAX:
        raise limit_exceeded("query", len(query.encode()), QUERY_BYTES_MAX, "bytes")
    try:
        program = jq.compile(query)
    except ValueError as error:
        raise field_invalid("query", f"is not jq: {_first_lines(error)}") from None
    values: list[Any] = []
    try:
        for value in program.input_values(documents):
            if len(values) == RESULTS_MAX:
                raise limit_exceeded("query", RESULTS_MAX + 1, RESULTS_MAX, "results")
            values.append(json_text.fitting(value))
    except ValueError as error:
        raise field_invalid("query", f"cannot be answered: {_first_lines(error)}") from None
    except TypeError:
        raise field_invalid("input", "holds bytes, which JSON has not") from None
    return values


def _first_lines(error: ValueError) -> str:
    return " ".join(str(error).replace("jq: error:", "").split())[:500]


def _documents(given: Any) -> list[Any]:
    """Of JSON Lines, or a list as it is."""
    if not isinstance(given, str):
        return given if isinstance(given, list) else [given]
    lines = [line for line in given.splitlines() if line.strip()]
    if len(lines) > RESULTS_MAX:
        raise limit_exceeded("input", len(lines), RESULTS_MAX, "lines")
    if len(lines) > 1:
        return [json_text.parse(line, field=f"input line {at}") for at, line in enumerate(lines, 1)]
    return _documents(json_text.parse(given, field="input")) if lines else []


def _validate(arguments: Arguments) -> Outcome:
    document = json_text.given(arguments["input"], field="input")
    schema = json_text.given(required(arguments, "schema"), field="schema")
    errors = json_schema.faults(document, schema, field="schema")
    return Outcome(operation="validate", result={"valid": not errors, "errors": errors})


def _merge(arguments: Arguments) -> Outcome:
    """The later over the earlier; objects within objects are merged, lists are replaced."""
    parts = json_text.given(arguments["input"], field="input")
    parts = parts if isinstance(parts, list) else [parts]
    if "other" in arguments:
        parts = [*parts, json_text.given(arguments["other"], field="other")]
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise field_invalid("input", "must be a list of objects, or an object and `other` one too")
    merged: dict[str, Any] = {}
    for part in parts:
        merged = _merged(merged, part)
    return Outcome(operation="merge", result=merged)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for name, value in above.items():
        known = result.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            result[name] = _merged(known, value)
        else:
            result[name] = value
    return result


def _format(arguments: Arguments) -> Outcome:
    document = json_text.given(arguments["input"], field="input")
    indent = int(arguments["indent"])
    printed = json.dumps(
        document,
        ensure_ascii=False,
        indent=indent or None,
        separators=None if indent else (",", ":"),
        sort_keys=arguments["sort_keys"],
    )
    return Outcome(operation="format", result=printed)


_OPERATIONS: dict[str, Callable[[Arguments], Outcome]] = {
    "query": _query,
    "validate": _validate,
    "stream": _stream,
    "merge": _merge,
    "format": _format,
}

TOOLS = (
    Tool(
        name="json-processor",
        description="Queries JSON with jq, validates it, reads JSON Lines, merges and prints.",
        category="data",
        level=Level.SAFE,
        synonyms={
            "data": "input",
            "json": "input",
            "text": "input",
            "content": "input",
            "expression": "query",
            "filter": "query",
        },
        parameters=parameters(
            ("input",),
            operation=choice("What to do.", *_OPERATIONS, default="query"),
            input=anything("A value, or a JSON text; for stream JSON Lines or a list."),
            query=text("query and stream: jq, such as `.items[] | .name`.", default="."),
            schema=anything("validate: the JSON Schema, as a value or a JSON text."),
            other=anything("merge: what goes over the input."),
            indent=whole("format: blanks a level; 0 is one line.", default=2, minimum=0, maximum=8),
            sort_keys=flag("format: whether names are put in order.", default=False),
        ),
        result=one_of(
            anything("Of query: its value; a list of several; null of none. Of stream: a list."),
            record(
                "Of validate.",
                ("valid", "errors"),
                valid=flag("Whether it fits."),
                errors=json_schema.ERRORS,
            ),
        ),
        notes="jq itself; whole numbers past 2^53 lose digits. Schemas' patterns take linear time, "
        "so without look-around. merge replaces lists.",
        run=_run,
    ),
)
