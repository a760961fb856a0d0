"""What can be seen to be wrong in a workflow itself: names, bounds, references, conditions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.common import limits
from services.runtime.workflows.expressions import ExpressionError, parse_expression
from services.runtime.workflows.interpolate import references_of
from services.runtime.workflows.known import near
from services.runtime.workflows.model import (
    AgentAction,
    AllOf,
    AnyOf,
    Asked,
    Branch,
    CallAction,
    Classified,
    Collection,
    CollectionFrom,
    Condition,
    Conditional,
    Ended,
    Expression,
    FunctionAction,
    Keep,
    Loop,
    Not,
    Numbers,
    OutputContains,
    OutputEquals,
    Parallel,
    Retry,
    Sequential,
    SharedEquals,
    SharedExists,
    Step,
    TemplateAction,
    ToolAction,
    Unsaid,
    While,
    Workflow,
    WorkflowAction,
)
from services.runtime.workflows.references import STEP_FIELDS, Reference, ReferenceTextError

_MULTIPLIER_MAX = 100
_FORBIDDEN = frozenset("/#~.[]{}\"'`\\|")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong."""

    step: str
    """Path of the step; empty: the workflow itself."""
    field: str
    message: str
    is_warning: bool = False
    """Whether it can run all the same."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a step may refer to."""

    earlier: frozenset[str] = frozenset()
    """Names of steps that have ended by then."""
    later: frozenset[str] = frozenset()
    """Of steps beside it that have not."""
    elsewhere: frozenset[str] = frozenset()
    """Of steps of other branches."""
    in_loop: bool = False
    inputs: frozenset[str] | None = None
    """Inputs that are declared; None: any may be given."""

    def after(self, *names: str) -> _Seen:
        added = frozenset(names)
        return replace(self, earlier=self.earlier | added, later=self.later - added)


def structure_problems(workflow: Workflow) -> list[Problem]:
    """What is wrong with it in itself, at most a hundred problems."""
    check = _Check()
    check.workflow(workflow, "", _Seen(), 0)
    return check.found


def name_rule(name: str) -> str | None:
    """What is wrong with the name of a workflow, step or branch."""
    most = limits.WORKFLOW_NAME_LENGTH_MAX
    if not name.strip():
        return "It must have a name."
    if len(name) > most:
        return f"Its name must have at most {most} characters."
    if not name.isprintable() or _FORBIDDEN & set(name) or name != name.strip():
        shown = " ".join(sorted(_FORBIDDEN))
        return f"The name {name!r} must be printable, without {shown}, or blanks at its ends."
    return None


