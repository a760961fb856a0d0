"""What the runs of one tenant may take together in a minute: processor time, calls, printed bytes.

A run's own limits bound each of its runs, and places bound how many there are at once; neither
bounds a tenant that runs one after another all day. A budget fills again evenly; what is over it is
refused with the time at which there is some again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from services.common import limits
from services.common.errors import Reason, ServiceError

_MINUTE = 60.0
_TENANTS_KEPT = 10_000
"""Then those whose budgets are full again are forgotten."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one tenant, a minute; 0: without limit."""

    cpu_s: float = limits.TENANT_CPU_SECONDS_A_MINUTE
    """Seconds of processor time."""
    calls: float = limits.TENANT_CALLS_A_MINUTE
    """Calls to the host."""
    output_bytes: float = limits.TENANT_OUTPUT_BYTES_A_MINUTE
    """Printed bytes."""


class Budgets:
    """What is left to each tenant."""

    def __init__(self, most: Budget, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most: Mapping[str, float] = {
            field.name: getattr(most, field.name) for field in fields(most)
        }
        self._monotonic = monotonic
        self._spent: dict[str, dict[str, float]] = {}
        self._seen: dict[str, float] = {}

    def spend(self, tenant: str, **amounts: float) -> None:
        """Take from a tenant's budget, by the names in `Budget`; less than 0 may be left."""
        spent = self._now(tenant)
        for name, amount in amounts.items():
            spent[name] = spent.get(name, 0.0) + amount

    def check(self, tenant: str) -> None:
        """Whether anything more may be done for a tenant.

        Raises:
            ServiceError: RUN_TENANT_LIMIT with what is used up, and when there is some again.
        """
        if tenant not in self._spent:
            return
        for name, spent in self._now(tenant).items():
            limit = self._most[name]
            if 0 < limit < spent:
                raise _used_up(name, limit, (spent - limit) / limit * _MINUTE)

    def _now(self, tenant: str) -> dict[str, float]:
        now = self._monotonic()
        if len(self._spent) > _TENANTS_KEPT:
            self._forget(now)
        spent = self._spent.setdefault(tenant, {})
        passed = (now - self._seen.get(tenant, now)) / _MINUTE
        self._seen[tenant] = now
        for name in spent:
            spent[name] = max(spent[name] - passed * self._most[name], 0.0)
        return spent

    def _forget(self, now: float) -> None:
        for tenant in [name for name, seen in self._seen.items() if now - seen > 2 * _MINUTE]:
            del self._spent[tenant], self._seen[tenant]


def _used_up(name: str, limit: float, wait_s: float) -> ServiceError:
    words = {"cpu_s": "seconds of processor time", "calls": "calls", "output_bytes": "bytes"}
    wait_s = max(wait_s, 0.1)
    return ServiceError(
        Reason.RUN_TENANT_LIMIT,
        f"The tenant's runs have used up {limit:g} {words[name]} a minute; "
        f"try again in {wait_s:.1f} s.",
        field=name,
        limit=f"{limit:g}",
        retry_after_s=f"{wait_s:.1f}",
    )
