"""One step: whether it is done, what it is given, how often it is tried, and what becomes of it.

What a step does is its `Actions`' business, and what is kept of it its `Journal`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError, limit_exceeded
from services.common.limits import (
    WORKFLOW_OUTPUT_BYTES_MAX,
    WORKFLOW_OUTPUTS_BYTES_MAX,
    WORKFLOW_STEPS_RUN_MAX,
)
from services.runtime.money.model import NOTHING_SPENT, Purse, Spent
from services.runtime.workflows.conditions import is_met
from services.runtime.workflows.interpolate import as_text, interpolate, size_of
from services.runtime.workflows.model import (
    ONCE,
    AgentAction,
    CallAction,
    Classified,
    FunctionAction,
    OnError,
    Retry,
    Step,
    TemplateAction,
    ToolAction,
    WorkflowAction,
)
from services.runtime.workflows.places import Place
from services.runtime.workflows.results import Failure, Status, StepResult
from services.runtime.workflows.scope import Scope
from services.runtime.workflows.tries import (
    is_remembered,
    is_worth_another_try,
    spent_in_vain,
    step_unknown,
    too_long,
)

UNDO = "~undo"
"""Behind the name of a step: its compensation. No name of a step has it."""
_INPUT_KEPT_BYTES = 16 * 1024


class Repeat(Enum):
    """What it means to do something again of which it is unknown whether it was done."""

    HARMLESS = "harmless"
    """It changes nothing."""
    ALWAYS = "always"
    """It is done again."""
    BY_ID = "by_id"
    """Whoever does it knows its request id for a while."""
    BY_RECEIPT = "by_receipt"
    """Its process leaves on this machine what came of it."""
    NEVER = "never"
    """It may be done twice then."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a step asks to be done."""

    path: str
    workflow: str
    step: Step
    arguments: Mapping[str, Any]
    """After interpolation; of an agent `input` and `parameters`."""
    timeout_s: float
    cost_left_usd: float
    """0: no limit of the workflow."""
    attempt: int = 1
    receipt: str = ""
    """What its execution is known by; empty: by nothing."""
    begun_ns: int | None = None
    """When a process that is lost began it under this receipt; None: it is new."""
    purses: tuple[Purse, ...] = ()
    """Of its place."""


@dataclass(frozen=True, slots=True)
class Acted:
    """What came of it."""

    output: Any
    spent: Spent = NOTHING_SPENT
    shared: Mapping[str, Any] = field(default_factory=dict)


class Actions(Protocol):
    """Does what steps ask."""

    async def act(self, order: Order) -> Acted:
        """Do it.

        Raises:
            ServiceError: where it failed.
        """

    def repeat(self, order: Order) -> Repeat:
        """What it means to do it again."""

    def new_receipt(self, order: Order) -> str:
        """For something new that leaves one, or an agent, by which its memo is known."""

    async def classify(self, condition: Classified, text: str, path: str) -> Acted:
        """Ask an agent; its output is whether it takes the text for what is expected."""

    async def ask(self, function: str, scope: Scope, path: str) -> Acted:
        """Ask a function of the caller; its output is what it says."""


class Journal(Protocol):
    """What is kept of a run, step by step."""

    def ended(self, path: str) -> StepResult | None:
        """What came of a step earlier."""

    def begun(self, path: str) -> StepResult | None:
        """How it was begun by a process that was lost since; None: it was not."""

    async def begin(self, result: StepResult) -> None:
        """Keep that a step begins; when this returns, that is safe, and all before it."""

    def keep(self, result: StepResult) -> None:
        """Keep what came of a step; it is safe when the next one begins that is not harmless."""

    def forget_failures(self, prefix: str) -> None:
        """What failed under a path is done again."""


class Watches(Protocol):
    """Is told what happens."""

    def step_started(self, result: StepResult) -> None:
        """A step begins."""

    def step_ended(self, result: StepResult) -> None:
        """A step has ended."""

    def shared(self, path: str, values: Mapping[str, Any]) -> None:
        """Shared data has changed."""

    async def rolling_back(self, workflow: str, path: str, steps: Sequence[str]) -> None:
        """Steps are about to be undone."""


