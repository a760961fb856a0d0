"""Over what time budgets count: days and months of UTC, and for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum


class Period(StrEnum):
    """Over what time a budget counts."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


def day_of(now_ns: int) -> str:
    """The day of UTC, as `2026-11-27`."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y-%m-%d")


def window_of(period: Period, day: str) -> str:
    """The day, the month or `ever`: what a budget counts in on that day."""
    match period:
        case Period.DAY:
            return day
        case Period.MONTH:
            return day[:7]
        case Period.TOTAL:
            return "ever"


def days_prefix(period: Period, day: str) -> str:
    """What all days of the window begin with."""
    return "" if period is Period.TOTAL else window_of(period, day)


def window_end(period: Period, day: str) -> datetime | None:
    """When it ends; None: never."""
    begin = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    match period:
        case Period.DAY:
            return begin + timedelta(days=1)
        case Period.MONTH:
            return (begin.replace(day=1) + timedelta(days=32)).replace(day=1)
        case Period.TOTAL:
            return None
