"""Executes templates: each is a run of its script, with the caller's permissions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import TEMPLATE_DEPTH_MAX
from services.runtime.handling import Handling
from services.runtime.money.model import NOTHING_SPENT, Spent
from services.runtime.pool import TurnLimits, WorkerPool
from services.runtime.runs import Call, CallHandler, Reply, Result, RunLimits, RunSpec, run_script
from services.runtime.templates.model import Template
from services.runtime.toolbox.model import Arguments
from services.runtime.turns import Turns

Tells = Callable[[RunSpec, CallContext], RunSpec]
"""Adds what a run is told of itself."""
_OUTPUTS = ("agent", "workflow")
_EXECUTE_TEMPLATE = "llmspell.v1.TemplateService/ExecuteTemplate"

_depth: ContextVar[int] = ContextVar("template_depth", default=0)


@dataclass(slots=True)
class Tally:
    """Passes a template's calls on, and adds up what came of them."""

    inner: CallHandler
    spent: Spent = NOTHING_SPENT
    agents: int = 0

    async def __call__(self, call: Call) -> Reply:
        """The answer to a call."""
        reply = await self.inner(call)
        if isinstance(reply.tree, Mapping):
            progress = reply.tree.get("progress")
            if reply.ok and isinstance(progress, Mapping):
                self._add(progress)
            if reply.ok and call.method == _EXECUTE_TEMPLATE:
                self.spent += Spent(**(reply.tree.get("spent") or {}))
                self.agents += int(reply.tree.get("agents_invoked") or 0)
        return reply

    def _add(self, progress: Mapping[str, Any]) -> None:
        for kind in _OUTPUTS:
            output = progress.get(kind)
            if isinstance(output, Mapping):
                self.agents += _agents_of(kind, output)
                self.spent += Spent(**(output.get("spent") or {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What came of an execution."""

    result_type: str
    result: Any
    artifacts: list[dict[str, Any]]
    tally: Tally
    elapsed_s: float


class Executing:
    """Executes templates in a place of their own, so that a script that waits for one keeps its."""

    def __init__(
        self, pool: WorkerPool, handling: Handling, tells: Tells, most: RunLimits, turns: TurnLimits
    ) -> None:
        """`most`: limits of a script; a template may take longer on the clock."""
        self._pool = pool
        self._handling = handling
        self._tells = tells
        self._most = most
        # One for each depth: else templates that wait for templates could hold all places.
        self._turns = [Turns(turns) for _ in range(TEMPLATE_DEPTH_MAX)]

    async def execute(
        self, template: Template, accepted: Arguments, caller: CallContext, *, timeout_s: float
    ) -> Executed:
        """Execute one.

        Raises:
            ServiceError: LIMIT_EXCEEDED where templates execute templates too deep; what a run of
                a script raises; TOOL_FAILED where the script answers something else than it must.
        """
        depth = _depth.get()
        if depth >= TEMPLATE_DEPTH_MAX:
            raise ServiceError(
                Reason.LIMIT_EXCEEDED,
                f"Templates may execute templates {TEMPLATE_DEPTH_MAX - 1} deep.",
                field="template",
                limit=TEMPLATE_DEPTH_MAX - 1,
            )
        token = _depth.set(depth + 1)
        try:
            spec = self._tells(self._spec(template, accepted, caller.tenant, timeout_s), caller)
            return await self._run(spec, caller, self._turns[depth])
        finally:
            _depth.reset(token)

    def _spec(
        self, template: Template, accepted: Arguments, tenant: str, timeout_s: float
    ) -> RunSpec:
        most = self._most
        return RunSpec(
            source=template.source,
            name=template.head.id,
            named={"params": json.dumps(accepted, ensure_ascii=False)},
            limits=RunLimits(
                wall_s=timeout_s,
                cpu_s=most.cpu_s,
                memory_bytes=most.memory_bytes,
                output_bytes=most.output_bytes,
                calls_max=most.calls_max,
            ),
            session_id=accepted.get("session_id") or "",
            tenant=tenant,
        )

    async def _run(self, spec: RunSpec, caller: CallContext, turns: Turns) -> Executed:
        async with self._handling.hooked(caller, spec) as hooked:
            tally = Tally(hooked)
            async with aclosing(run_script(self._pool, spec, tally, turns=turns)) as events:
                async for event in events:
                    if isinstance(event, Result):
                        await hooked.settle()
                        return _executed(spec.name, event, tally)
        raise ServiceError(Reason.RUN_WORKER_LOST, "The template ended without a result.")


def _agents_of(kind: str, output: Mapping[str, Any]) -> int:
    """How often an agent was asked for an output."""
    if kind == "agent":
        return 1
    return sum(step.get("kind") == "agent" for step in output.get("steps") or ())


def _executed(name: str, result: Result, tally: Tally) -> Executed:
    told = json.loads(result.json)
    if not isinstance(told, dict) or "result" not in told:
        raise ServiceError(
            Reason.TOOL_FAILED,
            f"The template {name} must return a table with `result`; it returned something else.",
            template=name,
        )
    return Executed(
        result_type=str(told.get("result_type", "structured")),
        result=told["result"],
        artifacts=[each for each in told.get("artifacts") or [] if isinstance(each, dict)],
        tally=tally,
        elapsed_s=result.elapsed_s,
    )
