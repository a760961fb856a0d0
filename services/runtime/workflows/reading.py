"""A workflow of the contract read into the model.

What is missing or out of bounds is kept as it is, so that validation can name all that is
wrong; only what no message could mean is an error here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import agent_pb2, workflow_pb2

from services.common.errors import limit_exceeded
from services.common.limits import (
    WORKFLOW_ATTEMPTS,
    WORKFLOW_BYTES_MAX,
    WORKFLOW_CONCURRENCY,
    WORKFLOW_ITERATIONS,
    WORKFLOW_SECONDS,
)
from services.common.values import map_to_python, to_python
from services.runtime.workflows.model import (
    Action,
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
    Constant,
    Ended,
    Expression,
    FunctionAction,
    Iterator,
    Keep,
    Kind,
    Loop,
    Not,
    Numbers,
    OnError,
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

_PACKAGE = "llmspell.v1."
_ON_ERROR = {0: OnError.INHERIT, 1: OnError.FAIL_FAST, 2: OnError.CONTINUE, 3: OnError.RETRY}
_KEEP = {0: Keep.ALL, 1: Keep.ALL, 2: Keep.LAST, 3: Keep.FIRST_N, 4: Keep.LAST_N, 5: Keep.NONE}


def read_workflow(message: workflow_pb2.Workflow) -> Workflow:
    """The model of a workflow.

    Raises:
        ServiceError: LIMIT_EXCEEDED where it is too large or its values are nested too deep,
            FIELD_INVALID where a number is not finite.
    """
    size = message.ByteSize()
    if size > WORKFLOW_BYTES_MAX:
        raise limit_exceeded("workflow", size, WORKFLOW_BYTES_MAX, "bytes")
    return _workflow(message)


def _workflow(message: workflow_pb2.Workflow) -> Workflow:
    timeout_s = _seconds(message, "timeout")
    return Workflow(
        name=message.name,
        description=message.description,
        kind=_kind(message),
        on_error=_ON_ERROR.get(message.error_strategy, OnError.INHERIT),
        retry=_retry(message.retry) if message.HasField("retry") else None,
        timeout_s=WORKFLOW_SECONDS if timeout_s is None else timeout_s,
        shared_data=map_to_python(message.shared_data.fields, "shared_data"),
        input_schemas=dict(message.input_schemas),
        max_cost_usd=message.max_cost_usd,
        rollback=message.rollback,
    )


def _kind(message: workflow_pb2.Workflow) -> Kind:
    match message.WhichOneof("kind"):
        case "sequential":
            return Sequential(_steps(message.sequential.steps))
        case "parallel":
            most = message.parallel.max_concurrency or WORKFLOW_CONCURRENCY
            return Parallel(_branches(message.parallel.branches), most)
        case "conditional":
            told = message.conditional
            return Conditional(
                _branches(told.branches), _steps(told.default_steps), told.execute_all_matching
            )
        case "loop":
            return _loop(message.loop)
    return None


def _loop(message: workflow_pb2.Loop) -> Loop:
    return Loop(
        iterator=_iterator(message),
        body=_steps(message.body),
        max_iterations=message.max_iterations or WORKFLOW_ITERATIONS,
        break_conditions=tuple(map(_condition, message.break_conditions)),
        keep=_KEEP.get(message.aggregation, Keep.ALL),
        keep_count=message.aggregation_count,
        continue_on_error=message.continue_on_error,
    )


def _iterator(message: workflow_pb2.Loop) -> Iterator:
    match message.WhichOneof("iterator"):
        case "range":
            told = message.range
            return Numbers(told.start, told.end, told.step or 1)
        case "collection":
            entries = enumerate(message.collection.values)
            return Collection([to_python(entry, f"collection[{n}]") for n, entry in entries])
        case "collection_from":
            return CollectionFrom(message.collection_from)
        case "while":
            return While(_condition(getattr(message, "while")))
    return None


def _branches(messages: Iterable[workflow_pb2.Branch]) -> tuple[Branch, ...]:
    return tuple(
        Branch(
            name=message.name,
            steps=_steps(message.steps),
            condition=_condition_of(message),
        )
        for message in messages
    )


def _steps(messages: Iterable[workflow_pb2.Step]) -> tuple[Step, ...]:
    return tuple(map(_step, messages))


def _step(message: workflow_pb2.Step) -> Step:
    return Step(
        name=message.name,
        action=_action(message),
        timeout_s=_seconds(message, "timeout"),
        retry=_retry(message.retry) if message.HasField("retry") else None,
        on_error=_ON_ERROR.get(message.on_error, OnError.INHERIT),
        condition=_condition_of(message),
        compensation=_step(message.compensation) if message.HasField("compensation") else None,
        save_as=message.save_as,
    )


def _action(message: workflow_pb2.Step) -> Action:
    which = message.WhichOneof("action")
    return _ACTIONS[which](getattr(message, which)) if which else None


def _agent_action(message: workflow_pb2.AgentStep) -> AgentAction:
    return AgentAction(
        agent=message.agent,
        agent_name=agent_name(message.agent),
        input=message.input,
        parameters=_map(message.parameters),
    )


def agent_name(agent: agent_pb2.AgentRef) -> str:
    """Name of a registered agent, or of one that is described; empty: neither has one."""
    return agent.name or agent.spec.name


def _workflow_action(message: workflow_pb2.WorkflowStep) -> WorkflowAction:
    definition = _workflow(message.definition) if message.HasField("definition") else None
    return WorkflowAction(message.name, definition, _map(message.inputs))


_ACTIONS: Mapping[str, Callable[[Any], Action]] = {
    "tool": lambda told: ToolAction(told.tool, _map(told.arguments)),
    "agent": _agent_action,
    "workflow": _workflow_action,
    "function": lambda told: FunctionAction(told.function, _map(told.arguments)),
    "call": lambda told: CallAction(told.method.removeprefix(_PACKAGE), _map(told.arguments)),
    "template": lambda told: TemplateAction(told.template_id, _map(told.parameters)),
}


def _condition_of(message: Any) -> Condition | None:
    return _condition(message.condition) if message.HasField("condition") else None


def _condition(message: workflow_pb2.WorkflowCondition) -> Condition:
    which = message.WhichOneof("condition")
    return _CONDITIONS[which](getattr(message, which)) if which else Unsaid()


def _classified(message: workflow_pb2.AgentClassification) -> Classified:
    return Classified(
        agent=message.agent,
        agent_name=agent_name(message.agent),
        input=message.input,
        categories=tuple(message.categories),
        expected=message.expected,
    )


def _several(message: workflow_pb2.WorkflowConditions) -> tuple[Condition, ...]:
    return tuple(map(_condition, message.conditions))


_CONDITIONS: Mapping[str, Callable[[Any], Condition]] = {
    "constant": Constant,
    "shared_data_equals": lambda told: SharedEquals(told.key, to_python(told.value, "value")),
    "shared_data_exists": SharedExists,
    "step_output_equals": lambda told: OutputEquals(told.step, to_python(told.value, "value")),
    "step_succeeded": lambda step: Ended(step, well=True),
    "step_failed": lambda step: Ended(step, well=False),
    "step_output_contains": lambda told: OutputContains(told.step, told.text),
    "agent_classification": _classified,
    "all": lambda told: AllOf(_several(told)),
    "any": lambda told: AnyOf(_several(told)),
    "not": lambda told: Not(_condition(told)),
    "expression": Expression,
    "function": Asked,
}


def _retry(message: workflow_pb2.RetryPolicy) -> Retry:
    retry = Retry(attempts_max=message.max_attempts or WORKFLOW_ATTEMPTS)
    delay_s, delay_s_max = _seconds(message, "delay"), _seconds(message, "delay_max")
    if delay_s is not None:
        retry = replace(retry, delay_s=delay_s)
    if delay_s_max is not None:
        retry = replace(retry, delay_s_max=delay_s_max)
    return replace(retry, multiplier=message.multiplier) if message.multiplier else retry


def _seconds(message: Any, field: str) -> float | None:
    if not message.HasField(field):
        return None
    told: Duration = getattr(message, field)
    return told.seconds + told.nanos / 1e9


def _map(message: Any) -> dict[str, Any]:
    return map_to_python(message.fields, "arguments")
