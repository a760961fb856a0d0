"""What is wrong with a workflow, before it runs: each problem names the step and the field.

`structure` holds what can be seen in a workflow itself; here is what it names elsewhere: tools,
agents, functions, methods, templates, and workflows, with those within those.
"""

from __future__ import annotations

from collections.abc import Collection as Collected
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.errors import Reason, ServiceError
from services.common.limits import WORKFLOW_DEPTH_MAX, WORKFLOW_PROBLEMS_MAX
from services.runtime.workflows.interpolate import has_references
from services.runtime.workflows.known import Known, near
from services.runtime.workflows.model import (
    AgentAction,
    AllOf,
    AnyOf,
    Asked,
    Branch,
    CallAction,
    Classified,
    Condition,
    Conditional,
    FunctionAction,
    Loop,
    Not,
    Parallel,
    Step,
    TemplateAction,
    ToolAction,
    While,
    Workflow,
    WorkflowAction,
    step_lists,
)
from services.runtime.workflows.structure import Problem, structure_problems


@dataclass(frozen=True, slots=True)
class Named:
    """A step or condition that names something elsewhere."""

    path: str
    field: str
    what: object
    """An action, or a condition that asks."""


async def problems_of(
    workflow: Workflow, known: Known, *, functions: Collected[str] | None = None
) -> list[Problem]:
    """What is wrong with a workflow, at most a hundred problems.

    Args:
        workflow: It.
        known: What steps can name.
        functions: Of the caller; None: nobody knows which.
    """
    found = structure_problems(workflow)
    check = _Names(known, functions)
    for named in named_in(workflow):
        if len(found) >= WORKFLOW_PROBLEMS_MAX:
            break
        found += await check.problems(named)
    if not found:
        found += await _cycles(workflow, known)
    return found[:WORKFLOW_PROBLEMS_MAX]


def invalid(workflow: Workflow, problems: Sequence[Problem]) -> ServiceError | None:
    """WORKFLOW_INVALID with the first problem; None where there are but warnings."""
    wrong = [problem for problem in problems if not problem.is_warning]
    if not wrong:
        return None
    first = wrong[0]
    where = f"step {first.step}, {first.field}" if first.step else first.field
    more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return ServiceError(
        Reason.WORKFLOW_INVALID,
        f"The workflow {workflow.name[:64]!r} cannot run: {where}: {first.message}{more}",
        step=first.step,
        field=first.field,
        problems=len(wrong),
    )


class _Names:
    """Checks names, each list of them fetched once."""

    def __init__(self, known: Known, functions: Collected[str] | None) -> None:
        self._known = known
        self._functions = functions
        self._tools: Sequence[str] | None = None
        self._templates: Sequence[str] | None = None
        self._has_templates = False

    async def problems(self, named: Named) -> list[Problem]:
        """What is wrong with one name."""
        match named.what:
            case ToolAction(tool) as action if tool:
                return await self._tool(named, action)
            case AgentAction(agent_name=name) | Classified(agent_name=name):
                return await self._agent(named, name)
            case TemplateAction(template_id) if template_id:
                return await self._template(named, template_id)
            case WorkflowAction(name=name) if name:
                return await self._workflow(named, name)
        return self._function_or_call(named)

    def _function_or_call(self, named: Named) -> list[Problem]:
        match named.what:
            case FunctionAction(name) | Asked(name) if name and self._functions is not None:
                return _unless_in(named, "function", name, self._functions)
            case CallAction() as action if action.method:
                return self._call(named, action)
        return []

    async def _tool(self, named: Named, action: ToolAction) -> list[Problem]:
        """One that is there is asked whether it takes the arguments that stand there already."""
        tools = await self._all_tools()
        if action.tool not in tools:
            return _unless_in(named, "tool", action.tool, tools)
        if has_references(action.arguments):
            return []
        wrong = await self._known.tool_problem(action.tool, action.arguments)
        if wrong is None:
            return []
        return [Problem(named.path, f"tool.arguments.{wrong[0]}", wrong[1])]

    async def _all_tools(self) -> Sequence[str]:
        if self._tools is None:
            self._tools = await self._known.tools()
        return self._tools

    async def _template(self, named: Named, template_id: str) -> list[Problem]:
        if not self._has_templates:
            self._templates = await self._known.templates()
            self._has_templates = True
        if self._templates is None:
            return []
        return _unless_in(named, "template", template_id, self._templates)

    async def _agent(self, named: Named, name: str) -> list[Problem]:
        agent = getattr(named.what, "agent", None)
        if agent and agent.HasField("spec"):
            wrong = self._known.agent_problem(agent)
            return [Problem(named.path, f"{named.field}.{wrong[0]}", wrong[1])] if wrong else []
        if not agent or not agent.name:
            return []
        if await self._known.has_agent(name):
            return []
        return [Problem(named.path, named.field, f"There is no agent {name[:64]!r}.")]

    async def _workflow(self, named: Named, name: str) -> list[Problem]:
        try:
            await self._known.workflow(name)
        except ServiceError as error:
            if error.reason != Reason.WORKFLOW_NOT_FOUND:
                raise
            return [Problem(named.path, named.field, error.message)]
        return []

    def _call(self, named: Named, action: CallAction) -> list[Problem]:
        methods = self._known.methods()
        if action.method not in methods:
            return _unless_in(named, "method", action.method, methods)
        if has_references(action.arguments):
            return []
        wrong = self._known.request_problem(action.method, action.arguments)
        if wrong is None:
            return []
        return [Problem(named.path, f"call.arguments.{wrong[0]}", wrong[1])]


