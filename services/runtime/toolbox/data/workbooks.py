"""A table as an Excel file of one sheet."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import xlsxwriter

from services.runtime.toolbox.data import tables
from services.runtime.toolbox.model import limit_exceeded

ROWS_MAX = 50_000
CELL_LENGTH_MAX = 32_767
"""What Excel takes."""
_MADE = datetime(2000, 1, 1, tzinfo=UTC)
"""The same rows make the same bytes."""


def written(columns: list[str], rows: Iterable[list[str]]) -> bytes:
    """The file; a cell that begins with `=` is text, and never computes.

    Raises:
        ToolError: LIMIT_EXCEEDED.
    """
    file = io.BytesIO()
    workbook = xlsxwriter.Workbook(
        file,
        {
            "in_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        },
    )
    workbook.set_properties({"created": _MADE.replace(tzinfo=None)})
    sheet = workbook.add_worksheet("Sheet1")
    sheet.freeze_panes(1, 0)
    sheet.write_row(0, 0, columns, workbook.add_format({"bold": True}))
    for at, row in enumerate(rows, 1):
        if at > ROWS_MAX:
            raise limit_exceeded("input", at, ROWS_MAX, "rows")
        for column, cell in enumerate(row):
            _write(sheet, at, column, tables.value_of(cell))
    workbook.close()
    return file.getvalue()


def _write(sheet: Any, row: int, column: int, value: Any) -> None:
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int | float):
        sheet.write_number(row, column, value)
    elif value is not None:
        if len(value) > CELL_LENGTH_MAX:
            raise limit_exceeded("input", len(value), CELL_LENGTH_MAX, "letters in a cell")
        sheet.write_string(row, column, value)


# Once outside the jail, where what libraries load late can still be loaded.
written(["a"], [["1"], ["b"], ["true"]])
