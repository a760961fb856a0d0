"""A workflow of the contract as a form, so that it can be read and written again. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf import json_format

from llmspell._values import from_duration, from_fields, from_value
from llmspell.v1 import agent_pb2
from llmspell.v1 import workflow_pb2 as pb

_STRATEGY, _AGGREGATION = "ERROR_STRATEGY_", "LOOP_AGGREGATION_"


def form_of(workflow: pb.Workflow) -> dict[str, Any]:
    """The form of a workflow, without what is not set."""
    kind = workflow.WhichOneof("kind") or ""
    form: dict[str, Any] = {
        "name": workflow.name,
        "description": workflow.description,
        "type": kind,
        "inputs": {name: _schema(told) for name, told in sorted(workflow.input_schemas.items())},
        "shared_data": from_fields(workflow.shared_data.fields),
        "error_strategy": _strategy(workflow.error_strategy),
        "retry": _retry(workflow),
        "timeout_s": from_duration(workflow, "timeout"),
        "max_cost_usd": workflow.max_cost_usd,
        "rollback": workflow.rollback,
    }
    if kind:
        form |= _KINDS[kind](getattr(workflow, kind))
    return _set(form)


def _set(form: Mapping[str, Any]) -> dict[str, Any]:
    """What says something."""
    return {
        name: value for name, value in form.items() if value not in (None, "", {}, [], 0, False)
    }


def _schema(text: str) -> Any:
    try:
        return json.loads(text) if text else True
    except ValueError:
        return text


def _strategy(number: int) -> str:
    return pb.ErrorStrategy.Name(number).removeprefix(_STRATEGY).lower() if number else ""


def _retry(message: pb.Workflow | pb.Step) -> dict[str, Any]:
    retry = message.retry
    return _set(
        {
            "max_attempts": retry.max_attempts,
            "delay_s": from_duration(retry, "delay"),
            "multiplier": retry.multiplier,
            "delay_max_s": from_duration(retry, "delay_max"),
        }
    )


# Kinds.


def _parallel(parallel: pb.Parallel) -> dict[str, Any]:
    return {
        "branches": [_branch(each) for each in parallel.branches],
        "max_concurrency": parallel.max_concurrency,
    }


def _conditional(conditional: pb.Conditional) -> dict[str, Any]:
    return {
        "branches": [_branch(each) for each in conditional.branches],
        "default": _steps(conditional.default_steps),
        "execute_all_matching": conditional.execute_all_matching,
    }


def _loop(loop: pb.Loop) -> dict[str, Any]:
    word = pb.LoopAggregation.Name(loop.aggregation) if loop.aggregation else ""
    return {
        **_iterator(loop),
        "body": _steps(loop.body),
        "max_iterations": loop.max_iterations,
        "break_conditions": [_condition(each) for each in loop.break_conditions],
        "aggregation": word.removeprefix(_AGGREGATION).lower(),
        "aggregation_count": loop.aggregation_count,
        "continue_on_error": loop.continue_on_error,
    }


def _iterator(loop: pb.Loop) -> dict[str, Any]:
    match loop.WhichOneof("iterator"):
        case "range":
            step = {"step": loop.range.step} if loop.range.step else {}
            return {"range": {"start": loop.range.start, "end": loop.range.end, **step}}
        case "collection":
            return {"collection": [from_value(value) for value in loop.collection.values]}
        case "collection_from":
            return {"collection": loop.collection_from}
        case "while":
            return {"while": _condition(getattr(loop, "while"))}
    return {}


_KINDS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "sequential": lambda told: {"steps": _steps(told.steps)},
    "parallel": _parallel,
    "conditional": _conditional,
    "loop": _loop,
}


def _branch(branch: pb.Branch) -> dict[str, Any]:
    form = {"name": branch.name, "steps": _steps(branch.steps)}
    if branch.HasField("condition"):
        form["condition"] = _condition(branch.condition)
    return form


# Steps.


def _steps(steps: Iterable[pb.Step]) -> list[dict[str, Any]]:
    return [_step(step) for step in steps]


def _step(step: pb.Step) -> dict[str, Any]:
    kind = step.WhichOneof("action") or ""
    form: dict[str, Any] = {"name": step.name, "type": kind}
    if kind:
        form |= _ACTIONS[kind](getattr(step, kind))
    form |= {
        "timeout_s": from_duration(step, "timeout"),
        "retry": _retry(step),
        "on_error": _strategy(step.on_error),
        "save_as": step.save_as,
    }
    if step.HasField("compensation"):
        form["compensation"] = _step(step.compensation)
    told = _set(form)
    if step.HasField("condition"):
        told["condition"] = _condition(step.condition)
    return told


def _agent(told: pb.AgentStep) -> dict[str, Any]:
    return {
        "agent": _agent_ref(told.agent),
        "input": told.input,
        "parameters": from_fields(told.parameters.fields),
    }


def _agent_ref(agent: agent_pb2.AgentRef) -> Any:
    if agent.WhichOneof("agent") == "spec":
        return json_format.MessageToDict(agent.spec, preserving_proto_field_name=True)
    return agent.name


def _workflow(told: pb.WorkflowStep) -> dict[str, Any]:
    is_here = told.HasField("definition")
    inner = form_of(told.definition) if is_here else told.name
    return {"workflow": inner, "inputs": from_fields(told.inputs.fields)}


_ACTIONS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "tool": lambda told: {"tool": told.tool, "input": from_fields(told.arguments.fields)},
    "agent": _agent,
    "workflow": _workflow,
    "function": lambda told: {
        "function": told.function,
        "input": from_fields(told.arguments.fields),
    },
    "call": lambda told: {"method": told.method, "input": from_fields(told.arguments.fields)},
    "template": lambda told: {
        "template": told.template_id,
        "input": from_fields(told.parameters.fields),
    },
}


# Conditions.


def _condition(condition: pb.WorkflowCondition) -> Any:
    kind = condition.WhichOneof("condition")
    if kind is None:
        return None
    return _CONDITIONS[kind](getattr(condition, kind))


def _several(word: str) -> Callable[[pb.WorkflowConditions], dict[str, Any]]:
    return lambda told: {"type": word, "conditions": [_condition(c) for c in told.conditions]}


_CONDITIONS: Mapping[str, Callable[[Any], Any]] = {
    "constant": bool,
    "expression": str,
    "function": lambda told: {"type": "function", "function": told},
    "shared_data_equals": lambda told: {
        "type": "shared_data_equals",
        "key": told.key,
        "value": from_value(told.value),
    },
    "shared_data_exists": lambda told: {"type": "shared_data_exists", "key": told},
    "step_output_equals": lambda told: {
        "type": "step_output_equals",
        "step": told.step,
        "value": from_value(told.value),
    },
    "step_output_contains": lambda told: {
        "type": "step_output_contains",
        "step": told.step,
        "text": told.text,
    },
    "step_succeeded": lambda told: {"type": "step_succeeded", "step": told},
    "step_failed": lambda told: {"type": "step_failed", "step": told},
    "agent_classification": lambda told: {
        "type": "agent_classification",
        "agent": _agent_ref(told.agent),
        "input": told.input,
        "categories": list(told.categories),
        "expected": told.expected,
    },
    "all": _several("and"),
    "any": _several("or"),
    "not": lambda told: {"type": "not", "condition": _condition(told)},
}
