"""What a tenant may take at the public door: calls a minute of each class, and calls at a time.

Calls a minute are token buckets: up to a hundred may come at once, and they come back evenly. They
are taken in one step, all or none, so that no number of callers at the edge gets more than there
is; what a call took that then failed for our own reasons is given back. Calls at a time are counted
while they are served. Besides its own limit a tenant never holds more places of this gateway than
are free, and never more than a third of them with calls that are answered at once, so that there is
always one for who comes next.

Several gateways divide a tenant's limits between them, each giving out its part: together never
more than the limit, and as much less as the tenant's calls are unevenly spread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType

from google.protobuf.descriptor_pb2 import MethodOptions

from services.common.access import METHODS, Method
from services.common.door import Arrival, End
from services.common.errors import Reason, ServiceError
from services.common.limits import REQUESTS_A_MINUTE_UNLIMITED
from services.common.settings import QuotaSettings
from services.common.telemetry import Counts

_MINUTE_S = 60.0
_ACCOUNTS_KEPT = 20_000
"""Then those that have nothing in flight and all of their quotas are forgotten."""
_AT_ONCE_MIN = 100.0
"""Calls that may come at once, however few of them that are of a minute's;"""
_AT_ONCE_S = 5.0
"""of more, what comes back in this time. A minute's at once would be a flood."""
_ROUNDING_S = 1e-6
"""Sums of steps are not exact."""
_SOON_S = 0.1
"""What a caller is told to wait for a place, of which nobody knows when it comes free."""
_GIVEN_BACK = frozenset({Reason.OVERLOADED, Reason.SERVICE_UNAVAILABLE, Reason.INTERNAL})
"""Failures of ours: such a call does not count."""

REQUESTS = "requests_per_minute"
CALLS = "concurrent_calls"
STREAMS = "concurrent_streams"


class CallClass(StrEnum):
    """What a call does, by the quota that counts it."""

    READ = "reads_per_minute"
    WRITE = "writes_per_minute"
    SEARCH = "searches_per_minute"
    RUN = "runs_per_minute"
    ADMIN = "admin_per_minute"


_ADMIN_VERBS = frozenset({"admin", "purge", "operate"})
_ADMIN_AREAS = frozenset({"tenant", "process", "budget"})
_RUN_VERBS = frozenset({"run", "execute", "use", "embed"})
_SEARCH_AREAS = frozenset({"vector", "rag"})


def class_of(method: Method) -> CallClass:
    """By the permission that the contract gives it, and by whether it changes anything."""
    area, _, verb = method.permission.rpartition(".")
    if verb in _ADMIN_VERBS or area in _ADMIN_AREAS:
        return CallClass.ADMIN
    if verb in _RUN_VERBS:
        return CallClass.RUN
    if method.descriptor.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS:
        return CallClass.SEARCH if area in _SEARCH_AREAS else CallClass.READ
    return CallClass.WRITE


CLASSES: Mapping[str, CallClass] = {path: class_of(method) for path, method in METHODS.items()}
"""By path on the wire."""


LimitsOf = Callable[[str], Awaitable[object | None]]
"""Finds a tenant's record."""


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """One quota of a tenant, now."""

    name: str
    limit: float
    """At this gateway; 0: without limit."""
    used: float
    refused: int
    """Since this gateway began to count for the tenant."""


class Bucket:
    """One quota of calls a minute (a token bucket, kept as the time at which it is full again)."""

    __slots__ = ("_full_at_s", "_room_s", "_step_s", "limit", "name", "refused")

    def __init__(self, name: str, limit: float, used: float = 0.0, now: float = 0.0) -> None:
        """`used`: calls of the limit that are used at the time `now`, in seconds."""
        self.name = name
        self.limit = limit
        self.refused = 0
        self._step_s = _MINUTE_S / limit
        at_once = min(limit, max(_AT_ONCE_MIN, limit * _AT_ONCE_S / _MINUTE_S))
        self._room_s = max(at_once, 1.0) * self._step_s
        self._full_at_s = now + used * self._step_s

    def wait_s(self, now: float) -> float:
        """Seconds until there is a call in it; 0: there is one."""
        wait_s = max(self._full_at_s, now) + self._step_s - now - self._room_s
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def take(self, now: float) -> None:
        """One call."""
        self._full_at_s = max(self._full_at_s, now) + self._step_s

    def give_back(self) -> None:
        """One call did not count."""
        self._full_at_s -= self._step_s

    def used(self, now: float) -> float:
        """Calls of the limit that are used."""
        return max(self._full_at_s - now, 0.0) / self._step_s