class _Check:
    """Goes through a workflow and gathers what is wrong."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self._steps = 0

    def _tell(self, step: str, field: str, message: str | None, *, warning: bool = False) -> None:
        if message is not None and len(self.found) < limits.WORKFLOW_PROBLEMS_MAX:
            self.found.append(Problem(step, field, message, warning))

    def workflow(self, workflow: Workflow, path: str, seen: _Seen, depth: int) -> None:
        """One, with those within."""
        at = path.removesuffix("/")
        if depth >= limits.WORKFLOW_DEPTH_MAX:
            most = limits.WORKFLOW_DEPTH_MAX
            text = f"Workflows stand within each other more than {most} deep."
            self._tell(at, "workflow.definition", text)
            return
        self._tell(at, "name", name_rule(workflow.name))
        self._bounds(workflow, at)
        if depth == 0:
            declared = frozenset(workflow.input_schemas)
            seen = replace(seen, inputs=declared or None)
        self._kind(workflow, path, seen, depth)

    def _bounds(self, workflow: Workflow, at: str) -> None:
        self._time(at, "timeout", workflow.timeout_s, limits.WORKFLOW_SECONDS_MAX)
        self._retry(at, "retry", workflow.retry)
        if not 0 <= workflow.max_cost_usd < math.inf:
            self._tell(at, "max_cost_usd", "It must be 0 or more US dollars.")
        for name, schema in workflow.input_schemas.items():
            self._tell(at, f"input_schemas.{name}", _schema_problem(schema))

    def _time(self, at: str, field: str, seconds: float, most: float) -> None:
        if not 0 < seconds <= most:
            self._tell(at, field, f"It must be above 0 and at most {most:g} seconds.")

    def _retry(self, at: str, field: str, retry: Retry | None) -> None:
        if retry is None:
            return
        most = limits.WORKFLOW_ATTEMPTS_MAX
        if not 1 <= retry.attempts_max <= most:
            self._tell(at, f"{field}.max_attempts", f"It must be 1 to {most}.")
        for name, seconds in (("delay", retry.delay_s), ("delay_max", retry.delay_s_max)):
            if not 0 <= seconds <= limits.WORKFLOW_SECONDS:
                rule = f"It must be 0 to {limits.WORKFLOW_SECONDS:g} seconds."
                self._tell(at, f"{field}.{name}", rule)
        if not 1 <= retry.multiplier <= _MULTIPLIER_MAX:
            self._tell(at, f"{field}.multiplier", f"It must be 1 to {_MULTIPLIER_MAX}.")

    # Kinds

    def _kind(self, workflow: Workflow, path: str, seen: _Seen, depth: int) -> None:
        at = path.removesuffix("/")
        match workflow.kind:
            case None:
                self._tell(at, "kind", "It must be sequential, parallel, conditional or a loop.")
            case Sequential(steps):
                self._filled(at, "sequential.steps", steps)
                self._row(steps, path, seen, depth)
            case Parallel(branches, most):
                self._filled(at, "parallel.branches", branches)
                if not 1 <= most <= limits.WORKFLOW_CONCURRENCY_MAX:
                    rule = f"It must be 1 to {limits.WORKFLOW_CONCURRENCY_MAX}."
                    self._tell(at, "parallel.max_concurrency", rule)
                self._branches("parallel", branches, path, seen, depth)
            case Conditional():
                self._conditional(workflow.kind, path, seen, depth)
            case Loop():
                self._loop(workflow.kind, path, seen, depth)

    def _filled(self, at: str, field: str, entries: Sequence[object]) -> None:
        if not entries:
            self._tell(at, field, "There must be at least one.")

    def _branches(
        self, kind: str, branches: Sequence[Branch], path: str, seen: _Seen, depth: int
    ) -> None:
        at = path.removesuffix("/")
        if len(branches) > limits.WORKFLOW_BRANCHES_MAX:
            rule = f"There may be at most {limits.WORKFLOW_BRANCHES_MAX} branches."
            self._tell(at, f"{kind}.branches", rule)
            return
        self._names(at, f"{kind}.branches", [branch.name for branch in branches])
        names = {branch.name: _names_of(branch.steps) for branch in branches}
        for number, branch in enumerate(branches):
            under, field = f"{path}{branch.name}", f"{kind}.branches[{number}]"
            self._filled(under, f"{field}.steps", branch.steps)
            others = frozenset().union(*(names[one.name] for one in branches if one is not branch))
            within = replace(seen, elsewhere=seen.elsewhere | (others - names[branch.name]))
            if kind == "conditional":
                if branch.condition is None:
                    self._tell(under, f"{field}.condition", "It must say when it is taken.")
                self._condition(branch.condition, under, f"{field}.condition", within)
            elif branch.condition is not None:
                text = "Branches of a parallel workflow are taken always; give steps a condition."
                self._tell(under, f"{field}.condition", text)
            self._row(branch.steps, f"{under}/", within, depth)

    def _conditional(self, kind: Conditional, path: str, seen: _Seen, depth: int) -> None:
        at = path.removesuffix("/")
        if not kind.branches and not kind.default_steps:
            self._tell(at, "conditional.branches", "There must be at least one.")
        self._branches("conditional", kind.branches, path, seen, depth)
        others = frozenset().union(*(_names_of(branch.steps) for branch in kind.branches))
        mine = _names_of(kind.default_steps)
        within = replace(seen, elsewhere=seen.elsewhere | (others - mine))
        if any(branch.name == "default" for branch in kind.branches) and kind.default_steps:
            text = "Where there are default steps, no branch may be called default."
            self._tell(at, "conditional.branches", text)
        self._row(kind.default_steps, f"{path}default/", within, depth)

    def _loop(self, kind: Loop, path: str, seen: _Seen, depth: int) -> None:
        at = path.removesuffix("/")
        self._filled(at, "loop.body", kind.body)
        most = limits.WORKFLOW_ITERATIONS_MAX
        if not 1 <= kind.max_iterations <= most:
            self._tell(at, "loop.max_iterations", f"It must be 1 to {most}.")
        if kind.keep in {Keep.FIRST_N, Keep.LAST_N} and not 1 <= kind.keep_count <= most:
            self._tell(at, "loop.aggregation_count", f"It must be 1 to {most}.")
        within = replace(seen, in_loop=True)
        after = within.after(*_names_of(kind.body))
        self._iterator(kind, at, seen, after)
        for number, condition in enumerate(kind.break_conditions):
            self._condition(condition, at, f"loop.break_conditions[{number}]", after)
        self._row(kind.body, path, within, depth)

    def _iterator(self, kind: Loop, at: str, seen: _Seen, after: _Seen) -> None:
        match kind.iterator:
            case None:
                text = "It must be a range, a collection, collection_from or while."
                self._tell(at, "loop.iterator", text)
            case Numbers(start, end, step):
                if step * (end - start) < 0:
                    text = f"From {start} in steps of {step} nothing reaches {end}."
                    self._tell(at, "loop.range", text, warning=True)
            case Collection(values):
                self._references(list(values), at, "loop.collection", seen)
            case CollectionFrom(text):
                if "{{" not in text:
                    rule = "It must be a reference to a list, such as {{inputs.files}}."
                    self._tell(at, "loop.collection_from", rule)
                self._references(text, at, "loop.collection_from", seen)
            case While(condition):
                self._condition(condition, at, "loop.while", after)

    # Steps

    def _names(self, at: str, field: str, names: Sequence[str]) -> None:
        known: set[str] = set()
        for number, name in enumerate(names):
            place = f"{field}[{number}].name"
            wrong = name_rule(name)
            if wrong is None and name in known:
                wrong = f"The name {name!r} is there twice."
            known.add(name)
            self._tell(at, place, wrong)

    def _row(self, steps: Sequence[Step], path: str, seen: _Seen, depth: int) -> None:
        seen = replace(seen, later=seen.later | _names_of(steps))
        known: set[str] = set()
        for step in steps:
            at = f"{path}{step.name}"
            wrong = name_rule(step.name)
            if wrong is None and step.name in known:
                wrong = f"The name {step.name!r} is there twice; steps beside each other differ."
            known.add(step.name)
            self._tell(at, "name", wrong)
            # What is called the same further out is seen until this one has ended.
            self._step(step, at, seen, depth)
            seen = seen.after(step.name)

    def _step(self, step: Step, at: str, seen: _Seen, depth: int) -> None:
        self._steps += 1
        if self._steps == limits.WORKFLOW_STEPS_MAX + 1:
            text = f"A workflow may have at most {limits.WORKFLOW_STEPS_MAX} steps."
            self._tell(at, "steps", text)
        if self._steps > limits.WORKFLOW_STEPS_MAX:
            return
        if step.timeout_s is not None:
            self._time(at, "timeout", step.timeout_s, limits.WORKFLOW_SECONDS_MAX)
        self._retry(at, "retry", step.retry)
        self._condition(step.condition, at, "condition", seen)
        if step.save_as:
            self._tell(at, "save_as", name_rule(step.save_as))
        self._action(step, at, seen, depth)
        if step.compensation is not None:
            if step.compensation.compensation is not None:
                text = "What undoes a step cannot be undone itself."
                self._tell(at, "compensation.compensation", text)
            undo = replace(step.compensation, name=step.name, compensation=None)
            self._step(undo, f"{at}~undo", seen.after(step.name), depth)

    def _action(self, step: Step, at: str, seen: _Seen, depth: int) -> None:
        match step.action:
            case None:
                kinds = "tool, agent, workflow, function, call or template"
                self._tell(at, "action", f"It must say what to do: {kinds}.")
            case ToolAction(name, given):
                self._named(at, "tool.tool", name)
                self._references(given, at, "tool.arguments", seen)
            case AgentAction():
                self._agent(step.action, at, seen)
            case FunctionAction(name, given):
                self._named(at, "function.function", name)
                self._references(given, at, "function.arguments", seen)
            case CallAction(name, given):
                self._named(at, "call.method", name)
                self._references(given, at, "call.arguments", seen)
            case TemplateAction(name, given):
                self._named(at, "template.template_id", name)
                self._references(given, at, "template.parameters", seen)
            case WorkflowAction(name, definition, given):
                if not name and definition is None:
                    self._tell(at, "workflow.name", "It must be set, or a definition given.")
                self._references(given, at, "workflow.inputs", seen)
                if definition is not None:
                    # What the one within is given can be read there too.
                    inputs = None if seen.inputs is None else seen.inputs | set(given)
                    self.workflow(definition, f"{at}/", replace(seen, inputs=inputs), depth + 1)

    def _agent(self, action: AgentAction, at: str, seen: _Seen) -> None:
        self._named(at, "agent.agent", action.agent_name or _spec_says(action.agent))
        self._references(action.input, at, "agent.input", seen)
        self._references(action.parameters, at, "agent.parameters", seen)

    def _named(self, at: str, field: str, name: str) -> None:
        if not name:
            self._tell(at, field, "It must be set.")

    # References and conditions

    def _references(self, value: Any, at: str, field: str, seen: _Seen) -> None:
        for place, text in _texts(value, field):
            try:
                for reference in references_of(text):
                    self._tell(at, place, _reference_problem(reference, seen))
            except ReferenceTextError as error:
                text_of = f"{error}. Write \\{{{{ for two braces that stand for themselves."
                self._tell(at, place, text_of)

    def _condition(
        self, condition: Condition | None, at: str, field: str, seen: _Seen, depth: int = 0
    ) -> None:
        if depth > limits.WORKFLOW_CONDITION_DEPTH_MAX:
            most = limits.WORKFLOW_CONDITION_DEPTH_MAX
            self._tell(at, field, f"Conditions stand within each other more than {most} deep.")
            return
        match condition:
            case Unsaid():
                self._tell(at, field, "The condition says nothing.")
            case AllOf(several) | AnyOf(several):
                self._filled(at, field, several)
                for one in several:
                    self._condition(one, at, field, seen, depth + 1)
            case Not(inner):
                self._condition(inner, at, field, seen, depth + 1)
            case Expression(text):
                self._expression(text, at, field, seen)
            case Ended(step) | OutputEquals(step) | OutputContains(step):
                reference = Reference(f"steps.{step}", "steps", (step,))
                self._tell(at, field, _reference_problem(reference, seen))
            case SharedEquals(key) | SharedExists(key) | Asked(key):
                self._named(at, field, key)
            case Classified():
                self._classified(condition, at, field, seen)

    def _expression(self, text: str, at: str, field: str, seen: _Seen) -> None:
        try:
            parsed = parse_expression(text)
        except ExpressionError as error:
            self._tell(at, field, f"The expression {text[:200]!r} {error}.")
            return
        for reference in parsed.references:
            self._tell(at, field, _reference_problem(reference, seen))

    def _classified(self, condition: Classified, at: str, field: str, seen: _Seen) -> None:
        self._named(at, f"{field}.agent", condition.agent_name or _spec_says(condition.agent))
        if condition.expected not in condition.categories:
            text = "What is expected must be one of the categories."
            self._tell(at, f"{field}.expected", text)
        self._references(condition.input, at, f"{field}.input", seen)


def _names_of(steps: Sequence[Step]) -> frozenset[str]:
    return frozenset(step.name for step in steps)


def _spec_says(agent: Any) -> str:
    """Something where an agent is described; it needs no name then."""
    return "spec" if agent is not None and agent.WhichOneof("agent") == "spec" else ""


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Every text in a value with the field that it stands in."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(entry, f"{field}.{key}")
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            yield from _texts(entry, f"{field}[{number}]")


def _reference_problem(reference: Reference, seen: _Seen) -> str | None:
    told = f"{{{{{reference.text}}}}}"
    if reference.root in {"loop_value", "loop_index", "iteration"} and not seen.in_loop:
        return f"{told} stands outside of a loop."
    if reference.root == "inputs" and reference.parts and seen.inputs is not None:
        name = str(reference.parts[0])
        if name not in seen.inputs:
            return f"{told}: no input {name!r} is declared.{near(name, seen.inputs)}"
    if reference.step is None:
        return None
    if reference.step in seen.earlier:
        return _field_problem(reference)
    return _step_problem(told, reference.step, seen)


def _step_problem(told: str, step: str, seen: _Seen) -> str:
    if step in seen.later:
        return f"{told} refers to {step!r}, which has not ended by then."
    if step in seen.elsewhere:
        return f"{told} refers to {step!r}, a step of another branch."
    return f"{told}: there is no step {step!r} before it.{near(step, seen.earlier)}"


def _field_problem(reference: Reference) -> str | None:
    read = reference.parts[1:2]
    if not read or read[0] in STEP_FIELDS:
        return None
    told = ", ".join(STEP_FIELDS)
    return f"{{{{{reference.text}}}}}: of a step there is {told}."


def _schema_problem(schema: str) -> str | None:
    if not schema:
        return None
    try:
        read = json.loads(schema)
    except ValueError:
        return "It is not JSON."
    return None if isinstance(read, dict | bool) else "It must be a JSON Schema: an object."
