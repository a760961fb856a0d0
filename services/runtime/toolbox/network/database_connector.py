"""database-connector: SQLite files of the tenant, and PostgreSQL databases the operator names."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

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
    not_implemented,
    parameters,
    required,
)
from services.runtime.toolbox.network import calling
from services.runtime.toolbox.network.postgres import Postgres
from services.runtime.toolbox.network.sqlite import FILE_BYTES_MAX, SqliteFile
from services.runtime.toolbox.network.statements import ROWS_MAX, kind_of, told

TIMEOUT_SECONDS_MAX = 30.0
PARAMETERS_MAX = 1000
_SCALARS = ["string", "number", "boolean", "null"]


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    engine, database = _database(arguments, desk)
    facts = {"operation": operation, "database": arguments["database"], "engine": engine}
    if operation == "schema":
        tables = database.schema()
        return Outcome(
            operation=operation,
            result={**facts, "tables": tables},
            message=f"{len(tables)} tables",
        )
    sql = _query(arguments)
    if operation == "create":
        if not isinstance(database, SqliteFile):
            raise not_implemented("database-connector makes tables in SQLite files only.")
        if arguments["parameters"]:
            raise field_invalid("parameters", "are for `query` only")
        names = database.define(sql)
        result = {**facts, "status": "executed", "tables": [{"name": name} for name in names]}
        return Outcome(operation=operation, result=result, message=f"{len(names)} tables")
    kind = kind_of(sql)
    if arguments.get("query_type", "sql") not in ("sql", kind):
        raise field_invalid("query", f"is {kind} and not {arguments['query_type']}")
    rows = database.query(sql, _values(arguments["parameters"]), changes=kind != "select")
    answer = told(rows)
    count = answer["row_count"] if kind == "select" else answer["rows_affected"]
    return Outcome(
        operation=operation,
        result={**facts, "query_type": kind, "status": "executed", **answer},
        message=f"{kind}: {count} rows",
    )


def _database(arguments: Arguments, desk: Desk) -> tuple[str, SqliteFile | Postgres]:
    """A name of the operator's settings, or a file."""
    name, engine = arguments["database"], arguments.get("engine")
    until = time.monotonic() + arguments["timeout"]
    if engine == "mysql":
        raise not_implemented("database-connector has no mysql; it has sqlite and postgresql.")
    known: Mapping[str, Any] = desk.settings.get("databases", {})
    if name in known and engine != "sqlite":
        return "postgresql", Postgres(desk, known[name], until)
    if engine == "postgresql":
        names = ", ".join(sorted(known)) or "none"
        raise failed(f"The operator has named no database {name!r}; there are: {names}.")
    return "sqlite", SqliteFile(desk.folder, name, until)


def _query(arguments: Arguments) -> str:
    return str(required(arguments, "query"))


def _values(given: Any) -> Sequence[Any] | Mapping[str, Any]:
    if len(given) > PARAMETERS_MAX:
        raise field_invalid("parameters", f"must be at most {PARAMETERS_MAX}")
    values: Sequence[Any] | Mapping[str, Any] = given
    return values


TOOLS = (
    Tool(
        name="database-connector",
        description="Asks SQLite files of the tenant, and databases that the operator has named.",
        category="data",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES, Need.NETWORK}),
        synonyms={"sql": "query", "input": "query", "params": "parameters", "path": "database"},
        limits=ToolLimits(
            wall_s=TIMEOUT_SECONDS_MAX + 5, cpu_s=30, file_bytes=FILE_BYTES_MAX + MIB
        ),
        parameters=parameters(
            ("database",),
            operation={
                "enum": ["query", "schema", "create"],
                "default": "query",
                "description": "Execute one statement; list tables; or make a SQLite file and "
                "make, change or drop its tables.",
            },
            database={
                "type": "string",
                "minLength": 1,
                "description": "Name that the operator has given, or path of a SQLite file.",
            },
            engine={
                "enum": ["sqlite", "postgresql", "mysql"],
                "description": "Which of both `database` is, where a name could be either.",
            },
            query={
                "type": "string",
                "description": "SELECT, INSERT, UPDATE or DELETE; with `create` several "
                "statements that define tables.",
            },
            query_type={
                "enum": ["sql", "select", "insert", "update", "delete"],
                "description": "What the statement must be.",
            },
            parameters={
                "anyOf": [
                    {"type": "array", "items": {"type": _SCALARS}},
                    {"type": "object", "additionalProperties": {"type": _SCALARS}},
                ],
                "default": [],
                "description": "Values of the statement: a list for `?` (PostgreSQL: `$1`), or by "
                "name for `:name`.",
            },
            timeout=calling.timeout(TIMEOUT_SECONDS_MAX, TIMEOUT_SECONDS_MAX),
        ),
        result={
            "type": "object",
            "properties": {
                "operation": {"description": "What was done.", "type": "string"},
                "database": {"description": "Where.", "type": "string"},
                "engine": {
                    "description": "sqlite or postgresql.",
                    "enum": ["sqlite", "postgresql"],
                },
                "query_type": {"description": "Kind of the statement.", "type": "string"},
                "status": {"description": "`executed`.", "type": "string"},
                "columns": {
                    "description": "Names of the columns.",
                    "type": "array",
                    "items": {"type": "string"},
                },
                "results": {
                    "description": "Rows, each by the names of its columns.",
                    "type": "array",
                    "items": {"type": "object"},
                },
                "row_count": {"description": "How many rows are told.", "type": "integer"},
                "rows_affected": {"description": "How many rows were changed.", "type": "integer"},
                "truncated": {"description": "Whether there are more rows.", "type": "boolean"},
                "tables": {
                    "description": "Of schema: tables and their columns.",
                    "type": "array",
                    "items": {"type": "object"},
                },
            },
            "required": ["operation", "database", "engine"],
        },
        notes=f"At most {ROWS_MAX} rows; `truncated` says whether there were more. SQLite files "
        "of at most 32 MiB. mysql is known by name and not offered. Numbers too large or too exact "
        "for a float come as text.",
        run=_run,
    ),
)
