"""The four kinds of workflows: what is done in which order, and what is told of it at the end.

Each is asked for its output and facts however far it came, so that a failure has them too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import WORKFLOW_ITERATIONS_MAX
from services.runtime.workflows.conditions import is_met
from services.runtime.workflows.interpolate import interpolate, plain
from services.runtime.workflows.model import (
    Branch,
    Collection,
    CollectionFrom,
    Conditional,
    Keep,
    Loop,
    Numbers,
    OnError,
    Parallel,
    Sequential,
    While,
    Workflow,
)
from services.runtime.workflows.places import Place
from services.runtime.workflows.results import Status, StepResult
from services.runtime.workflows.scope import Scope
from services.runtime.workflows.stepping import StepFailed, Steps


class KindRun(Protocol):
    """A workflow of one kind on its way."""

    async def run(self) -> None:
        """Do it.

        Raises:
            StepFailed, ServiceError: where it cannot go on.
        """

    def own(self) -> Sequence[tuple[str, StepResult]]:
        """Its own steps that have ended, by the name that they have among its outputs."""

    def output(self) -> Any:
        """What it gives as a whole."""

    def facts(self) -> dict[str, Any]:
        """Facts about it."""


def begin(workflow: Workflow, steps: Steps, scope: Scope, place: Place) -> KindRun:
    """The run of a workflow's kind.

    Raises:
        ServiceError: WORKFLOW_INVALID where it has none.
    """
    match workflow.kind:
        case Sequential() as kind:
            return SequentialRun(kind, steps, scope, place)
        case Parallel() as kind:
            return ParallelRun(kind, steps, scope, place)
        case Conditional() as kind:
            return ConditionalRun(kind, steps, scope, place)
        case Loop() as kind:
            return LoopRun(kind, steps, scope, place)
    raise ServiceError(Reason.WORKFLOW_INVALID, f"The workflow {workflow.name} has no kind.")


def tally(results: Sequence[StepResult], total: int | None = None) -> dict[str, Any]:
    """How many steps there are, and how they ended."""
    well = sum(result.status is Status.COMPLETED for result in results)
    failed = sum(result.status is Status.FAILED for result in results)
    skipped = sum(result.status is Status.SKIPPED for result in results)
    done = well + failed
    return {
        "total_steps": len(results) if total is None else total,
        "successful_steps": well,
        "failed_steps": failed,
        "skipped_steps": skipped,
        "success_rate": well / done if done else 1.0,
    }


class SequentialRun:
    """Steps in a row."""

    def __init__(self, kind: Sequential, steps: Steps, scope: Scope, place: Place) -> None:
        self._kind = kind
        self._steps = steps
        self._scope = scope
        self._place = place

    async def run(self) -> None:
        """Do it."""
        await self._steps.row(self._kind.steps, self._scope, self._place)

    def own(self) -> Sequence[tuple[str, StepResult]]:
        """Its steps."""
        return list(self._scope.steps.items())

    def output(self) -> Any:
        """The last step's."""
        return _last_output(self._scope)

    def facts(self) -> dict[str, Any]:
        """How many steps it has, and how they ended."""
        return tally(list(self._scope.steps.values()), len(self._kind.steps))


class _Branches:
    """What parallel and conditional workflows have in common."""

    def __init__(self, steps: Steps, scope: Scope, place: Place) -> None:
        self._steps = steps
        self._scope = scope
        self._place = place
        self._scopes: dict[str, Scope] = {}
        self._failed: list[str] = []

    async def _branch(self, branch: Branch) -> None:
        """Its steps.

        Raises:
            StepFailed: as `Steps.row`.
        """
        scope = self._scopes[branch.name] = self._scope.beside()
        try:
            made = await self._steps.row(branch.steps, scope, self._place.under(branch.name))
        except StepFailed:
            self._failed.append(branch.name)
            raise
        if any(result.status is Status.FAILED for result in made):
            self._failed.append(branch.name)

    def own(self) -> Sequence[tuple[str, StepResult]]:
        """Steps of all branches; of one name, with the branch's in front."""
        names = [name for scope in self._scopes.values() for name in scope.steps]
        return [
            (name if names.count(name) == 1 else f"{branch}/{name}", result)
            for branch, scope in self._scopes.items()
            for name, result in scope.steps.items()
        ]

    def output(self) -> Any:
        """What each branch gave, by name."""
        return {name: _last_output(scope) for name, scope in self._scopes.items()}

    def _tally(self) -> dict[str, Any]:
        return tally([result for _, result in self.own()])


