"""Which agent a command means: a registered one, a file's, or a model with a few options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from services.gateway.cli.workflow_files import SUFFIXES, read_file

if TYPE_CHECKING:
    from llmspell.types import AgentLimits, AgentSpec

SHELL_AGENT = "shell"
"""Name of an agent that is made of a model and options."""
_OPTIONS = {
    "system_prompt": "--system",
    "tools": "--tool",
    "tool_choice": "--tool-choice",
    "base_url": "--base-url",
}


def is_file(source: str) -> bool:
    """Whether what was typed names a file."""
    return source == "-" or source.endswith(SUFFIXES)


def agent_of(source: str, options: Mapping[str, Any]) -> str | AgentSpec:
    """A registered agent's name, or what a file or a model and `options` make.

    Raises:
        typer.BadParameter: where a file holds none, or options are given for a registered agent.
    """
    given = {name: value for name, value in options.items() if value}
    if is_file(source):
        return spec_of({**read_file(source), **given})
    if "/" in source:
        return spec_of({"name": SHELL_AGENT, "model": source, **given})
    if given:
        names = ", ".join(_OPTIONS.get(name, name) for name in given)
        raise typer.BadParameter(f"{source} is a registered agent; {names} cannot change it")
    return source


def spec_of(form: Mapping[str, Any]) -> AgentSpec:
    """An agent as a file describes it; its names are those of `AgentSpec`.

    Raises:
        typer.BadParameter: where a name is not known.
    """
    from llmspell import types as t  # noqa: PLC0415  (slow to import)

    values = dict(form)
    for name, kind in (("limits", t.AgentLimits), ("memory", t.VectorMemory)):
        if values.get(name) is not None:
            values[name] = _made(kind, values[name], name)
    if values.get("composite") is not None:
        parts = dict(values["composite"])
        parts["agents"] = [_agent(each) for each in parts.get("agents", ())]
        if parts.get("fallback") is not None:
            parts["fallback"] = _agent(parts["fallback"])
        values["composite"] = _made(t.Composite, parts, "composite")
    values["agents"] = [
        _made(t.AgentAsTool, {**each, "agent": _agent(each.get("agent", ""))}, "agents")
        for each in values.get("agents", ())
    ]
    values["functions"] = [
        _made(t.OfferedFunction, each, "functions") for each in values.get("functions", ())
    ]
    spec: AgentSpec = _made(t.AgentSpec, values, "the agent")
    return spec


def limits_of(max_cost: float, timeout_s: float | None, max_turns: int) -> AgentLimits | None:
    """Limits for one time; None: those of the agent alone."""
    from llmspell.types import AgentLimits  # noqa: PLC0415  (slow to import)

    limits = AgentLimits(max_cost_usd=max_cost, timeout_s=timeout_s, max_turns=max_turns)
    return None if limits == AgentLimits() else limits


def _agent(given: Any) -> Any:
    return spec_of(given) if isinstance(given, Mapping) else given


def _made(kind: Any, values: Any, place: str) -> Any:
    if not isinstance(values, Mapping):
        raise typer.BadParameter(f"{place} must be a mapping")
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise typer.BadParameter(
            f"{place} has {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise typer.BadParameter(f"{place}: {error}") from None