@dataclass(slots=True)
class Account:
    """What one tenant has taken."""

    tenant: str
    own: object | None = None
    """What its record says of its limits."""
    most_calls: int = 0
    most_streams: int = 0
    weight: float = 1.0
    """Of its turns."""
    calls: int = 0
    """In flight."""
    streams: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Of the limits of calls at a time."""
    buckets: dict[CallClass, tuple[Bucket, ...]] = field(default_factory=dict)

    def is_idle(self, now: float) -> bool:
        """Whether nothing is lost with it."""
        if self.calls or self.streams:
            return False
        return all(not bucket.used(now) for bucket in self.all_buckets())

    def all_buckets(self) -> Iterator[Bucket]:
        """Each once."""
        return iter(dict.fromkeys(bucket for some in self.buckets.values() for bucket in some))


class Quotas:
    """Accounts of all tenants that have called of late; a gate, a place and an observer."""

    def __init__(
        self,
        settings: QuotaSettings,
        limits_of: LimitsOf,
        counts: Counts,
        *,
        places: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`places`: calls that the gateway has in flight at most; `counts` knows how many now."""
        self.gateways = settings.gateways
        """How many share the limits."""
        self._defaults = _defaults(settings)
        self._limits_of = limits_of
        self._counts = counts
        self._places = places
        self._monotonic = monotonic
        self._accounts: dict[str, Account] = {}

    async def gate(self, arrival: Arrival) -> None:
        """Count a call, or refuse it.

        Raises:
            ServiceError: QUOTA_EXCEEDED; OVERLOADED where the tenant has its part of this gateway.
        """
        account = await self._account_of(arrival)
        if account is None:
            return
        assert arrival.method is not None
        self._check_room(account, streams=arrival.method.streams)
        arrival.counted = self._take(account, CLASSES[arrival.path])

    def place(self, arrival: Arrival) -> _Held:
        """A call in flight."""
        assert arrival.method is not None
        account = None if _is_free(arrival) else self._accounts.get(arrival.caller.tenant)
        return _Held(self, account, streams=arrival.method.streams)

    def observe(self, arrival: Arrival, end: End) -> None:
        """Give back what a call took that failed for our own reasons."""
        if end.error is not None and end.error.reason in _GIVEN_BACK:
            for bucket in arrival.counted:
                bucket.give_back()
            arrival.counted = ()

    def weight(self, tenant: str) -> float:
        """Of a tenant's turns."""
        account = self._accounts.get(tenant)
        return 1.0 if account is None else account.weight

    async def usage(self, tenant: str) -> list[QuotaUse]:
        """Every limit of a tenant that holds, and the concurrent ones."""
        account = await self._account(tenant)
        now, refused = self._monotonic(), account.refused
        calls = QuotaUse(CALLS, account.most_calls, account.calls, refused.get(CALLS, 0))
        streams = QuotaUse(STREAMS, account.most_streams, account.streams, refused.get(STREAMS, 0))
        counted = [
            QuotaUse(bucket.name, bucket.limit, bucket.used(now), bucket.refused)
            for bucket in account.all_buckets()
        ]
        return [*counted, calls, streams]

    def enter(self, account: Account, *, streams: bool) -> None:
        """Hold a place.

        Raises:
            ServiceError: as `gate`, where others came in between.
        """
        self._check_room(account, streams=streams)
        if streams:
            account.streams += 1
        else:
            account.calls += 1

    def _check_room(self, account: Account, *, streams: bool) -> None:
        held, most = account.calls, account.most_calls
        if streams:
            held, most = account.streams, account.most_streams
        name = STREAMS if streams else CALLS
        if 0 < most <= held:
            account.refused[name] = account.refused.get(name, 0) + 1
            raise _exceeded(account.tenant, name, most, _SOON_S)
        free = self._places - self._counts.in_flight + 1  # this call has one of them already
        # Calls are short: more of them only wait, and each that waits stands in everybody's way
        # once it is answered and the next one comes. Streams last, and take no time.
        if account.calls + account.streams >= free or (not streams and 3 * account.calls >= free):
            raise _crowded(free)

    def _take(self, account: Account, kind: CallClass) -> tuple[Bucket, ...]:
        now = self._monotonic()
        buckets = account.buckets[kind]
        for bucket in buckets:
            wait_s = bucket.wait_s(now)
            if wait_s > 0:
                bucket.refused += 1
                raise _exceeded(account.tenant, bucket.name, bucket.limit, wait_s)
        for bucket in buckets:
            bucket.take(now)
        return buckets

    async def _account_of(self, arrival: Arrival) -> Account | None:
        return None if _is_free(arrival) else await self._account(arrival.caller.tenant)

    async def _account(self, tenant: str) -> Account:
        record = await self._limits_of(tenant)
        account = self._accounts.get(tenant)
        if account is None:
            self._forget()
            account = self._accounts[tenant] = Account(tenant)
        own = getattr(record, "limits", None)
        if not account.buckets or (account.own is not own and account.own != own):
            self._set_limits(account, own)
        account.own = own
        return account

    def _set_limits(self, account: Account, own: object | None) -> None:
        """As the tenant's record says; what was used stays used."""
        now = self._monotonic()
        kept = {bucket.name: bucket for bucket in account.all_buckets()}

        def bucket(name: str) -> Iterator[Bucket]:
            limit = self._limit(own, name) / self.gateways
            before = kept.get(name)
            if before is not None and before.limit == limit:
                yield before
            elif limit > 0:
                yield Bucket(name, limit, before.used(now) if before else 0.0, now)

        requests = tuple(bucket(REQUESTS))
        account.buckets = {kind: (*requests, *bucket(kind.value)) for kind in CallClass}
        account.most_calls = self._part(self._limit(own, CALLS))
        account.most_streams = self._part(self._limit(own, STREAMS))
        account.weight = float(getattr(own, "weight", 0) or 1.0)

    def _limit(self, own: object, name: str) -> float:
        limit: float = getattr(own, name, 0) or self._defaults[name]
        return 0.0 if limit >= REQUESTS_A_MINUTE_UNLIMITED else limit

    def _part(self, limit: float) -> int:
        return max(int(limit / self.gateways), 1) if limit > 0 else 0

    def _forget(self) -> None:
        if len(self._accounts) < _ACCOUNTS_KEPT:
            return
        now = self._monotonic()
        for tenant in [name for name, account in self._accounts.items() if account.is_idle(now)]:
            del self._accounts[tenant]


