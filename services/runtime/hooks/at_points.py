"""Hooks that are asked at points, as those of scripts are, made into code around a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from services.common.errors import Reason, ServiceError
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.model import PACKAGE, HostCall, Proceed, RunInfo, reached_by, refused
from services.runtime.hooks.results import (
    Cache,
    Cancel,
    Fork,
    HookResult,
    Modified,
    Operation,
    Redirect,
    Replace,
    ResultError,
    Retry,
    check_allowed,
)
from services.runtime.runs import Call, Reply
from services.runtime.worker.points import Phase

ATTEMPTS_MAX = 10


@dataclass(frozen=True, slots=True)
class HookContext:
    """What such a hook is told."""

    point: str
    phase: Phase
    data: Any
    """Arguments, answer or error (`code`, `reason`, `message`, `metadata`), as plain trees."""
    component: str = "system"
    name: str = ""
    tenant: str = ""
    """Empty where it concerns the whole process."""
    operation: str = ""
    """Method, such as `StateService/SetState`."""
    correlation_id: str = ""
    attempts: int = 0


Ask = Callable[[HookContext], Awaitable[HookResult]]


class AtPoints:
    """A hook of the host that is asked at some points and answers with a result."""

    is_timed = False
    """A retry's delay is its own time."""

    def __init__(self, points: Collection[str], ask: Ask, *, kept: KeptAnswers) -> None:
        """`kept`: where the answers of its Cache results are kept."""
        self.points = frozenset(points)
        self.ask = ask
        self.kept = kept

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply, after the results at the points that the call passes.

        What it has forked itself passes it unasked, or it would fork for ever.
        """
        if call.forked_by is self:
            return await proceed(call)
        return await _Passing(self, call, proceed).reply()

    async def tell(self, point: str, data: Any, run: RunInfo | None = None) -> None:
        """Tell of something on which no call hangs; `run`: whose it is, None: the process's.

        Raises:
            ResultError: for every result but Continue and Skipped.
        """
        if point in self.points:
            tenant, run_id = (run.tenant, run.run_id) if run else ("", "")
            context = HookContext(point, Phase.NOTICE, data, tenant=tenant, correlation_id=run_id)
            result = await self.ask(context)
            check_allowed(result, Phase.NOTICE)


class _Passing:
    """One call on its way past one hook's points."""

    def __init__(self, hook: AtPoints, call: HostCall, proceed: Proceed) -> None:
        self._hook = hook
        self._call = call
        self._proceed = proceed
        self._attempts = 0
        self._retry: Retry | None = None
        self._keep: Cache | None = None

    async def reply(self) -> Reply:
        points = self._call.points
        for point in points.before if points else ():
            ended = self._before(await self._ask(point, Phase.BEFORE, self._call.args))
            if ended is not None:
                return ended
        reply = await self._settle(await self._make())
        if self._keep is not None:
            self._put(self._keep, reply)
        return reply

    async def _ask(self, point: str, phase: Phase, data: Any) -> HookResult | None:
        if point not in self._hook.points:
            return None
        points, args = self._call.points, self._call.args
        context = HookContext(
            point=point,
            phase=phase,
            data=data,
            component=points.component if points else "service",
            name=str(args.get(points.name, "")) if points and points.name else "",
            tenant=self._call.call.tenant or self._call.run.tenant,
            operation=self._call.method,
            correlation_id=self._call.run.run_id,
            attempts=self._attempts,
        )
        result = await self._hook.ask(context)
        check_allowed(result, phase)
        if isinstance(result, Fork):
            self._fork(result)
        return result

    def _before(self, result: HookResult | None) -> Reply | None:
        """Put a result before the call into effect; a reply where the call is not made."""
        match result:
            case Modified(data):
                self._call = self._call.with_args(_table(data))
            case Redirect(target):
                self._call = _redirected(self._call, target)
            case Cancel(reason):
                return _cancelled(reason)
            case Replace(data):
                return Reply(ok=True, tree=data)
            case Retry():
                self._retry = result
            case Cache(key):
                self._keep = result
                return self._hook.kept.get(self._call.run.tenant, self._place(key))
        return None

    async def _make(self) -> Reply:
        """The call, as often as was asked before it."""
        most = min(self._retry.max_attempts, ATTEMPTS_MAX) if self._retry else 1
        reply = await self._attempt()
        while not reply.ok and self._retry and self._attempts < most:
            await asyncio.sleep(self._retry.delay_s)
            reply = await self._attempt()
        return reply

    async def _attempt(self) -> Reply:
        self._attempts += 1
        return await self._proceed(self._call)

    async def _settle(self, reply: Reply) -> Reply:
        """The reply, after the points behind the call."""
        for point in reached_by(self._call, reply):
            phase = Phase.AFTER if reply.ok else Phase.ERROR
            match await self._ask(point, phase, reply.tree):
                case Modified(data) if reply.ok:
                    reply = Reply(ok=True, tree=data)
                case Modified(data):
                    reply = _reworded(reply, data)
                case Replace(data):
                    return Reply(ok=True, tree=data)
                case Cancel(reason):
                    return _cancelled(reason)
                case Cache() as cache:
                    self._put(cache, reply)
                case Redirect(target):
                    self._call = _redirected(self._call, target)
                    return await self._attempt()
                case Retry(delay_s, attempts):
                    if self._attempts >= min(attempts, ATTEMPTS_MAX):
                        return reply
                    await asyncio.sleep(delay_s)
                    return await self._settle(await self._attempt())
        return reply

    def _put(self, cache: Cache, reply: Reply) -> None:
        self._hook.kept.put(self._call.run.tenant, self._place(cache.key), reply, cache.ttl_s)

    def _place(self, key: str) -> tuple[object, ...]:
        return (*self._call.identity, self._call.method, key)

    def _fork(self, result: Fork) -> None:
        forks = self._call.run.forks
        if forks is None:
            raise ResultError("nothing can be forked here")
        calls = [(one.id, _call_of(one)) for one in result.parallel_operations]
        forks.begin(calls, by=self._hook)


def _call_of(operation: Operation) -> Call:
    method = operation.operation_type
    if method == "tool":
        method = "ToolService/ExecuteTool"
    return Call(PACKAGE + method, None, dict(operation.parameters))


def _table(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ResultError("arguments must be a table")
    return data


def _redirected(call: HostCall, target: str) -> HostCall:
    field = call.points.target if call.points else ""
    if not field:
        raise ResultError("there is no other target of such a call")
    args = dict(call.args)
    if field == "type":  # of each event that is published
        events = args.get("events")
        args["events"] = [one | {"type": target} for one in events or () if isinstance(one, dict)]
    else:
        args[field] = target
    return call.with_args(args)


def _cancelled(reason: str) -> Reply:
    return refused(ServiceError(Reason.HOOK_CANCELLED, reason))


def _reworded(reply: Reply, data: object) -> Reply:
    message = data.get("message") if isinstance(data, dict) else data
    tree: Any = reply.tree
    if not isinstance(message, str):
        raise ResultError("an error's data must be a text, or a table with a message")
    return replace(reply, tree={**tree, "message": message})
