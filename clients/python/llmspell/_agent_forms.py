"""What agents are: their specs → messages, and back. No I/O."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, cast, get_args, get_origin, get_type_hints

from llmspell._agent_types import AgentAsTool as UsedAgent
from llmspell._agent_types import (
    AgentFunction,
    AgentLimits,
    AgentSpec,
    Composite,
    CompositeStrategy,
    OfferedFunction,
    VectorMemory,
)
from llmspell._values import from_duration, from_fields, int32, to_duration, to_map
from llmspell.errors import InvalidArgument
from llmspell.v1 import agent_pb2 as pb

_STRATEGY = "COMPOSITE_STRATEGY_"
_KINDS: Mapping[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    tuple: "array",
    dict: "object",
}


def describe(name: str, function: Callable[..., Any]) -> OfferedFunction:
    """A function as a model sees it: its signature, and the first line of its docstring."""
    properties: dict[str, Any] = {}
    required = []
    hints = _hints(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise InvalidArgument(
                f"functions.{name} must take its arguments by name.",
                metadata={"field": f"functions.{name}"},
            )
        properties[parameter.name] = _kind(hints.get(parameter.name))
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    schema = {"type": "object", "properties": properties, "required": required}
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    return OfferedFunction(name=name, description=summary, parameters=schema)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # what cannot be resolved is of any kind
        return {}


def _kind(hint: Any) -> dict[str, Any]:
    """A JSON Schema of a type, as far as it has one."""
    origin = get_origin(hint) or hint
    name = _KINDS.get(origin)
    if name is None:
        return {}
    inner = get_args(hint)
    if name == "array" and inner:
        return {"type": name, "items": _kind(inner[0])}
    return {"type": name}


def to_ref(agent: str | AgentSpec, functions: Mapping[str, AgentFunction]) -> pb.AgentRef:
    """A registered agent by its name, or one that is described."""
    if isinstance(agent, AgentSpec):
        return pb.AgentRef(spec=to_spec(agent, functions))
    return pb.AgentRef(name=agent)


def to_spec(spec: AgentSpec, functions: Mapping[str, AgentFunction]) -> pb.AgentSpec:
    """What an agent is; functions that nobody within describes are described by themselves."""
    described = {each.name for each in spec.functions} | _within(spec)
    offers = [*spec.functions]
    offers += [describe(name, fn) for name, fn in functions.items() if name not in described]
    message = pb.AgentSpec(
        name=spec.name,
        description=spec.description,
        type=spec.type,
        model=spec.model,
        system_prompt=spec.system_prompt,
        temperature=spec.temperature,
        top_p=spec.top_p,
        seed=spec.seed,
        stop=spec.stop,
        tools=spec.tools,
        functions=[_offered(each) for each in offers],
        agents=[_used(each) for each in spec.agents],
        tool_choice=spec.tool_choice,
        max_conversation_length=int32(spec.max_conversation_length, "max_conversation_length"),
        max_conversation_tokens=int32(spec.max_conversation_tokens, "max_conversation_tokens"),
        answer_schema=_json(spec.answer_schema),
        base_url=spec.base_url,
        api_key=spec.api_key,
    )
    _set_parts(message, spec)
    return message


def _set_parts(message: pb.AgentSpec, spec: AgentSpec) -> None:
    if spec.limits is not None:
        message.limits.CopyFrom(to_limits(spec.limits))
    if spec.memory is not None:
        message.memory.CopyFrom(_memory(spec.memory))
    if spec.composite is not None:
        message.composite.CopyFrom(_composite(spec.composite))
    if spec.custom:
        message.custom.CopyFrom(to_map(spec.custom, "custom"))


def _within(spec: AgentSpec) -> set[str]:
    """Functions that agents within describe, and the one that routes: they are not its own."""
    inner = [each.agent for each in spec.agents]
    names: set[str] = set()
    if spec.composite is not None:
        names.add(spec.composite.router_function)
        inner += [*spec.composite.agents, spec.composite.fallback or ""]
    for agent in inner:
        if isinstance(agent, AgentSpec):
            names |= {each.name for each in agent.functions} | _within(agent)
    return names


def _offered(function: OfferedFunction) -> pb.OfferedFunction:
    return pb.OfferedFunction(
        name=function.name,
        description=function.description,
        parameters_schema=_json(function.parameters),
    )


def _used(used: UsedAgent) -> pb.AgentAsTool:
    return pb.AgentAsTool(
        tool_name=used.tool_name, description=used.description, agent=to_ref(used.agent, {})
    )


def _composite(composite: Composite) -> pb.Composite:
    message = pb.Composite(
        strategy=to_number(pb.CompositeStrategy, _STRATEGY, composite.strategy, "strategy"),
        agents=[to_ref(each, {}) for each in composite.agents],
        threshold=composite.threshold,
        router_model=composite.router_model,
        router_function=composite.router_function,
    )
    if composite.fallback is not None:
        message.fallback.CopyFrom(to_ref(composite.fallback, {}))
    return message


def _memory(memory: VectorMemory) -> pb.VectorMemory:
    return pb.VectorMemory(
        collection=memory.collection,
        scope=memory.scope,
        limit=int32(memory.limit, "memory.limit"),
        min_score=memory.min_score,
        read_only=memory.read_only,
    )


def to_limits(limits: AgentLimits) -> pb.AgentLimits:
    """Limits."""
    return pb.AgentLimits(
        max_turns=int32(limits.max_turns, "limits.max_turns"),
        max_tool_calls=int32(limits.max_tool_calls, "limits.max_tool_calls"),
        timeout=to_duration(limits.timeout_s, "limits.timeout_s"),
        max_cost_usd=limits.max_cost_usd,
        max_depth=int32(limits.max_depth, "limits.max_depth"),
        max_tokens=int32(limits.max_tokens, "limits.max_tokens"),
    )


def _json(schema: Mapping[str, Any] | None) -> str:
    return "" if schema is None else json.dumps(schema, ensure_ascii=False)


def to_number(enum: Any, prefix: str, word: str, field: str) -> Any:
    """The number of a word.

    Raises:
        InvalidArgument: it is not known.
    """
    try:
        return enum.Value(prefix + word.upper())
    except ValueError:
        known = ", ".join(name.removeprefix(prefix).lower() for name in enum.keys()[1:])
        raise InvalidArgument(
            f"{field} must be one of {known}, not {word!r}.", metadata={"field": field}
        ) from None


def to_word(enum: Any, prefix: str, number: int) -> str:
    """The word of a number."""
    return cast("str", enum.Name(number)).removeprefix(prefix).lower()


def _read_ref(message: pb.AgentRef) -> str | AgentSpec:
    return read_spec(message.spec) if message.HasField("spec") else message.name


def read_spec(message: pb.AgentSpec) -> AgentSpec:
    """What an agent is."""
    return AgentSpec(
        name=message.name,
        model=message.model,
        description=message.description,
        type=message.type,
        system_prompt=message.system_prompt,
        temperature=message.temperature if message.HasField("temperature") else None,
        top_p=message.top_p if message.HasField("top_p") else None,
        seed=message.seed if message.HasField("seed") else None,
        stop=tuple(message.stop),
        tools=tuple(message.tools),
        functions=tuple(_read_offered(each) for each in message.functions),
        agents=tuple(_read_used(each) for each in message.agents),
        tool_choice=message.tool_choice,
        limits=_read_limits(message.limits) if message.HasField("limits") else None,
        max_conversation_length=message.max_conversation_length,
        max_conversation_tokens=message.max_conversation_tokens,
        answer_schema=_read_json(message.answer_schema),
        memory=_read_memory(message.memory) if message.HasField("memory") else None,
        base_url=message.base_url,
        composite=_read_composite(message.composite) if message.HasField("composite") else None,
        custom=from_fields(message.custom.fields),
    )


def _read_offered(message: pb.OfferedFunction) -> OfferedFunction:
    return OfferedFunction(
        name=message.name,
        description=message.description,
        parameters=_read_json(message.parameters_schema),
    )


def _read_used(message: pb.AgentAsTool) -> UsedAgent:
    return UsedAgent(
        agent=_read_ref(message.agent),
        tool_name=message.tool_name,
        description=message.description,
    )


def _read_limits(message: pb.AgentLimits) -> AgentLimits:
    return AgentLimits(
        max_turns=message.max_turns,
        max_tool_calls=message.max_tool_calls,
        timeout_s=from_duration(message, "timeout"),
        max_cost_usd=message.max_cost_usd,
        max_depth=message.max_depth,
        max_tokens=message.max_tokens,
    )


def _read_memory(message: pb.VectorMemory) -> VectorMemory:
    return VectorMemory(
        collection=message.collection,
        scope=message.scope,
        limit=message.limit,
        min_score=message.min_score,
        read_only=message.read_only,
    )


def _read_composite(message: pb.Composite) -> Composite:
    return Composite(
        strategy=cast(
            "CompositeStrategy", to_word(pb.CompositeStrategy, _STRATEGY, message.strategy)
        ),
        agents=tuple(_read_ref(each) for each in message.agents),
        threshold=message.threshold,
        fallback=_read_ref(message.fallback) if message.HasField("fallback") else None,
        router_model=message.router_model,
        router_function=message.router_function,
    )


def _read_json(text: str) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", json.loads(text)) if text else None