@dataclass(frozen=True, slots=True)
class Undo:
    """A step that was done and can be undone."""

    step: Step
    scope: Scope
    place: Place


class StepFailed(Exception):  # noqa: N818  (it ends a list of steps; it is no error of ours)
    """A step failed, and what follows it is not done."""

    def __init__(self, result: StepResult) -> None:
        super().__init__(result.path)
        self.result = result


Nested = Callable[[WorkflowAction, Order, Scope, Place], Awaitable[Acted]]


class Steps:
    """The steps of one run, in whatever workflow they stand."""

    def __init__(
        self,
        actions: Actions,
        journal: Journal,
        watches: Watches,
        clock: Clock,
        *,
        max_cost_usd: float = 0.0,
    ) -> None:
        """`max_cost_usd`: that all may spend; 0: no limit."""
        self.results: dict[str, StepResult] = {}
        """By path, in the order in which they began."""
        self.undo: list[Undo] = []
        self.nested: Nested | None = None
        self.leaves_open = False
        """Whether the process ends: what is cancelled then will be gone on with."""
        self.is_let_go: Callable[[], bool] = lambda: False
        """The same of this run alone: its caller has gone, and may come back."""
        self.journal = journal
        self.clock = clock
        self.watches = watches
        self._actions = actions
        self._max_cost_usd = max_cost_usd
        self._spent = NOTHING_SPENT
        self._count = 0
        self._bytes = 0

    @property
    def spent(self) -> Spent:
        """By all steps so far."""
        return self._spent

    # Lists of steps

    async def row(self, steps: Sequence[Step], scope: Scope, place: Place) -> list[StepResult]:
        """Steps one after the other.

        Raises:
            StepFailed: at the first that fails and is not to be gone on from.
        """
        made: list[StepResult] = []
        for step in steps:
            result = await self.step(step, scope, place)
            made.append(result)
            if (
                result.status is Status.CANCELLED
            ):  # before its process was lost, by another's failure
                raise StepFailed(result)
            if result.status is Status.FAILED and not _goes_on(step, place):
                raise StepFailed(result)
        return made

    async def step(self, step: Step, scope: Scope, place: Place) -> StepResult:
        """One step; its failure is a result too."""
        path = place.path + step.name
        known = self.journal.ended(path)
        is_new = known is None or isinstance(step.action, WorkflowAction)
        result = await self._do(step, path, scope, place) if is_new else known
        assert result is not None
        if not is_new:
            place.pay_again(result.spent)
        self._note(result, scope, is_new=is_new)
        if result.status is Status.COMPLETED and step.compensation is not None:
            self.undo.append(Undo(step, scope, place))
        return result

    def _note(self, result: StepResult, scope: Scope, *, is_new: bool) -> None:
        self.results[result.path] = result
        scope.ended(result)
        if result.kind != "workflow":  # its steps were counted
            self._spent += result.spent
            self._bytes += size_of(result.output, most=WORKFLOW_OUTPUT_BYTES_MAX)
        if self._bytes > WORKFLOW_OUTPUTS_BYTES_MAX:
            raise limit_exceeded(
                "what the steps of a run give", self._bytes, WORKFLOW_OUTPUTS_BYTES_MAX, "bytes"
            )
        if result.shared:
            scope.share(result.shared)
            if is_new:
                self.watches.shared(result.path, result.shared)

    async def _do(self, step: Step, path: str, scope: Scope, place: Place) -> StepResult:
        self._count += 1
        if self._count > WORKFLOW_STEPS_RUN_MAX:
            raise limit_exceeded("steps of a run", self._count, WORKFLOW_STEPS_RUN_MAX)
        begun = StepResult(
            path,
            step.name,
            step.kind,
            Status.RUNNING,
            start_ns=self.clock.now_ns(),
            is_compensation=step.name.endswith(UNDO),
        )
        try:
            met = await is_met(step.condition, scope, self, f"{path}?")
            result = await self._begun(step, begun, scope, place) if met else _skipped(begun)
        except ServiceError as error:  # the condition's
            result = replace(begun, status=Status.FAILED, failure=Failure.of(error))
        result = replace(result, end_ns=self.clock.now_ns())
        self.journal.keep(result)
        self.watches.step_ended(result)
        return result

    async def _begun(self, step: Step, begun: StepResult, scope: Scope, place: Place) -> StepResult:
        self.results[begun.path] = begun
        self.watches.step_started(begun)
        try:
            return await self._tried(step, begun, scope, place)
        except asyncio.CancelledError:
            ended = replace(begun, status=Status.CANCELLED, end_ns=self.clock.now_ns())
            if not (self.leaves_open or self.is_let_go()):
                self.results[begun.path] = ended
                self.journal.keep(ended)
                self.watches.step_ended(ended)
            raise

    # One step's tries

    async def _tried(self, step: Step, begun: StepResult, scope: Scope, place: Place) -> StepResult:
        policy = policy_of(step, place)
        now = begun
        if (lost := self.journal.begun(begun.path)) is not None:  # the try that was lost is gone on
            now = replace(now, attempts=max(lost.attempts - 1, 0), spent=lost.spent)
        while True:
            now = replace(now, attempts=now.attempts + 1)
            try:
                return await self._attempt(step, now, scope, place)
            except ServiceError as error:
                now = replace(
                    now, spent=now.spent + spent_in_vain(error), failure=Failure.of(error)
                )
                if now.attempts >= policy.attempts_max or not is_worth_another_try(error):
                    return replace(now, status=Status.FAILED)
            await asyncio.sleep(policy.pause_s(now.attempts))
            self.journal.forget_failures(f"{now.path}/")

    async def _attempt(self, step: Step, now: StepResult, scope: Scope, place: Place) -> StepResult:
        arguments = _given(step, scope)
        left = self._cost_left(step)
        order = Order(now.path, place.workflow, step, arguments, step.wait_s, left, now.attempts)
        order = replace(order, purses=place.purses)
        try:
            async with asyncio.timeout(step.wait_s) as timer:
                acted = await self._act(order, now, scope, place)
        except TimeoutError:
            if not timer.expired():
                raise
            raise too_long(now.path, step.wait_s) from None
        size = size_of(acted.output, most=WORKFLOW_OUTPUT_BYTES_MAX)
        if size > WORKFLOW_OUTPUT_BYTES_MAX:
            raise limit_exceeded(f"output of {now.path}", size, WORKFLOW_OUTPUT_BYTES_MAX, "bytes")
        shared = {**acted.shared, **({step.save_as: acted.output} if step.save_as else {})}
        return replace(
            now,
            status=Status.COMPLETED,
            output=acted.output,
            failure=None,
            spent=now.spent + acted.spent,
            shared=shared,
            input=_kept_input(arguments),
        )

    async def _act(self, order: Order, now: StepResult, scope: Scope, place: Place) -> Acted:
        if isinstance(order.step.action, WorkflowAction):
            assert self.nested is not None
            return await self.nested(order.step.action, order, scope, place)
        repeat = self._actions.repeat(order)
        lost = self.journal.begun(order.path)
        if lost is not None:
            self._check_unknown(order, repeat, lost)
        if repeat is Repeat.BY_RECEIPT or isinstance(order.step.action, AgentAction):
            order = self._with_receipt(order, lost)
        if repeat is not Repeat.HARMLESS:
            since_ns = lost.start_ns if lost is not None else now.start_ns
            await self.journal.begin(replace(now, receipt=order.receipt, start_ns=since_ns))
        return await self._actions.act(order)

    def _with_receipt(self, order: Order, lost: StepResult | None) -> Order:
        if lost is not None and lost.receipt:
            return replace(order, receipt=lost.receipt, begun_ns=lost.start_ns)
        return replace(order, receipt=self._actions.new_receipt(order))

    def _check_unknown(self, order: Order, repeat: Repeat, lost: StepResult) -> None:
        """Refuse to do something a second time that may have been done by a process now lost."""
        if repeat in {Repeat.HARMLESS, Repeat.ALWAYS} or order.step.may_repeat:
            return
        if repeat is Repeat.BY_RECEIPT and lost.receipt:
            return  # whoever does it asks for that
        if repeat is Repeat.BY_ID and is_remembered(lost.start_ns, self.clock.now_ns()):
            return
        raise step_unknown(order.path)

    def _cost_left(self, step: Step) -> float:
        if not self._max_cost_usd or not isinstance(step.action, AgentAction):
            return 0.0
        left = self._max_cost_usd - self._spent.cost_usd
        if left <= 0:
            raise ServiceError(
                Reason.BUDGET_EXHAUSTED,
                f"The workflow has spent the {self._max_cost_usd:g} US dollars that it may.",
                budget="workflow",
                limit=f"{self._max_cost_usd:g}",
                spent=f"{self._spent.cost_usd:.9g}",
            )
        return left

    # What no data can tell

    async def classify(self, condition: Classified, text: str, path: str) -> bool:
        """Whether an agent takes a text for what is expected; asked once in a run."""
        return await self._once(path, lambda: self._actions.classify(condition, text, path))

    async def function_says(self, function: str, scope: Scope, path: str) -> bool:
        """What a function of the caller says; asked once in a run."""
        return await self._once(path, lambda: self._actions.ask(function, scope, path))

    async def _once(self, path: str, ask: Callable[[], Awaitable[Acted]]) -> bool:
        known = self.journal.ended(path)
        if known is None:
            now = self.clock.now_ns()
            acted = await ask()
            known = StepResult(
                path=path,
                name=path.rpartition("/")[2],
                kind="condition",
                status=Status.COMPLETED,
                output=bool(acted.output),
                attempts=1,
                start_ns=now,
                end_ns=self.clock.now_ns(),
                spent=acted.spent,
            )
            self.journal.keep(known)
        self._spent += known.spent
        return bool(known.output)

    # Undoing

    async def roll_back(self, mark: int, place: Place) -> None:
        """Undo what was done since, the last first; one that fails does not stop the others."""
        undone, self.undo = self.undo[mark:], self.undo[:mark]
        paths = [entry.place.path + entry.step.name for entry in reversed(undone)]
        if not paths:
            return
        await self.watches.rolling_back(place.workflow, place.path, paths)
        for entry in reversed(undone):
            await self._undone(entry)

    async def _undone(self, entry: Undo) -> None:
        given = entry.step.compensation
        assert given is not None
        step = replace(given, name=entry.step.name + UNDO, compensation=None)
        path = entry.place.path + step.name
        result = self.journal.ended(path) or await self._do(step, path, entry.scope, entry.place)
        self.results[path] = result
        self._spent += result.spent


