"""Built-in hooks that look on: logging, metrics, cost, debugging."""

from __future__ import annotations

import json
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from services.common.limits import HOOK_TENANTS_MAX
from services.common.redaction import redact
from services.runtime.hooks.model import HostCall, Proceed, failure_of, now_s
from services.runtime.runs import Reply

log = logging.getLogger(__name__)

_BOUNDS_MS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
_DEPTH_MAX = 20
_FORM_LENGTH = 500
_NAME_LENGTH = 100
_TOLD_OF_A_FAILURE = 20

PRICES = {
    "gpt-4": (0.03, 0.06),
    "gpt-3.5-turbo": (0.0005, 0.0015),
    "claude-3-opus": (0.015, 0.075),
    "claude-3-sonnet": (0.003, 0.015),
}
"""Dollars for 1000 tokens in and out."""


class LoggingHook:
    """Logs every call: what, whose, how long, how it ended, and the beginning of its arguments."""

    is_timed = False

    def __init__(self, *, data_bytes: int) -> None:
        self._data_bytes = data_bytes

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply, unchanged."""
        begin = now_s()
        reply = await proceed(call)
        told = {
            "method": call.method,
            "tenant": call.run.tenant,
            "principal": call.run.context.principal,
            "request_id": call.run.run_id,
            "ok": reply.ok,
            "elapsed_ms": round((now_s() - begin) * 1000, 3),
            "data": shown(call.args, self._data_bytes),
        }
        if not reply.ok:
            told["reason"] = failure_of(reply)[1]
        log.info("call", extra=told)
        return reply


def shown(args: Mapping[str, Any], bytes_max: int) -> str:
    """Arguments as text, without credentials and values that are marked as sensitive, cut.

    No more of them is looked at than may be shown: a script chooses how much it sends.
    """
    brief = _Brief(bytes_max).of(args)
    return json.dumps(redact(brief), default=repr)[:bytes_max]


class _Brief:
    """The beginning of a tree."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def of(self, value: Any, depth: int = 0) -> Any:
        """A copy that ends where the room or the depth does."""
        self._left -= 1
        if isinstance(value, str):
            # A credential must not lose its form at the cut before it is looked for.
            kept = value[: max(self._left, 0) + _FORM_LENGTH]
            self._left -= len(kept)
            return kept
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        if isinstance(value, Mapping | list):
            return self._inside(value, depth) if depth <= _DEPTH_MAX else "…"
        return value

    def _inside(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return [self.of(inner, depth + 1) for inner in value if self._left > 0]
        if value.get("sensitive") is True:
            return "[SENSITIVE]"
        return {
            name[:_NAME_LENGTH]: self.of(inner, depth + 1)
            for name, inner in value.items()
            if self._left > 0
        }


@dataclass(slots=True)
class MethodCount:
    """What is counted of one method for one tenant."""

    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By reason."""
    elapsed_s: float = 0.0
    buckets: Counter[int] = field(default_factory=Counter)
    """Calls by the first bound in milliseconds that they did not exceed; 0: none."""


@dataclass(slots=True)
class _Metrics:
    """Of one tenant."""

    logged_at: float
    methods: dict[str, MethodCount] = field(default_factory=dict)


class MetricsHook:
    """Counts calls, failures by reason and times, by tenant and method.

    The log has each tenant's counts so far, now and then while it makes calls.
    """

    is_timed = False

    def __init__(self, *, interval_s: float, now: Callable[[], float] = monotonic) -> None:
        """`interval_s`: how long after one line in the log the next one comes at the soonest."""
        self._interval_s = interval_s
        self._now = now
        self._tenants: OrderedDict[str, _Metrics] = OrderedDict()

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply, unchanged."""
        begin = now_s()
        reply = await proceed(call)
        took_s = now_s() - begin
        metrics: _Metrics = _of(self._tenants, call.run.tenant, lambda: _Metrics(self._now()))
        known = call.method if call.points or reply.ok else "other"
        count = metrics.methods.setdefault(known, MethodCount())
        count.calls += 1
        count.elapsed_s += took_s
        count.buckets[next((bound for bound in _BOUNDS_MS if took_s * 1000 <= bound), 0)] += 1
        if not reply.ok:
            count.failures[failure_of(reply)[1]] += 1
        if self._now() - metrics.logged_at >= self._interval_s:
            metrics.logged_at = self._now()
            methods = {name: _shown_count(one) for name, one in metrics.methods.items()}
            log.info("metrics", extra={"tenant": call.run.tenant, "methods": methods})
        return reply

    def told(self, tenant: str) -> Mapping[str, MethodCount]:
        """A tenant's counts by method."""
        metrics = self._tenants.get(tenant)
        return metrics.methods if metrics else {}


def _shown_count(count: MethodCount) -> Mapping[str, object]:
    within = {f"within_{bound}_ms": number for bound, number in sorted(count.buckets.items())}
    mean_ms = round(count.elapsed_s / count.calls * 1000, 3)
    return {
        "calls": count.calls,
        "mean_ms": mean_ms,
        "failures": dict(count.failures),
        "times": within,
    }


@dataclass(slots=True)
class Cost:
    """What a tenant's calls have cost."""

    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    """Of the models whose price is known."""


class CostHook:
    """Adds up the tokens that answers say they took, and their price where it is known."""

    is_timed = False

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, Cost] = OrderedDict()

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply, unchanged."""
        reply = await proceed(call)
        tree = reply.tree
        if reply.ok and isinstance(tree, dict):
            usage = tree.get("usage")
            said = usage if isinstance(usage, dict) else tree
            taken = _count(said.get("input_tokens", said.get("token_count")))
            given = _count(said.get("output_tokens"))
            if taken or given:
                self._add(call, str(said.get("model", "")), taken, given)
        return reply

    def told(self, tenant: str) -> Cost:
        """A tenant's cost so far."""
        return self._tenants.get(tenant) or Cost()

    def _add(self, call: HostCall, model: str, taken: int, given: int) -> None:
        cost = _of(self._tenants, call.run.tenant, Cost)
        price = PRICES.get(model, (0.0, 0.0))
        dollars = (taken * price[0] + given * price[1]) / 1000
        cost.input_tokens += taken
        cost.output_tokens += given
        cost.dollars += dollars
        log.info(
            "cost",
            extra={
                "tenant": call.run.tenant,
                "request_id": call.run.run_id,
                "method": call.method,
                "model": model,
                "input_count": taken,
                "output_count": given,
                "dollars": dollars,
            },
        )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


