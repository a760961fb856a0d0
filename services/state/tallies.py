"""How much each tenant has of what is limited, so that one cannot take the room of all.

A tally is counted once from the store and kept along from then on; nothing of it is stored. What
changes a tenant's records without saying so here, as a restore does, makes it be counted anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto

from services.common import limits
from services.common.errors import Reason, ServiceError
from services.common.view import View
from services.state.layout import JOURNALS, REQUESTS, SESSION_ORDER, tenant_prefix
from services.state.layout.journals import unpack_journal


class Tally(Enum):
    """What is counted."""

    SESSIONS = auto()
    JOURNAL_BYTES = auto()
    REQUESTS = auto()


_EACH_IS_ONE = {Tally.SESSIONS: SESSION_ORDER, Tally.REQUESTS: REQUESTS}
"""Databases with one record for each."""


class Tallies:
    """What is known of all tenants. `add` is called where the store is written, in one thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Tally], int] = {}

    def get(self, view: View, tenant: str, tally: Tally, adding: int) -> int:
        """How much there is, before what the caller is about to do; 0 while that cannot matter.

        While all tenants together have less than one may, nobody is counted: a tenant with a
        million remembered requests must not wait for that after a start.
        """
        known = self._known.get((tenant, tally))
        if known is None:
            if tally in _EACH_IS_ONE and view.count(_EACH_IS_ONE[tally]) + adding <= most_of(tally):
                return 0
            known = self._known[tenant, tally] = _count(view, tenant, tally)
        return known

    def add(self, changes: Mapping[tuple[str, Tally], int]) -> None:
        """Note what was added and removed; what was never asked for is not known."""
        for place, change in changes.items():
            if place in self._known:
                self._known[place] += change

    def forget(self, tenant: str) -> None:
        """Count anew when it is asked for."""
        for tally in Tally:
            self._known.pop((tenant, tally), None)


def most_of(tally: Tally) -> int:
    """How much of it a tenant may have."""
    return {
        Tally.SESSIONS: limits.SESSIONS_PER_TENANT_MAX,
        Tally.JOURNAL_BYTES: limits.JOURNAL_BYTES_PER_TENANT_MAX,
        Tally.REQUESTS: limits.REQUESTS_PER_TENANT_MAX,
    }[tally]


def limit_reached(field: str, got: int, limit: int, advice: str) -> ServiceError:
    """A tenant, or a session of its, would have more of something than it may.

    Args:
        field: What it is.
        got: How much of it there would be.
        limit: How much there may be.
        advice: One sentence that says what to do.
    """
    return ServiceError(
        Reason.TENANT_LIMIT_REACHED,
        f"{field} would be {got}; the limit is {limit}. {advice}",
        field=field,
        got=got,
        limit=limit,
    )


def reached(tally: Tally, got: int) -> ServiceError:
    """A tenant would have more of what is counted than it may."""
    field, advice = {
        Tally.SESSIONS: ("the tenant's sessions", "Delete some, or let them end sooner."),
        Tally.JOURNAL_BYTES: ("bytes of the tenant's journals", "Delete some journals."),
        Tally.REQUESTS: (
            "requests that are remembered of the tenant",
            "They are forgotten after ten minutes; or make writes without a request id.",
        ),
    }[tally]
    return limit_reached(field, got, most_of(tally), advice)


def _count(view: View, tenant: str, tally: Tally) -> int:
    prefix = tenant_prefix(tenant)
    if tally is Tally.JOURNAL_BYTES:
        return sum(_journal_bytes(view, place) for place in view.keys(JOURNALS, prefix))
    return sum(1 for _ in view.keys(_EACH_IS_ONE[tally], prefix))


def _journal_bytes(view: View, place: bytes) -> int:
    with suppress(ServiceError):  # a damaged one counts nothing
        stored = view.get(JOURNALS, place)
        return 0 if stored is None else unpack_journal(stored).size
    return 0