def _unless_in(named: Named, kind: str, name: str, known: Collected[str]) -> list[Problem]:
    if name in known:
        return []
    text = f"There is no {kind} {name[:100]!r}.{near(name, known)}"
    return [Problem(named.path, named.field, text)]


# What a workflow names


def named_in(workflow: Workflow, path: str = "", *, depth: int = 0) -> Iterator[Named]:
    """Every step and condition of a workflow and of those described within it."""
    for branch, steps in step_lists(workflow):
        under = f"{path}{branch}/" if branch else path
        for step in steps:
            yield from _named_in_step(step, under + step.name, depth)
    for at, condition in conditions_of(workflow):
        yield from _named_in_condition(condition, path.removesuffix("/"), at)


def _named_in_step(step: Step, path: str, depth: int) -> Iterator[Named]:
    fields = {
        "tool": "tool.tool",
        "agent": "agent.agent",
        "workflow": "workflow.name",
        "function": "function.function",
        "call": "call.method",
        "template": "template.template_id",
    }
    if step.kind:
        yield Named(path, fields[step.kind], step.action)
    yield from _named_in_condition(step.condition, path, "condition")
    if step.compensation is not None:
        yield from _named_in_step(step.compensation, f"{path}~undo", depth)
    action = step.action
    if isinstance(action, WorkflowAction) and action.definition and depth < WORKFLOW_DEPTH_MAX:
        yield from named_in(action.definition, f"{path}/", depth=depth + 1)


def conditions_of(workflow: Workflow) -> list[tuple[str, Condition | None]]:
    """Conditions of a workflow's kind, each with its field."""
    match workflow.kind:
        case Parallel(branches) | Conditional(branches=branches):
            return [_branch_condition(branch) for branch in branches]
        case Loop(iterator=While(condition), break_conditions=breaks):
            return [("while", condition), *(("break_conditions", one) for one in breaks)]
        case Loop(break_conditions=breaks):
            return [("break_conditions", one) for one in breaks]
    return []


def _branch_condition(branch: Branch) -> tuple[str, Condition | None]:
    return (f"branches.{branch.name}.condition", branch.condition)


def _named_in_condition(condition: Condition | None, path: str, field: str) -> Iterator[Named]:
    match condition:
        case Asked() | Classified():
            yield Named(path, field, condition)
        case AllOf(several) | AnyOf(several):
            for one in several:
                yield from _named_in_condition(one, path, field)
        case Not(inner):
            yield from _named_in_condition(inner, path, field)


async def _cycles(workflow: Workflow, known: Known) -> list[Problem]:
    """Registered workflows that run themselves, and chains that are too deep."""
    waiting: list[tuple[Workflow, str, tuple[str, ...]]] = [(workflow, "", (workflow.name,))]
    seen: set[tuple[str, ...]] = set()
    while waiting:
        current, path, chain = waiting.pop()
        for named in named_in(current):
            action = named.what
            if not isinstance(action, WorkflowAction) or not action.name:
                continue
            at = path or named.path
            longer = (*chain, action.name)
            if action.name in chain:
                text = f"The workflow runs itself: {' → '.join(longer)}."
                return [Problem(at, "workflow.name", text)]
            if len(longer) > WORKFLOW_DEPTH_MAX:
                text = f"Workflows stand within each other more than {WORKFLOW_DEPTH_MAX} deep."
                return [Problem(at, "workflow.name", text)]
            if longer not in seen and len(seen) < WORKFLOW_PROBLEMS_MAX:
                seen.add(longer)
                waiting.append((await known.workflow(action.name), at, longer))
    return []
