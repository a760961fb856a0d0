"""What was spent, read from state and grouped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from services.common.errors import limit_exceeded
from services.common.limits import USAGE_ROWS_MAX
from services.runtime.money.model import NOTHING, Amount
from services.runtime.money.shelf import DAYS, RUNS, RowRecord, Shelf
from services.runtime.money.tally import Tally, rows_prefix

_MONTHS_MAX = 36
"""Months that are read one by one; a longer time is read as a whole."""


class Group(StrEnum):
    """By what usage is grouped."""

    DAY = "day"
    MONTH = "month"
    MODEL = "model"
    AGENT = "agent"
    RUN = "run"


_KEYS: dict[Group, Callable[[str, RowRecord], str]] = {
    Group.DAY: lambda day, _: day,
    Group.MONTH: lambda day, _: day[:7],
    Group.MODEL: lambda _, row: row.model,
    Group.AGENT: lambda _, row: row.agent,
    Group.RUN: lambda _, row: row.run_id,
}


@dataclass(slots=True)
class Sum:
    """What one group has spent."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    nano: int = 0
    calls: int = 0
    estimated_calls: int = 0

    def add(self, row: RowRecord) -> None:
        """Count a row."""
        self.input_tokens += row.input_tokens
        self.output_tokens += row.output_tokens
        self.cached_tokens += row.cached_tokens
        self.nano += row.nano
        self.calls += row.calls
        self.estimated_calls += row.estimated_calls


async def read_usage(
    shelf: Shelf, first: str, last: str, groups: Sequence[Group]
) -> tuple[dict[tuple[str, ...], Sum], Sum]:
    """What was spent from the first day to the last, by the values of groups, and in all.

    Raises:
        ServiceError: LIMIT_EXCEEDED where there are more rows than an answer holds.
    """
    sums: dict[tuple[str, ...], Sum] = {}
    total = Sum()
    kind = RUNS if Group.RUN in groups else DAYS
    async with aclosing(_rows(shelf, kind, first, last)) as rows:
        async for day, row in rows:
            key = tuple(_KEYS[group](day, row) for group in groups)
            sums.setdefault(key, Sum()).add(row)
            total.add(row)
            if len(sums) > USAGE_ROWS_MAX:
                raise limit_exceeded("rows", len(sums), USAGE_ROWS_MAX)
    return dict(sorted(sums.items())), total


async def spent_of(shelf: Shelf, tally: Tally) -> Amount:
    """What was spent of a budget by all processes together."""
    spent = NOTHING
    async for day, row in _listed(shelf, DAYS + rows_prefix(tally), DAYS):
        if tally.concerns(row.agent, day):
            spent += Amount(row.nano, row.input_tokens + row.output_tokens)
    return spent


async def _rows(
    shelf: Shelf, kind: str, first: str, last: str
) -> AsyncGenerator[tuple[str, RowRecord], None]:
    for prefix in _prefixes(first, last):
        async with aclosing(_listed(shelf, kind + prefix, kind)) as listed:
            async for day, row in listed:
                if first <= day <= last:
                    yield day, row


async def _listed(
    shelf: Shelf, prefix: str, kind: str
) -> AsyncGenerator[tuple[str, RowRecord], None]:
    kept, _ = await shelf.list(prefix, RowRecord)
    for one in kept:
        yield one.key.removeprefix(kind).partition("/")[0], one.record


def _prefixes(first: str, last: str) -> Sequence[str]:
    """What the days begin with: one month after the other, or nothing."""
    month, months = date.fromisoformat(first).replace(day=1), list[str]()
    while month.isoformat() <= last:
        months.append(month.isoformat()[:7])
        if len(months) > _MONTHS_MAX:
            return [""]
        month = (month + timedelta(days=32)).replace(day=1)
    return months
