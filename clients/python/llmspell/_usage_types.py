"""Tokens and money, as users see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from llmspell._execution_types import NOTHING_SPENT, Spent
from llmspell._tenant_types import TenantLimits

UsageGroup = Literal["day", "month", "model", "agent", "run"]
"""By what usage is grouped."""
BudgetPeriod = Literal["day", "month", "total"]
"""Over what time a budget counts: days and months of UTC, and for ever."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one group has spent."""

    keys: tuple[str, ...]
    """Its value in each group that was asked for, such as `2026-11-27`."""
    spent: Spent
    """What that is."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a tenant has spent."""

    rows: list[UsageRow]
    """In order of their keys."""
    total: Spent = NOTHING_SPENT
    """All of them together."""


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """What a tenant has and may have."""

    tenant_id: str
    limits: TenantLimits
    record_count: int
    """Records of vectors, chunks of documents among them."""
    stored_bytes: int
    """Bytes of them, and of their histories."""
    collection_count: int
    search_count: int
    """Since the vector process began."""
    month: Spent = NOTHING_SPENT
    """Tokens and money of this month."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent."""

    subject: str
    """`tenant`, or `agent:NAME`."""
    period: BudgetPeriod
    """Over what time."""
    limit_usd: float
    """US dollars; 0: no limit of money."""
    limit_tokens: int
    """Tokens, read and written; 0: no limit of tokens."""
    spent_usd: float = 0.0
    """In this period."""
    spent_tokens: int = 0
    """Likewise."""
    reserved_usd: float = 0.0
    """That calls under way may still cost, and what a lost process had reserved."""
    reserved_tokens: int = 0
    """Likewise."""
    period_end_time: datetime | None = None
    """When this period ends; None: never."""


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What something would cost."""

    likely: Spent
    """What it likely costs."""
    most: Spent
    """What it costs at most."""
    confidence: float
    """How sure that is, 0 to 1."""
    notes: tuple[str, ...] = ()
    """What it rests on, a sentence each."""