class ParallelRun(_Branches):
    """Branches side by side."""

    def __init__(self, kind: Parallel, steps: Steps, scope: Scope, place: Place) -> None:
        super().__init__(steps, scope, place)
        self._kind = kind
        self._turns = asyncio.Semaphore(kind.max_concurrency)
        self._stopped_early = False

    @property
    def _collects(self) -> bool:
        return self._place.on_error is OnError.CONTINUE

    async def run(self) -> None:
        """Do it. The first failure ends the others, unless all are to be collected."""
        tasks = [asyncio.create_task(self._in_turn(branch)) for branch in self._kind.branches]
        try:
            await self._wait(tasks)
        finally:
            await _end(tasks)

    async def _wait(self, tasks: list[asyncio.Task[None]]) -> None:
        when = asyncio.ALL_COMPLETED if self._collects else asyncio.FIRST_EXCEPTION
        done, pending = await asyncio.wait(tasks, return_when=when)
        self._stopped_early = bool(pending)
        await _end(pending)
        raised = (task.exception() for task in tasks if task in done and not task.cancelled())
        if any(task.cancelled() for task in done):
            raise asyncio.CancelledError
        failures = sorted((error for error in raised if error is not None), key=_is_secondary)
        if failures:
            raise failures[0]

    async def _in_turn(self, branch: Branch) -> None:
        async with self._turns:
            await self._branch(branch)

    def facts(self) -> dict[str, Any]:
        """How many branches there are, and how they ended."""
        failed = len(set(self._failed))
        whole = [
            branch.name
            for branch in self._kind.branches
            if branch.name not in self._failed
            and branch.name in self._scopes
            and len(self._scopes[branch.name].steps) == len(branch.steps)
        ]
        return {
            "total_branches": len(self._kind.branches),
            "successful_branches": len(whole),
            "failed_branches": failed,
            "stopped_early": self._stopped_early,
            "max_concurrency": self._kind.max_concurrency,
            "fail_fast": not self._collects,
        } | self._tally()


def _is_secondary(error: BaseException) -> bool:
    """Whether something else was first: a step that another's failure had cancelled."""
    return isinstance(error, StepFailed) and error.result.status is Status.CANCELLED


