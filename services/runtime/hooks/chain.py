"""All hooks of the host around the calls of one run, in the order of the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import HOOK_SLEEP_SECONDS_MAX
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.forks import Forks
from services.runtime.hooks.guard import Guarded
from services.runtime.hooks.model import HostCall, Proceed, RunInfo, now_s, refused
from services.runtime.hooks.watch import Watch, cpu_s
from services.runtime.runs import Call, CallHandler, Reply

OPERATIONS = "llmspell.runtime.Hooks/"
"""What the VM's own hooks ask of their host; no method of the contract, and not counted as such."""

_TEXT_LENGTH_MAX = 500


class Hooked:
    """Answers the calls of one run, through the hooks."""

    def __init__(
        self,
        hooks: Sequence[Guarded],
        inner: CallHandler,
        run: RunInfo,
        announcer: Announcer,
    ) -> None:
        """`inner`: answers a call that passed them all."""
        self._inner = inner
        self._forks = Forks(self._answer)
        self._run = replace(run, forks=self._forks)
        self._watch = Watch(hooks, self._run)
        self._announcer = announcer
        self._call_s = 0.0
        self._calls = 0
        self._begin_s = now_s()
        self._chain: Proceed = self._last
        for hook in reversed(hooks):
            self._chain = _linked(hook, self._chain)

    async def __call__(self, call: Call) -> Reply:
        """The reply to a call of the script."""
        if call.method.startswith(OPERATIONS):
            return await self._operation(call)
        self._calls += 1
        begin = now_s()
        reply = await self._answer(call)
        self._call_s = now_s() - begin
        await self._watch.after(call, self._call_s)
        return reply

    async def around(self, call: Call, inner: CallHandler) -> Reply:
        """The reply of what is no call of a method but passes the same hooks, such as an agent."""
        return await self._pass(HostCall(call, self._run, inner=inner))

    async def settle(self) -> None:
        """Wait for what was forked; the run's own time goes on."""
        await self._forks.join()

    async def end(self) -> None:
        """The run is over: what still goes on is cancelled."""
        await self._forks.end()

    def told(self) -> Mapping[str, object]:
        """What is told of the run at its end."""
        elapsed_ms = round((now_s() - self._begin_s) * 1000, 3)
        return {"call_count": self._calls, "elapsed_ms": elapsed_ms}

    async def _answer(self, call: Call, forked_by: object = None) -> Reply:
        return await self._pass(HostCall(call, self._run, forked_by))

    async def _pass(self, hosted: HostCall) -> Reply:
        begin = now_s()
        reply = await self._chain(hosted)
        self._announcer.answered(hosted, reply, now_s() - begin)
        return reply

    async def _last(self, call: HostCall) -> Reply:
        return await (call.inner or self._inner)(call.call)

    async def _operation(self, call: Call) -> Reply:
        operation = _OPERATIONS.get(call.method.removeprefix(OPERATIONS))
        if operation is None:
            message = f"Hooks cannot ask {call.method[:100]}."
            return refused(ServiceError(Reason.NOT_IMPLEMENTED, message))
        try:
            return Reply(ok=True, tree=await operation(self, call))
        except ServiceError as error:
            return refused(error)

    async def _sleep(self, call: Call) -> Mapping[str, Any]:
        seconds = call.args.get("seconds")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= HOOK_SLEEP_SECONDS_MAX:
            raise field_invalid("seconds", f"must be 0 to {HOOK_SLEEP_SECONDS_MAX:g}")
        await asyncio.sleep(seconds)
        return {}

    async def _fork(self, call: Call) -> Mapping[str, Any]:
        given = call.args.get("operations")
        calls = [_forked_call(one) for one in given] if isinstance(given, list) else []
        self._forks.begin(calls)
        return {"begun_count": len(calls)}

    async def _join(self, call: Call) -> Mapping[str, Any]:
        ids = call.args.get("ids")
        wanted = [one for one in ids if isinstance(one, str)] if isinstance(ids, list) else []
        ended = await self._forks.join(wanted)
        results = [{"id": one.id, "ok": one.reply.ok, "answer": one.reply.tree} for one in ended]
        return {"results": results}

    async def _measure(self, call: Call) -> Mapping[str, Any]:
        return {"call_s": self._call_s, "cpu_s": cpu_s(call.worker_pid)}

    async def _report(self, call: Call) -> Mapping[str, Any]:
        told = {name: str(call.args.get(name, ""))[:_TEXT_LENGTH_MAX] for name in _REPORTED}
        if told["event"] in {"hook.failed", "hook.opened"}:
            self._announcer.hook(self._run, *told.values())
        return {}


_REPORTED = ("event", "hook", "point", "text")
_OPERATIONS: Mapping[str, Callable[[Hooked, Call], Any]] = {
    "Sleep": Hooked._sleep,  # noqa: SLF001 - its own
    "Fork": Hooked._fork,  # noqa: SLF001
    "Join": Hooked._join,  # noqa: SLF001
    "Measure": Hooked._measure,  # noqa: SLF001
    "Report": Hooked._report,  # noqa: SLF001
}


def _linked(hook: Guarded, behind: Proceed) -> Proceed:
    async def link(call: HostCall) -> Reply:
        return await hook(call, behind)

    return link


def _forked_call(given: object) -> tuple[str, Call]:
    fields: dict[str, Any] = given if isinstance(given, dict) else {}
    name, method, args = fields.get("id"), fields.get("method"), fields.get("args", {})
    if not (isinstance(name, str) and isinstance(method, str) and isinstance(args, dict)):
        raise field_invalid("operations", "must each have id, method and args")
    if method.startswith(OPERATIONS):
        raise field_invalid("operations", "must be calls of methods of the contract")
    return name, Call(method, None, args)