def policy_of(step: Step, place: Place) -> Retry:
    """How often a step is tried."""
    if step.retry is not None:
        return step.retry
    if _strategy(step, place) is OnError.RETRY:
        return place.retry or Retry()
    return ONCE


def _strategy(step: Step, place: Place) -> OnError:
    return place.on_error if step.on_error is OnError.INHERIT else step.on_error


def _goes_on(step: Step, place: Place) -> bool:
    return _strategy(step, place) is OnError.CONTINUE


def _skipped(begun: StepResult) -> StepResult:
    return replace(begun, status=Status.SKIPPED)


def _given(step: Step, scope: Scope) -> Any:
    """What a step is given, after interpolation."""
    given = interpolate(_arguments(step), scope)
    if isinstance(step.action, AgentAction) and not step.action.input and scope.last is not None:
        given["input"] = as_text(scope.last.output)  # as it is: nothing in it is a reference
    return given


def _arguments(step: Step) -> Any:
    match step.action:
        case AgentAction(input=asked, parameters=parameters):
            return {"input": asked, "parameters": parameters}
        case WorkflowAction(inputs=given) | TemplateAction(parameters=given):
            return given
        case ToolAction(arguments=given) | FunctionAction(arguments=given):
            return given
        case CallAction(arguments=given):
            return given
    raise ServiceError(Reason.WORKFLOW_INVALID, f"The step {step.name} says not what to do.")


def _kept_input(arguments: Any) -> Any:
    return arguments if size_of(arguments, most=_INPUT_KEPT_BYTES) <= _INPUT_KEPT_BYTES else None
