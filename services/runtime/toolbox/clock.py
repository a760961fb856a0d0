"""The time of day for tools. What a tool answers is journaled, so a replay sees the same time."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
