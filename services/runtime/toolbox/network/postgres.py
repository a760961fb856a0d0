"""PostgreSQL databases that the operator has named, over connections of the host's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pg8000.native
from pg8000.exceptions import DatabaseError, InterfaceError

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import failed, field_invalid
from services.runtime.toolbox.network.connections import connect, trust, unreachable
from services.runtime.toolbox.network.statements import ROWS_MAX, Rows

time.strptime("1", "%d")  # loads what dates are read with, which nothing can be in the jail

_SCHEMA = """
SELECT table_name, column_name, data_type, is_nullable = 'YES'
FROM information_schema.columns
WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
ORDER BY table_schema, table_name, ordinal_position
"""


class _Bounded(pg8000.native.Connection):  # type: ignore[misc]  # it has no types
    """Keeps so many rows, and lets the others pass by."""

    passed = 0

    def handle_DATA_ROW(self, data: bytes, context: Any) -> None:  # noqa: N802 - the library's name
        if len(context.rows) > ROWS_MAX:
            self.passed += 1
        else:
            super().handle_DATA_ROW(data, context)


class Postgres:
    """One named database, for one execution."""

    def __init__(self, desk: Desk, told: Mapping[str, Any], until: float) -> None:
        """`told`: what the operator's settings say of it; `until`: on the monotonic clock."""
        self._desk, self._told, self._until = desk, told, until

    def query(self, sql: str, values: Sequence[Any] | Mapping[str, Any], *, changes: bool) -> Rows:
        """Execute one statement, in a transaction that reads only unless it is to change rows.

        Raises:
            ToolError: HOST_UNREACHABLE, ADDRESS_REFUSED, TOOL_FAILED.
        """
        if changes and not self._told["write"]:
            raise failed("The operator lets tools read this database and not change it.")
        with self._opened() as database:
            database.execute_simple("BEGIN" if changes else "BEGIN READ ONLY")
            context = _executed(database, sql, values)
            database.execute_simple("COMMIT")
        return context

    def schema(self) -> list[dict[str, Any]]:
        """Tables and views with their columns.

        Raises:
            ToolError: as `query`.
        """
        with self._opened() as database:
            found = _executed(database, _SCHEMA, ())
        tables: dict[str, dict[str, Any]] = {}
        for table, column, kind, nullable in found.rows:
            known = tables.setdefault(table, {"name": table, "type": "table", "columns": []})
            known["columns"].append({"name": column, "type": kind, "nullable": nullable})
        return list(tables.values())

    @contextmanager
    def _opened(self) -> Iterator[_Bounded]:
        told, host = self._told, self._told["host"]
        left_ms = max(round((self._until - time.monotonic()) * 1000), 1)
        sock = connect(self._desk, host, told["port"], self._until)
        context = trust(self._desk) if told["tls"] else False
        try:
            with _Bounded(
                told["user"],
                host=host,
                database=told["database"],
                password=told["password"],
                sock=sock,
                ssl_context=context,
                application_name="llmspell",
                startup_params={"statement_timeout": str(left_ms)},
            ) as database:
                yield database
        except DatabaseError as error:
            raise failed(f"PostgreSQL: {_said(error)}.") from None
        except (InterfaceError, OSError) as error:
            raise unreachable(host, str(error)[:200] or type(error).__name__) from None


def _executed(database: _Bounded, sql: str, values: Sequence[Any] | Mapping[str, Any]) -> Rows:
    """Always as a prepared statement: the server then refuses a second one behind it."""
    statement, ordered = sql, values
    if isinstance(values, Mapping):
        statement, order = pg8000.native.to_statement(sql)
        try:
            ordered = order(dict(values))
        except InterfaceError as error:
            raise field_invalid("parameters", f"do not fit: {error}") from None
    context = database.execute_unnamed(statement, tuple(ordered))
    rows = context.rows or []
    columns = [column["name"] for column in context.columns or ()]
    return Rows(
        columns=columns,
        rows=rows[:ROWS_MAX],
        is_cut=len(rows) > ROWS_MAX,
        affected=0 if columns else max(context.row_count, 0),
    )


def _said(error: DatabaseError) -> str:
    told = error.args[0] if error.args else ""
    if isinstance(told, dict):
        return f"{told.get('M', 'error')} ({told.get('C', '')})"[:500]
    return str(told)[:500]
