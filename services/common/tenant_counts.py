"""Counts of tenants that take little room however many tenants there are."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from services.common.limits import TENANTS_COUNTED_MAX, TENANTS_TOLD_MAX

OTHER = "(other)"
"""Stands for all that have no count of their own; no tenant can be called so."""

_PERIOD_S = 60.0


@dataclass(slots=True)
class Tally:
    """Of one tenant since it is counted by itself."""

    calls: int = 0
    refusals: int = 0
    seconds: float = 0.0
    recent: int = 0
    """Calls within this period."""


class TenantCounts:
    """Those with most calls by themselves, the rest together.

    A tenant takes the place of the one that had least to do in a period, if it had more. Each
    count only rises for as long as it is told, as Prometheus expects; a tenant that lost its place
    begins anew at 0 if it gets one again.
    """

    def __init__(self, told_max: int = TENANTS_TOLD_MAX) -> None:
        self._told_max = told_max
        self._told: dict[str, Tally] = {}
        self._other = Tally()
        self._waiting: dict[str, int] = {}
        """Calls within this period of tenants without a place."""
        self._period_end_s = monotonic() + _PERIOD_S

    def count(self, tenant: str, seconds: float, *, refused: bool) -> None:
        """A tenant's call has ended."""
        tally = self._told.get(tenant)
        if tally is None:
            tally = self._place_of(tenant)
        tally.calls += 1
        tally.recent += 1
        tally.seconds += seconds
        if refused:
            tally.refusals += 1

    def told(self) -> dict[str, Tally]:
        """Those that are told of by name, and `(other)` where there are more."""
        rows = dict(self._told)
        if self._other.calls:
            rows[OTHER] = self._other
        return rows

    def _place_of(self, tenant: str) -> Tally:
        if len(self._told) < self._told_max:
            return self._told.setdefault(tenant, Tally())
        waiting = self._waiting
        if tenant in waiting or len(waiting) < TENANTS_COUNTED_MAX:
            waiting[tenant] = waiting.get(tenant, 0) + 1
        if monotonic() >= self._period_end_s:
            self._next_period()
        return self._other

    def _next_period(self) -> None:
        """Give places to whoever had more to do than those that have them."""
        self._period_end_s = monotonic() + _PERIOD_S
        idle = sorted(self._told, key=lambda name: self._told[name].recent)
        busy = sorted(self._waiting, key=self._waiting.__getitem__, reverse=True)
        for leaving, coming in zip(idle, busy, strict=False):
            if self._waiting[coming] <= self._told[leaving].recent:
                break
            del self._told[leaving]
            self._told[coming] = Tally()
        for tally in self._told.values():
            tally.recent = 0
        self._waiting.clear()
