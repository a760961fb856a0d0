"""What a workflow is, apart from the wire and from how it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.common.limits import (
    WORKFLOW_ATTEMPTS,
    WORKFLOW_CONCURRENCY,
    WORKFLOW_ITERATIONS,
    WORKFLOW_RETRY_PAUSE_SECONDS,
    WORKFLOW_RETRY_PAUSE_SECONDS_MAX,
    WORKFLOW_SECONDS,
    WORKFLOW_STEP_SECONDS,
    WORKFLOW_STEP_SECONDS_LONG,
)


class OnError(StrEnum):
    """What becomes of a workflow of which a step failed."""

    INHERIT = "inherit"
    FAIL_FAST = "fail_fast"
    CONTINUE = "continue"
    RETRY = "retry"


class Keep(StrEnum):
    """What is kept of a loop's iterations."""

    ALL = "collect_all"
    LAST = "last_only"
    FIRST_N = "first_n"
    LAST_N = "last_n"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and when a step is tried again."""

    attempts_max: int = WORKFLOW_ATTEMPTS
    """Tries in all."""
    delay_s: float = WORKFLOW_RETRY_PAUSE_SECONDS
    multiplier: float = 2.0
    delay_s_max: float = WORKFLOW_RETRY_PAUSE_SECONDS_MAX

    def pause_s(self, attempts: int) -> float:
        """Seconds to wait after so many tries."""
        longest = self.delay_s_max
        # Beyond so many doublings every pause is the longest; no power overflows.
        grown = self.delay_s * self.multiplier ** min(attempts - 1, 64)
        return min(grown, longest)


ONCE = Retry(attempts_max=1)


@dataclass(frozen=True, slots=True)
class ToolAction:
    """Executes a tool."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AgentAction:
    """Asks an agent."""

    agent: Any
    """The contract's AgentRef; read by what asks it, by nobody else here."""
    agent_name: str
    input: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowAction:
    """Runs a workflow within."""

    name: str
    """Of a registered one; empty: `definition`."""
    definition: Workflow | None
    inputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FunctionAction:
    """Calls a function of the caller."""

    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallAction:
    """Calls a method of the contract."""

    method: str
    """Without the package: `StateService/SetState`."""
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TemplateAction:
    """Executes a template."""

    template_id: str
    parameters: Mapping[str, Any]


Action = (
    ToolAction | AgentAction | WorkflowAction | FunctionAction | CallAction | TemplateAction | None
)
"""What a step does; None: it says nothing, which validation refuses."""

KINDS: Mapping[type, str] = {
    ToolAction: "tool",
    AgentAction: "agent",
    WorkflowAction: "workflow",
    FunctionAction: "function",
    CallAction: "call",
    TemplateAction: "template",
}


@dataclass(frozen=True, slots=True)
class Constant:
    """Always or never."""

    value: bool


@dataclass(frozen=True, slots=True)
class SharedEquals:
    """Shared data has a value."""

    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class SharedExists:
    """There is shared data of this key."""

    key: str


@dataclass(frozen=True, slots=True)
class OutputEquals:
    """A step's output is this."""

    step: str
    value: Any


@dataclass(frozen=True, slots=True)
class OutputContains:
    """A step's output has a text in it."""

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step ended well, or did not."""

    step: str
    well: bool


@dataclass(frozen=True, slots=True)
class Classified:
    """What an agent takes a text for."""

    agent: Any
    """As in `AgentAction`."""
    agent_name: str
    input: str
    categories: Sequence[str]
    expected: str


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each of them."""

    conditions: Sequence[Condition | None]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of them."""

    conditions: Sequence[Condition | None]


@dataclass(frozen=True, slots=True)
class Not:
    """Not this."""

    condition: Condition | None


@dataclass(frozen=True, slots=True)
class Expression:
    """What a text says, see `expressions`."""

    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a function of the caller says."""

    function: str


