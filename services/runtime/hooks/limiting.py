"""Built-in hooks that decide: rate limit, security, retry, caching."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from services.common.access import METHODS
from services.common.errors import Reason, ServiceError, limit_exceeded
from services.common.limits import HOOK_TENANTS_MAX
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.model import PACKAGE, HostCall, Proceed, failure_of, now_s, refused
from services.runtime.hooks.watching import shown
from services.runtime.runs import Reply

log = logging.getLogger(__name__)

_WARN_S = 60.0
_AWAY = frozenset({"SERVICE_UNAVAILABLE", "OVERLOADED", "TENANT_RESTORING"})
_UNKNOWN = 0
"""Idempotency of a method that says nothing: it may not be repeated."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    warned_at: float = -_WARN_S


class RateLimitHook:
    """A bucket of calls for each tenant, all its runs together; an empty one refuses."""

    is_timed = False

    def __init__(
        self,
        *,
        per_minute: float,
        burst: int,
        warn_share: float,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._per_s = per_minute / 60
        self._burst = float(burst)
        self._warn_below = (1 - warn_share) * burst
        self._now = now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply, or RATE_LIMITED."""
        bucket = self._filled(call.run.tenant)
        if bucket.tokens < 1:
            wait_s = (1 - bucket.tokens) / self._per_s
            return refused(
                ServiceError(
                    Reason.RATE_LIMITED,
                    f"This tenant's scripts have made too many calls; wait {wait_s:.1f} s.",
                    limit=f"{self._per_s * 60:g} a minute",
                    retry_after_s=f"{wait_s:.3f}",
                )
            )
        bucket.tokens -= 1
        if bucket.tokens < self._warn_below and bucket.at - bucket.warned_at >= _WARN_S:
            bucket.warned_at = bucket.at
            log.warning("rate limit is near", extra={"tenant": call.run.tenant})
        return await proceed(call)

    def _filled(self, tenant: str) -> _Bucket:
        now = self._now()
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = _Bucket(self._burst, now)
            if len(self._buckets) > HOOK_TENANTS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(tenant)
        bucket.tokens = min(bucket.tokens + (now - bucket.at) * self._per_s, self._burst)
        bucket.at = now
        return bucket


@dataclass(frozen=True, slots=True)
class Decision:
    """What the security hook decided about a call, or what was decided behind it."""

    run_id: str
    principal: str
    method: str
    allowed: bool
    reason: str
    args: str


class SecurityHook:
    """Remembers and logs every decision, and refuses a tool's arguments that are too long.

    It is no wall: what a key may, and whose data it sees, is decided behind all hooks.
    """

    is_timed = False

    def __init__(self, *, parameter_bytes: int, audit_events: int) -> None:
        self._parameter_bytes = parameter_bytes
        self._audit_events = audit_events
        self._audit: OrderedDict[str, deque[Decision]] = OrderedDict()

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply, or LIMIT_EXCEEDED."""
        refusal = self._refusal(call)
        reply = refused(refusal) if refusal else await proceed(call)
        code, reason = ("", "") if reply.ok else failure_of(reply)
        denied = refusal is not None or code in {"PERMISSION_DENIED", "UNAUTHENTICATED"}
        self._note(call, reason, allowed=not denied)
        return reply

    def audit(self, tenant: str) -> list[Decision]:
        """A tenant's last decisions, the oldest first."""
        return list(self._audit.get(tenant, ()))

    def _refusal(self, call: HostCall) -> ServiceError | None:
        if call.method != "ToolService/ExecuteTool":
            return None
        for path, size in _lengths(call.args.get("arguments"), "arguments"):
            if size > self._parameter_bytes:
                return limit_exceeded(path, size, self._parameter_bytes, "bytes")
        return None

    def _note(self, call: HostCall, reason: str, *, allowed: bool) -> None:
        decision = Decision(
            run_id=call.run.run_id,
            principal=call.run.context.principal,
            method=call.method,
            allowed=allowed,
            reason=reason,
            args=shown(call.args, 200),
        )
        if call.run.tenant not in self._audit:
            self._audit[call.run.tenant] = deque(maxlen=self._audit_events)
            if len(self._audit) > HOOK_TENANTS_MAX:
                self._audit.popitem(last=False)
        self._audit[call.run.tenant].append(decision)
        if not allowed:
            log.warning(
                "call refused",
                extra={
                    "tenant": call.run.tenant,
                    "principal": decision.principal,
                    "request_id": decision.run_id,
                    "method": decision.method,
                    "reason": reason,
                },
            )


def _lengths(value: Any, path: str) -> Iterator[tuple[str, int]]:
    """Where texts are in a tree, and how long they are in bytes."""
    if isinstance(value, str):
        yield path, len(value.encode("utf-8", "replace"))
    elif isinstance(value, bytes):
        yield path, len(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _lengths(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for position, inner in enumerate(value, start=1):
            yield from _lengths(inner, f"{path}[{position}]")


class RetryHook:
    """Makes a call again that another process could not take, where it may be repeated."""

    is_timed = False

    def __init__(self, *, attempts: int, delay_s: float, total_s: float) -> None:
        self._attempts = attempts
        self._delay_s = delay_s
        self._total_s = total_s

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The first good reply, or the last one."""
        reply = await proceed(call)
        waited_s = 0.0
        for attempt in range(1, self._attempts):
            delay_s = self._delay_s * 2 ** (attempt - 1)
            if reply.ok or failure_of(reply)[1] not in _AWAY or not _may_repeat(call):
                break
            if waited_s + delay_s > self._total_s:
                break
            await asyncio.sleep(delay_s)
            waited_s += delay_s
            reply = await proceed(call)
        return reply


def _may_repeat(call: HostCall) -> bool:
    """Whether the contract says so: it changes nothing, or a second time changes no more."""
    method = METHODS.get(f"/{PACKAGE}{call.method}")
    return method is not None and method.descriptor.GetOptions().idempotency_level != _UNKNOWN


class CachingHook:
    """Keeps answers of methods and tools that were named, for the same caller and arguments."""

    is_timed = False

    def __init__(
        self,
        kept: KeptAnswers,
        *,
        methods: Collection[str],
        tools: Collection[str],
        ttl_s: float,
        slower_than_s: float,
    ) -> None:
        self._kept = kept
        self._methods = frozenset(methods)
        self._tools = frozenset(tools)
        self._ttl_s = ttl_s
        self._slower_than_s = slower_than_s

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The answer that was kept, or the reply."""
        if not self._keeps(call):
            return await proceed(call)
        arguments = msgspec.msgpack.encode(call.args, order="deterministic")
        place = (*call.identity, call.method, arguments)
        kept = self._kept.get(call.run.tenant, place)
        if kept is not None:
            return kept
        begin = now_s()
        reply = await proceed(call)
        if now_s() - begin >= self._slower_than_s:
            self._kept.put(call.run.tenant, place, reply, self._ttl_s)
        return reply

    def _keeps(self, call: HostCall) -> bool:
        if call.method == "ToolService/ExecuteTool":
            return call.args.get("name") in self._tools
        return call.method in self._methods