async def _end(tasks: Sequence[asyncio.Task[None]] | set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class ConditionalRun(_Branches):
    """Branches by condition."""

    def __init__(self, kind: Conditional, steps: Steps, scope: Scope, place: Place) -> None:
        super().__init__(steps, scope, place)
        self._kind = kind
        self._matched = 0
        self._took_default = False

    async def run(self) -> None:
        """Do the first that is met, or all that are, or what is done where none is."""
        for number, branch in enumerate(self._kind.branches):
            at = f"{self._place.path}{branch.name}?{number}"
            if not await is_met(branch.condition, self._scope, self._steps, at):
                continue
            self._matched += 1
            await self._branch(branch)
            if not self._kind.execute_all_matching:
                return
        if not self._matched and self._kind.default_steps:
            self._took_default = True
            await self._branch(Branch("default", self._kind.default_steps))

    def output(self) -> Any:
        """The last step's of the branch that was taken; of several, each one's by name."""
        if self._kind.execute_all_matching and not self._took_default:
            return super().output()
        return next((_last_output(scope) for scope in self._scopes.values()), None)

    def facts(self) -> dict[str, Any]:
        """Which branches were taken."""
        return self._tally() | {
            "total_branches": len(self._kind.branches),
            "matched_branches": self._matched,
            "executed_branches": len(self._scopes),
            "executed_branch_names": list(self._scopes),
            "default_taken": self._took_default,
            "execute_all_matching": self._kind.execute_all_matching,
            "short_circuit_evaluation": not self._kind.execute_all_matching,
        }


class LoopRun:
    """Steps again and again."""

    def __init__(self, kind: Loop, steps: Steps, scope: Scope, place: Place) -> None:
        self._kind = kind
        self._steps = steps
        self._scope = scope
        self._place = place
        self._begun = 0
        self._well = 0
        self._broke_by = ""
        self._kept: list[Any] = []
        self._size: int | None = None
        self._all: list[StepResult] = []

    async def run(self) -> None:
        """Do it."""
        async for value in self._values():
            await self._iteration(value)
            if await self._breaks():
                return
        self._broke_by = self._broke_by or "completed"

    async def _values(self) -> AsyncIterator[Any]:
        match self._kind.iterator:
            case While(condition):
                while await self._goes_on(is_met(condition, self._scope, self._steps, self._at())):
                    yield self._begun
                return
            case None:
                raise ServiceError(Reason.WORKFLOW_INVALID, "The loop says not over what.")
            case other:
                values = _listed(other, self._scope)
        self._size = len(values)
        for value in values:
            if not self._may_begin():
                return
            yield value

    def _at(self) -> str:
        """Where the condition before the next iteration stands."""
        return f"{_iteration_path(self._place, self._begun + 1)}?"

    async def _goes_on(self, condition: Awaitable[bool]) -> bool:
        return await condition and self._may_begin()

    def _may_begin(self) -> bool:
        if self._begun < self._kind.max_iterations:
            return True
        self._broke_by = "max_iterations"
        return False

    async def _iteration(self, value: Any) -> None:
        self._scope.share(
            {"loop_index": self._begun, "loop_value": value, "iteration": self._begun + 1}
        )
        self._begun += 1
        path = _iteration_path(self._place, self._begun)
        place = replace(self._place, path=f"{path}/")
        # What an iteration reads of the steps behind it, it would read of the one before.
        self._scope.steps.clear()
        try:
            await self._steps.row(self._kind.body, self._scope, place)
        except StepFailed:
            self._all += self._scope.steps.values()
            if not self._kind.continue_on_error:
                self._broke_by = "error"
                raise
            return
        self._all += self._scope.steps.values()
        self._well += all(step.status is not Status.FAILED for step in self._scope.steps.values())
        self._keep(_last_output(self._scope))

    def _keep(self, output: Any) -> None:
        keep, count = self._kind.keep, self._kind.keep_count
        if keep is Keep.NONE or (keep is Keep.FIRST_N and len(self._kept) >= count):
            return
        self._kept.append(output)
        most = {Keep.LAST: 1, Keep.LAST_N: count}.get(keep)
        if most is not None:
            del self._kept[: max(len(self._kept) - most, 0)]

    async def _breaks(self) -> bool:
        for number, condition in enumerate(self._kind.break_conditions):
            at = f"{_iteration_path(self._place, self._begun)}!{number}"
            if await is_met(condition, self._scope, self._steps, at):
                self._broke_by = f"break_condition_{number + 1}"
                return True
        return False

    def own(self) -> Sequence[tuple[str, StepResult]]:
        """The steps of the last iteration."""
        return list(self._scope.steps.items())

    def output(self) -> Any:
        """What was kept of the iterations: a list, or the last one's alone."""
        if self._kind.keep is Keep.LAST:
            return self._kept[-1] if self._kept else None
        return list(self._kept)

    def facts(self) -> dict[str, Any]:
        """How often it went round, and why it ended."""
        return {
            "total_iterations": self._begun,
            "completed_iterations": self._well,
            "break_reason": self._broke_by,
            "aggregated_results_count": len(self._kept),
            "max_iterations": self._kind.max_iterations,
            "continue_on_error": self._kind.continue_on_error,
        } | (_iterator_facts(self._kind, self._size) | tally(self._all))


def _iteration_path(place: Place, number: int) -> str:
    """`each#2` of a workflow that stands at `each/`; `#2` of the outermost."""
    return f"{place.path.removesuffix('/')}#{number}"


def _listed(iterator: Numbers | Collection | CollectionFrom, scope: Scope) -> Sequence[Any]:
    match iterator:
        case Numbers(start, end, step):
            if step == 0:
                raise field_invalid("range.step", "must not be 0")
            # A range of Python has no values until they are asked for, however long it is.
            return range(start, end, step)[: WORKFLOW_ITERATIONS_MAX + 1]
        case Collection(values):
            found = interpolate(list(values), scope)
        case CollectionFrom(text):
            found = interpolate(text, scope)
    if not isinstance(found, list):
        raise field_invalid("collection_from", "must stand for a list")
    if len(found) > WORKFLOW_ITERATIONS_MAX:
        raise limit_exceeded("collection", len(found), WORKFLOW_ITERATIONS_MAX, "entries")
    return found


def _iterator_facts(kind: Loop, size: int | None) -> dict[str, Any]:
    match kind.iterator:
        case Numbers(start, end, step):
            return {
                "iterator_type": "range",
                "range_start": start,
                "range_end": end,
                "range_step": step,
            }
        case While(condition):
            told = getattr(condition, "text", type(condition).__name__.lower())
            return {"iterator_type": "while_condition", "condition": told}
        case None:
            return {"iterator_type": ""}
    return {"iterator_type": "collection", "collection_size": size or 0}


def _last_output(scope: Scope) -> Any:
    """Of the last step that gave one."""
    outputs = [step.output for step in scope.steps.values() if step.status is Status.COMPLETED]
    return plain(outputs[-1]) if outputs else None
