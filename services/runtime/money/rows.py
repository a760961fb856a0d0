"""What this process has spent, as rows that it alone writes: whole, so that twice is once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime.money.model import Account, Spent
from services.runtime.money.shelf import DAYS, RUNS, RowRecord

ROWS_MAX = 5_000
"""Rows that are remembered; one that is written and was not used lately is begun anew beyond it."""

NAME_LENGTH_MAX = 200
"""Of a model, an agent and a run, in characters: some providers take whatever they are given."""


@dataclass(slots=True)
class Row:
    """A row, and whether state has it as it is."""

    key: str
    record: RowRecord
    changes: int = 0
    kept_changes: int = 0

    @property
    def is_dirty(self) -> bool:
        """Whether state does not have it as it is."""
        return self.changes != self.kept_changes


class Rows:
    """All rows that may grow still."""

    def __init__(self, lane: str) -> None:
        """`lane`: names this process among all that write."""
        self._lane = lane
        self._number = 0
        self._rows: dict[tuple[str, str, str, str], Row] = {}
        self._dirty: dict[str, Row] = {}

    def add(self, day: str, account: Account, model: str, spent: Spent, nano: int) -> None:
        """Count a call of a model, for its day and for its run."""
        model, agent, run_id = (
            name[:NAME_LENGTH_MAX] for name in (model, account.agent, account.run_id)
        )
        self._grow(DAYS, (day, model, agent, ""), spent, nano)
        if run_id:
            self._grow(RUNS, (day, model, agent, run_id), spent, nano)

    def dirty(self) -> Sequence[Row]:
        """What is not written yet."""
        return tuple(self._dirty.values())

    def kept(self, row: Row, changes: int) -> None:
        """State has it as it was after so many changes."""
        row.kept_changes = max(row.kept_changes, changes)
        if not row.is_dirty:
            self._dirty.pop(row.key, None)

    def _grow(self, kind: str, place: tuple[str, str, str, str], spent: Spent, nano: int) -> None:
        row = self._rows.get(place)
        if row is None:
            row = self._begin(kind, place)
        record = row.record
        record.input_tokens += spent.input_tokens
        record.output_tokens += spent.output_tokens
        record.cached_tokens += spent.cached_tokens
        record.nano += nano
        record.calls += 1
        record.estimated_calls += spent.estimated
        row.changes += 1
        self._dirty[row.key] = row

    def _begin(self, kind: str, place: tuple[str, str, str, str]) -> Row:
        if len(self._rows) >= ROWS_MAX:
            self._rows = {where: row for where, row in self._rows.items() if row.is_dirty}
        self._number += 1
        day, model, agent, run_id = place
        key = f"{kind}{day}/{self._lane}-{self._number}"
        row = self._rows[place] = Row(key, RowRecord(model, agent, run_id))
        return row
