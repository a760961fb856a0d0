"""Conditions of a form, and the agents that it names. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import json_format

from llmspell._values import to_value
from llmspell._workflow_places import Form, Place, function_name, invalid, text
from llmspell.v1 import agent_pb2
from llmspell.v1 import workflow_pb2 as pb

Condition = pb.WorkflowCondition


def read_condition(place: Place) -> Condition:
    """A condition: true or false, an expression, a function, or a mapping with a `type`."""
    value = place.value
    if isinstance(value, bool):
        return Condition(constant=value)
    if isinstance(value, str):
        word = value.strip()
        return (
            Condition(constant=word == "always") if word in _WORDS else Condition(expression=value)
        )
    if callable(value):
        return Condition(function=function_name(place, place.path.rpartition(".")[2]))
    form = place.form()
    kind = form.get("type") or _only_key(form)
    reader = _READERS.get(str(kind))
    if reader is None:
        known = ", ".join(_READERS)
        raise invalid(form.at("type"), f"must be one of {known}, not {kind!r}")
    if "type" not in form and isinstance(form.get(kind), Mapping) and kind not in _NESTED:
        form = form.child(kind)
    return reader(form)


def read_agent(place: Place) -> agent_pb2.AgentRef:
    """A registered agent's name, or the description of one as the contract has it."""
    if isinstance(place.value, str):
        return agent_pb2.AgentRef(name=place.value)
    if isinstance(place.value, agent_pb2.AgentSpec):
        return agent_pb2.AgentRef(spec=place.value)
    if not isinstance(place.value, Mapping):
        raise invalid(place.path, "must be the name of an agent or a description of one")
    spec = agent_pb2.AgentSpec()
    try:
        json_format.ParseDict(dict(place.value), spec)
    except json_format.ParseError as error:
        raise invalid(place.path, f"is no description of an agent: {error}") from None
    return agent_pb2.AgentRef(spec=spec)


_WORDS = {"always", "never"}
_NESTED = {"and", "or", "all", "any", "not", "step_succeeded", "step_failed", "shared_data_exists"}


def _only_key(form: Form) -> Any:
    keys = [key for key in form.values if key in _READERS]
    return keys[0] if len(keys) == 1 else None


def _equals(form: Form) -> Condition:
    value = to_value(form.get("value"), form.at("value"))
    told = pb.SharedDataEquals(key=text(form, "key", required=True), value=value)
    return Condition(shared_data_equals=told)


def _exists(form: Form) -> Condition:
    name = "key" if "key" in form else "shared_data_exists"
    return Condition(shared_data_exists=text(form, name, required=True))


def _output_equals(form: Form) -> Condition:
    value = to_value(form.get("value"), form.at("value"))
    told = pb.StepOutputEquals(step=text(form, "step", required=True), value=value)
    return Condition(step_output_equals=told)


def _output_contains(form: Form) -> Condition:
    told = pb.StepOutputContains(
        step=text(form, "step", required=True), text=text(form, "text", required=True)
    )
    return Condition(step_output_contains=told)


def _succeeded(form: Form) -> Condition:
    name = "step" if "step" in form else "step_succeeded"
    return Condition(step_succeeded=text(form, name, required=True))


def _failed(form: Form) -> Condition:
    name = "step" if "step" in form else "step_failed"
    return Condition(step_failed=text(form, name, required=True))


def _classified(form: Form) -> Condition:
    told = pb.AgentClassification(
        agent=read_agent(form.inner("agent")),
        input=text(form, "input", required=True),
        categories=list(form.get("categories", [])),
        expected=text(form, "expected", required=True),
    )
    return Condition(agent_classification=told)


def _several(name: str, *words: str) -> Callable[[Form], Condition]:
    def read(form: Form) -> Condition:
        word = next((each for each in ("conditions", *words) if each in form), "conditions")
        listed = [read_condition(place) for place in form.entries(word, form.get(word))]
        several = pb.WorkflowConditions(conditions=listed)
        return Condition(all=several) if name == "all" else Condition(any=several)

    return read


def _not(form: Form) -> Condition:
    condition = Condition()
    inner = form.inner("condition" if "condition" in form else "not")
    getattr(condition, "not").CopyFrom(read_condition(inner))
    return condition


def _expression(form: Form) -> Condition:
    return Condition(expression=text(form, "expression", required=True))


def _function(form: Form) -> Condition:
    return Condition(function=form.function("function", "condition"))


_READERS: Mapping[str, Callable[[Form], Condition]] = {
    "always": lambda _: Condition(constant=True),
    "never": lambda _: Condition(constant=False),
    "shared_data_equals": _equals,
    "shared_data_exists": _exists,
    "step_output_equals": _output_equals,
    "step_output_contains": _output_contains,
    "step_succeeded": _succeeded,
    "step_failed": _failed,
    "agent_classification": _classified,
    "and": _several("all", "and"),
    "all": _several("all", "all"),
    "or": _several("any", "or"),
    "any": _several("any", "any"),
    "not": _not,
    "expression": _expression,
    "function": _function,
}