@dataclass(frozen=True, slots=True)
class Unsaid:
    """A condition that says nothing, which validation refuses."""


Condition = (
    Constant
    | SharedEquals
    | SharedExists
    | OutputEquals
    | OutputContains
    | Ended
    | Classified
    | AllOf
    | AnyOf
    | Not
    | Expression
    | Asked
    | Unsaid
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step."""

    name: str
    action: Action
    timeout_s: float | None = None
    """For one try; None: `wait_s` says."""
    retry: Retry | None = None
    on_error: OnError = OnError.INHERIT
    condition: Condition | None = None
    compensation: Step | None = None
    save_as: str = ""

    @property
    def kind(self) -> str:
        """`tool`, `agent`, `workflow`, `function`, `call` or `template`."""
        return KINDS.get(type(self.action), "")

    @property
    def wait_s(self) -> float:
        """How long one try may take."""
        if self.timeout_s is not None:
            return self.timeout_s
        is_long = isinstance(self.action, AgentAction | WorkflowAction | TemplateAction)
        return WORKFLOW_STEP_SECONDS_LONG if is_long else WORKFLOW_STEP_SECONDS

    @property
    def may_repeat(self) -> bool:
        """Whether its author has said that trying it again is right."""
        return self.retry is not None or self.on_error is OnError.RETRY


@dataclass(frozen=True, slots=True)
class Branch:
    """A part of a workflow."""

    name: str
    steps: Sequence[Step]
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Sequential:
    """Steps in a row."""

    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Parallel:
    """Branches side by side."""

    branches: Sequence[Branch]
    max_concurrency: int = WORKFLOW_CONCURRENCY


@dataclass(frozen=True, slots=True)
class Conditional:
    """The first branch whose condition is met, or all such."""

    branches: Sequence[Branch]
    default_steps: Sequence[Step] = ()
    execute_all_matching: bool = False


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers in a row; the end is not reached."""

    start: int
    end: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class Collection:
    """Values; texts in them are interpolated."""

    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class CollectionFrom:
    """A text that is interpolated to a list."""

    text: str


@dataclass(frozen=True, slots=True)
class While:
    """As long as this is met."""

    condition: Condition


Iterator = Numbers | Collection | CollectionFrom | While | None


@dataclass(frozen=True, slots=True)
class Loop:
    """Steps again and again."""

    iterator: Iterator
    body: Sequence[Step]
    max_iterations: int = WORKFLOW_ITERATIONS
    break_conditions: Sequence[Condition] = ()
    keep: Keep = Keep.ALL
    keep_count: int = 0
    continue_on_error: bool = False


Kind = Sequential | Parallel | Conditional | Loop | None
KIND_NAMES: Mapping[type, str] = {
    Sequential: "sequential",
    Parallel: "parallel",
    Conditional: "conditional",
    Loop: "loop",
}


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow."""

    name: str
    kind: Kind
    description: str = ""
    on_error: OnError = OnError.INHERIT
    retry: Retry | None = None
    timeout_s: float = WORKFLOW_SECONDS
    shared_data: Mapping[str, Any] = field(default_factory=dict)
    input_schemas: Mapping[str, str] = field(default_factory=dict)
    max_cost_usd: float = 0.0
    rollback: bool = False

    @property
    def kind_name(self) -> str:
        """`sequential`, `parallel`, `conditional` or `loop`."""
        return KIND_NAMES.get(type(self.kind), "")


def step_lists(workflow: Workflow) -> list[tuple[str, Sequence[Step]]]:
    """Its own lists of steps: the branch's name, or nothing, and the steps in a row."""
    match workflow.kind:
        case Sequential(steps):
            return [("", steps)]
        case Parallel(branches):
            return [(branch.name, branch.steps) for branch in branches]
        case Conditional(branches, default_steps):
            listed = [(branch.name, branch.steps) for branch in branches]
            return [*listed, ("default", default_steps)] if default_steps else listed
        case Loop(body=body):
            return [("", body)]
    return []