@dataclass(frozen=True, slots=True)
class Trace:
    """One call, as the debugging hook remembers it."""

    run_id: str
    method: str
    args: str
    ok: bool
    reason: str
    elapsed_ms: float


class DebuggingHook:
    """Remembers the last calls of each tenant, and logs those of a run before one that failed."""

    is_timed = False

    def __init__(self, *, traces: int) -> None:
        self._traces = traces
        self._tenants: OrderedDict[str, deque[Trace]] = OrderedDict()

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply, unchanged."""
        begin = now_s()
        reply = await proceed(call)
        traces = _of(self._tenants, call.run.tenant, lambda: deque(maxlen=self._traces))
        reason = "" if reply.ok else failure_of(reply)[1]
        elapsed_ms = round((now_s() - begin) * 1000, 3)
        args = shown(call.args, 200)
        traces.append(Trace(call.run.run_id, call.method, args, reply.ok, reason, elapsed_ms))
        if not reply.ok:
            self._tell(call, traces)
        return reply

    def told(self, tenant: str) -> list[Trace]:
        """A tenant's last calls, the oldest first."""
        return list(self._tenants.get(tenant, ()))

    def _tell(self, call: HostCall, traces: deque[Trace]) -> None:
        of_run = [trace for trace in traces if trace.run_id == call.run.run_id]
        lines = [
            f"{trace.method} {trace.args} {trace.reason or 'ok'} {trace.elapsed_ms} ms"
            for trace in of_run[-_TOLD_OF_A_FAILURE:]
        ]
        known = {"tenant": call.run.tenant, "request_id": call.run.run_id, "calls": lines}
        log.info("calls before a failure", extra=known)


def _of(tenants: OrderedDict[str, Any], tenant: str, make: Any) -> Any:
    """What is kept of a tenant; the least lately used one is forgotten where there are too many."""
    if tenant not in tenants:
        tenants[tenant] = make()
        if len(tenants) > HOOK_TENANTS_MAX:
            tenants.popitem(last=False)
    tenants.move_to_end(tenant)
    return tenants[tenant]