class _Held:
    """A tenant's call in flight."""

    __slots__ = ("_account", "_quotas", "_streams")

    def __init__(self, quotas: Quotas, account: Account | None, *, streams: bool) -> None:
        self._quotas = quotas
        self._account = account
        self._streams = streams

    async def __aenter__(self) -> None:
        if self._account is not None:
            self._quotas.enter(self._account, streams=self._streams)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._account is None:
            return
        if self._streams:
            self._account.streams -= 1
        else:
            self._account.calls -= 1


def _defaults(settings: QuotaSettings) -> Mapping[str, float]:
    return {
        REQUESTS: settings.requests_per_minute,
        CallClass.READ: settings.reads_per_minute,
        CallClass.WRITE: settings.writes_per_minute,
        CallClass.SEARCH: settings.searches_per_minute,
        CallClass.RUN: settings.runs_per_minute,
        CallClass.ADMIN: settings.admin_per_minute,
        CALLS: settings.concurrent_calls,
        STREAMS: settings.concurrent_streams,
    }


def _is_free(arrival: Arrival) -> bool:
    """Whether a call is counted for nobody: the operator's, and what has no tenant."""
    return arrival.caller.any_tenant or not arrival.caller.tenant


def _exceeded(tenant: str, quota: str, limit: float, wait_s: float) -> ServiceError:
    what = {CALLS: "calls at a time", STREAMS: "streams at a time"}.get(quota) or (
        quota.replace("_per_minute", " a minute")
    )
    # Coarsely: a refusal that was made before costs less to make again.
    wait = f"{math.ceil(wait_s * 100) / 100:.2f}" if wait_s < 1 else f"{math.ceil(wait_s)}"
    return ServiceError(
        Reason.QUOTA_EXCEEDED,
        f"The tenant may make {limit:g} {what}; try again in {wait} s.",
        quota=quota,
        limit=f"{limit:g}",
        retry_after_s=wait,
        tenant_id=tenant,
    )


def _crowded(free: int) -> ServiceError:
    return ServiceError(
        Reason.OVERLOADED,
        "The tenant has its part of the calls that this gateway takes at a time; "
        f"try again in {_SOON_S} s.",
        limit=max(free, 0),
        retry_after_s=_SOON_S,
    )
