"""Workflows as people write them ⇄ the contract's. No I/O.

A form is plain values: what a file in TOML, JSON or YAML holds, or a dictionary that a program
makes, where functions may stand as they are. `docs/guide/workflows.md` describes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from llmspell._values import to_duration, to_map, to_value
from llmspell._workflow_conditions import read_agent, read_condition
from llmspell._workflow_places import Form, first, invalid, number, text, whole
from llmspell.v1 import workflow_pb2 as pb
from llmspell.v1.types_pb2 import ListValue, MapValue

Function = Callable[..., Any]
"""A step or condition that its caller does itself."""

KINDS = ("sequential", "parallel", "conditional", "loop")
_STRATEGIES = {
    "fail_fast": pb.ERROR_STRATEGY_FAIL_FAST,
    "continue": pb.ERROR_STRATEGY_CONTINUE,
    "retry": pb.ERROR_STRATEGY_RETRY,
}
_AGGREGATIONS = {
    "collect_all": pb.LOOP_AGGREGATION_COLLECT_ALL,
    "last_only": pb.LOOP_AGGREGATION_LAST_ONLY,
    "first_n": pb.LOOP_AGGREGATION_FIRST_N,
    "last_n": pb.LOOP_AGGREGATION_LAST_N,
    "none": pb.LOOP_AGGREGATION_NONE,
}
_COMMON = {
    "name", "description", "type", "error_strategy", "timeout_s", "timeout_ms", "retry",
    "retry_count", "shared_data", "inputs", "max_cost_usd", "rollback",
}  # fmt: skip
_OF_KIND = {
    "sequential": {"steps"},
    "parallel": {"branches", "steps", "max_concurrency", "fail_fast"},
    "conditional": {"branches", "default", "execute_all_matching", "condition", "then", "else"},
    "loop": {
        "range", "collection", "while", "body", "steps", "max_iterations", "break_conditions",
        "aggregation", "aggregation_count", "continue_on_error",
    },
}  # fmt: skip
_STEP = {
    "name", "type", "tool", "agent", "workflow", "function", "method", "template", "input",
    "inputs", "parameters", "timeout_s", "timeout_ms", "retry", "retry_count", "on_error",
    "condition", "compensation", "save_as",
}  # fmt: skip
_TELLING = {
    "tool": "tool",
    "agent": "agent",
    "workflow": "workflow",
    "function": "function",
    "method": "call",
    "template": "template",
}
_MS = 1000.0


@dataclass(slots=True)
class Read:
    """A form that was read."""

    workflow: pb.Workflow
    """As the contract has it."""
    functions: dict[str, Function] = field(default_factory=dict)
    """Functions that stood in the form, by the names that they were given."""


def read_form(form: Mapping[str, Any]) -> Read:
    """A workflow of a form.

    Raises:
        InvalidArgument: naming what is missing, not known, or of the wrong kind.
    """
    functions: dict[str, Function] = {}
    return Read(_workflow(Form(form, "", functions)), functions)


# A workflow.


def _workflow(form: Form) -> pb.Workflow:
    kind = _kind(form)
    form.check(_COMMON | _OF_KIND[kind])
    workflow = pb.Workflow(
        name=text(form, "name", required=True),
        description=text(form, "description"),
        error_strategy=_strategy(form, "error_strategy"),
        timeout=_seconds(form),
        retry=_retry(form),
        shared_data=_map(form, "shared_data"),
        input_schemas=_schemas(form),
        max_cost_usd=number(form, "max_cost_usd"),
        rollback=form.flag("rollback"),
    )
    _READERS[kind](form, workflow)
    return workflow


def _kind(form: Form) -> str:
    kind = form.get("type")
    if kind is None:
        if "body" in form or "range" in form or "collection" in form or "while" in form:
            return "loop"
        if "default" in form or "then" in form:
            return "conditional"
        return "parallel" if "branches" in form else "sequential"
    if kind not in KINDS:
        raise invalid(form.at("type"), f"must be one of {', '.join(KINDS)}, not {kind!r}")
    return cast("str", kind)


def _sequential(form: Form, workflow: pb.Workflow) -> None:
    workflow.sequential.SetInParent()
    workflow.sequential.steps.extend(_steps(form, "steps"))


def _parallel(form: Form, workflow: pb.Workflow) -> None:
    parallel = workflow.parallel
    parallel.max_concurrency = whole(form, "max_concurrency")
    if "branches" in form:
        parallel.branches.extend(_branches(form))
    if "steps" in form:
        parallel.branches.extend(
            pb.Branch(name=step.name, steps=[step]) for step in _steps(form, "steps")
        )
    workflow.parallel.SetInParent()
    if "fail_fast" in form and not workflow.error_strategy:
        word = "fail_fast" if form.flag("fail_fast") else "continue"
        workflow.error_strategy = _STRATEGIES[word]


def _conditional(form: Form, workflow: pb.Workflow) -> None:
    conditional = workflow.conditional
    conditional.SetInParent()
    conditional.execute_all_matching = form.flag("execute_all_matching")
    if "branches" in form:
        conditional.branches.extend(_branches(form))
    if "then" in form:
        condition = read_condition(form.inner("condition"))
        conditional.branches.add(name="then", condition=condition, steps=_steps(form, "then"))
    for name in ("default", "else"):
        if name in form:
            conditional.default_steps.extend(_steps(form, name))


def _loop(form: Form, workflow: pb.Workflow) -> None:
    loop = workflow.loop
    _iterate(form, loop)
    loop.body.extend(_steps(form, "body" if "body" in form else "steps"))
    loop.max_iterations = whole(form, "max_iterations")
    loop.continue_on_error = form.flag("continue_on_error")
    listed = form.get("break_conditions", [])
    for place in form.entries("break_conditions", listed if isinstance(listed, list) else [listed]):
        loop.break_conditions.append(read_condition(place))
    _aggregate(form, loop)


def _iterate(form: Form, loop: pb.Loop) -> None:
    if "range" in form:
        over = form.get("range")
        if isinstance(over, Sequence) and not isinstance(over, str):
            over = dict(zip(("start", "end", "step"), over, strict=False))
        span = form.child("range", over)
        span.check({"start", "end", "step"})
        loop.range.start = whole(span, "start", signed=True) if "start" in span else 1
        loop.range.end = whole(span, "end", signed=True, required=True)
        loop.range.step = whole(span, "step", signed=True)
    elif "collection" in form:
        _collect(form, loop)
    elif "while" in form:
        getattr(loop, "while").CopyFrom(read_condition(form.inner("while")))
    else:
        raise invalid(form.at("range"), "must be set, or collection, or while")


def _collect(form: Form, loop: pb.Loop) -> None:
    over = form.get("collection")
    if isinstance(over, str):
        loop.collection_from = over
        return
    if not isinstance(over, Sequence):
        raise invalid(
            form.at("collection"), "must be a list or a reference such as {{inputs.files}}"
        )
    place = form.at("collection")
    values = [to_value(entry, f"{place}[{n}]") for n, entry in enumerate(over)]
    loop.collection.CopyFrom(ListValue(values=values))


def _aggregate(form: Form, loop: pb.Loop) -> None:
    word, count = form.get("aggregation"), whole(form, "aggregation_count")
    if isinstance(word, Mapping) and len(word) == 1:
        word, count = next(iter(word.items()))
    if word is None:
        return
    if word not in _AGGREGATIONS:
        raise invalid(form.at("aggregation"), f"must be one of {', '.join(_AGGREGATIONS)}")
    loop.aggregation, loop.aggregation_count = _AGGREGATIONS[word], int(count or 0)


_READERS: Mapping[str, Callable[[Form, pb.Workflow], None]] = {
    "sequential": _sequential,
    "parallel": _parallel,
    "conditional": _conditional,
    "loop": _loop,
}


def _branches(form: Form) -> Iterable[pb.Branch]:
    for n, place in enumerate(form.entries("branches", form.get("branches")), start=1):
        inner = place.form()
        inner.check({"name", "condition", "steps"})
        branch = pb.Branch(name=text(inner, "name") or f"branch_{n}", steps=_steps(inner, "steps"))
        if "condition" in inner:
            branch.condition.CopyFrom(read_condition(inner.inner("condition")))
        yield branch


# Steps.


def _steps(form: Form, name: str) -> list[pb.Step]:
    return [_step(place.form()) for place in form.entries(name, form.get(name))]


def _step(form: Form) -> pb.Step:
    form.check(_STEP)
    step = pb.Step(
        name=text(form, "name", required=True),
        timeout=_seconds(form),
        retry=_retry(form),
        on_error=_strategy(form, "on_error"),
        save_as=text(form, "save_as"),
    )
    _ACTIONS[_action(form)](form, step)
    if "condition" in form:
        step.condition.CopyFrom(read_condition(form.inner("condition")))
    if "compensation" in form:
        undo = {"name": f"undo_{step.name}"} | dict(form.child("compensation").values)
        step.compensation.CopyFrom(_step(form.child("compensation", undo)))
    return step


def _action(form: Form) -> str:
    kind = form.get("type")
    if kind is None:
        found = [action for name, action in _TELLING.items() if name in form]
        if len(found) != 1:
            raise invalid(form.at("type"), f"must be one of {', '.join(_ACTIONS)}")
        return found[0]
    if kind not in _ACTIONS:
        raise invalid(form.at("type"), f"must be one of {', '.join(_ACTIONS)}, not {kind!r}")
    return cast("str", kind)


def _tool(form: Form, step: pb.Step) -> None:
    step.tool.tool = text(form, "tool", required=True)
    _put(step.tool.arguments, form)


def _agent(form: Form, step: pb.Step) -> None:
    step.agent.agent.CopyFrom(read_agent(form.inner("agent")))
    given = form.get("input", "")
    if isinstance(given, Mapping):
        rest = {name: value for name, value in given.items() if name not in {"text", "prompt"}}
        step.agent.parameters.CopyFrom(to_map(rest, form.at("input")))
        given = given.get("text", given.get("prompt", ""))
    step.agent.input = str(given)
    parameters = _map(form, "parameters")
    if parameters is not None:
        step.agent.parameters.CopyFrom(parameters)


def _inner_workflow(form: Form, step: pb.Step) -> None:
    inner = form.get("workflow")
    if isinstance(inner, str):
        step.workflow.name = inner
    elif isinstance(inner, pb.Workflow):
        step.workflow.definition.CopyFrom(inner)
    else:
        step.workflow.definition.CopyFrom(_workflow(form.child("workflow")))
    _put(step.workflow.inputs, form)


def _function(form: Form, step: pb.Step) -> None:
    step.function.function = form.function("function", step.name)
    _put(step.function.arguments, form)


def _call(form: Form, step: pb.Step) -> None:
    step.call.method = text(form, "method", required=True)
    _put(step.call.arguments, form)


def _template(form: Form, step: pb.Step) -> None:
    step.template.template_id = text(form, "template", required=True)
    _put(step.template.parameters, form)


_ACTIONS: Mapping[str, Callable[[Form, pb.Step], None]] = {
    "tool": _tool,
    "agent": _agent,
    "workflow": _inner_workflow,
    "function": _function,
    "call": _call,
    "template": _template,
}


def _put(target: MapValue, form: Form) -> None:
    name = first(form, "input", "inputs", "parameters")
    if name is None:
        return
    given = form.get(name)
    if not isinstance(given, Mapping):
        given = {"input": given}
    target.CopyFrom(to_map(given, form.at(name)))


# What workflows and steps share.


def _strategy(form: Form, name: str) -> Any:
    word = form.get(name)
    if word is None:
        return pb.ERROR_STRATEGY_UNSPECIFIED
    if word not in _STRATEGIES:
        raise invalid(form.at(name), f"must be one of {', '.join(_STRATEGIES)}, not {word!r}")
    return _STRATEGIES[word]


def _seconds(form: Form) -> Any:
    if "timeout_ms" in form:
        return to_duration(number(form, "timeout_ms") / _MS, form.at("timeout_ms"))
    return to_duration(form.get("timeout_s"), form.at("timeout_s"))


def _retry(form: Form) -> pb.RetryPolicy | None:
    if "retry" not in form:
        if "retry_count" not in form:
            return None
        return pb.RetryPolicy(max_attempts=whole(form, "retry_count") + 1)
    retry = form.child("retry")
    retry.check({"max_attempts", "delay_s", "multiplier", "delay_max_s"})
    return pb.RetryPolicy(
        max_attempts=whole(retry, "max_attempts"),
        delay=to_duration(retry.get("delay_s"), retry.at("delay_s"), or_zero=True),
        multiplier=number(retry, "multiplier"),
        delay_max=to_duration(retry.get("delay_max_s"), retry.at("delay_max_s")),
    )


def _schemas(form: Form) -> dict[str, str]:
    given = form.get("inputs", {})
    if isinstance(given, list):
        given = dict.fromkeys(given, True)
    place = form.child("inputs", given)
    return {
        name: schema if isinstance(schema, str) else "" if schema is True else json.dumps(schema)
        for name, schema in place.values.items()
    }


def _map(form: Form, name: str) -> MapValue | None:
    if name not in form:
        return None
    return to_map(form.child(name).values, form.at(name))
