"""What an agent may be: the checks of a description, before anything is kept or asked."""

from __future__ import annotations

import math
import re

from llmspell.v1 import agent_pb2

from services.common.errors import field_invalid, limit_exceeded, required
from services.common.limits import (
    AGENT_INPUT_BYTES_MAX,
    AGENT_MEDIA_MAX,
    AGENT_MEMBERS_MAX,
    AGENT_SPEC_BYTES_MAX,
)
from services.common.scopes import parse_scope
from services.runtime.agents.schemas import Schema
from services.runtime.agents.situation import Limits

TYPES = {
    "llm": "A model with instructions, tools and a conversation.",
    "basic": "Repeats what it is told; for tests.",
    "tool-orchestrator": "An agent of type llm that may call every tool and chooses words closely.",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_TEMPERATURE_MAX = 2.0
_NESTED_MAX = 10


def check_name(name: str, field: str) -> None:
    """Refuse what cannot be an agent's name.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not name:
        raise required(field)
    if not _NAME.fullmatch(name):
        raise field_invalid(
            field, "must be 1 to 64 letters, digits, '_' and '-', and begin with one of the former"
        )


def check_spec(spec: agent_pb2.AgentSpec, field: str = "agent.spec", *, depth: int = 0) -> None:
    """Refuse what cannot be an agent.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED, SCOPE_INVALID.
    """
    check_name(spec.name, f"{field}.name")
    if not depth and (size := spec.ByteSize()) > AGENT_SPEC_BYTES_MAX:
        raise limit_exceeded(field, size, AGENT_SPEC_BYTES_MAX, "bytes")
    if depth > _NESTED_MAX:
        raise limit_exceeded(f"{field} (depth)", depth, _NESTED_MAX, "levels")
    if spec.type not in ("", *TYPES):
        raise field_invalid(f"{field}.type", f"must be one of {', '.join(TYPES)}")
    if spec.HasField("composite"):
        _check_composite(spec, field, depth)
    elif spec.type != "basic" and not spec.model.strip():
        raise required(f"{field}.model")
    _check_numbers(spec, field)
    Limits.of(spec.limits, None)
    if spec.answer_schema:
        Schema(spec.answer_schema, f"{field}.answer_schema")
    if spec.memory.scope:
        parse_scope(spec.memory.scope)
    for number, one in enumerate(spec.agents, start=1):
        check_ref(one.agent, f"{field}.agents[{number}].agent", depth=depth + 1)


def check_ref(ref: agent_pb2.AgentRef, field: str, *, depth: int = 0) -> None:
    """Refuse what refers to no agent.

    Raises:
        ServiceError: as `check_spec`.
    """
    match ref.WhichOneof("agent"):
        case "name":
            check_name(ref.name, f"{field}.name")
        case "spec":
            check_spec(ref.spec, f"{field}.spec" if depth else "agent.spec", depth=depth)
        case _:
            raise required(field)


def check_input(given: agent_pb2.AgentInput) -> None:
    """Refuse an input that asks nothing.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if not given.text.strip() and not given.media:
        raise required("input.text")
    size = len(given.text.encode()) + given.parameters.ByteSize()
    if size > AGENT_INPUT_BYTES_MAX:
        raise limit_exceeded("input", size, AGENT_INPUT_BYTES_MAX, "bytes")
    if len(given.media) > AGENT_MEDIA_MAX:
        raise limit_exceeded("input.media", len(given.media), AGENT_MEDIA_MAX)
    for number, media in enumerate(given.media, start=1):
        if not media.mime_type.startswith("image/") or not media.data:
            raise field_invalid(f"input.media[{number}]", "must be an image that is not empty")


def _check_composite(spec: agent_pb2.AgentSpec, field: str, depth: int) -> None:
    composite, place = spec.composite, f"{field}.composite"
    if not composite.strategy:
        raise required(f"{place}.strategy")
    if not composite.agents:
        raise required(f"{place}.agents")
    if len(composite.agents) > AGENT_MEMBERS_MAX:
        raise limit_exceeded(f"{place}.agents", len(composite.agents), AGENT_MEMBERS_MAX)
    if not 0 <= composite.threshold <= 1:
        raise field_invalid(f"{place}.threshold", "must be 0 to 1")
    for number, ref in enumerate(composite.agents, start=1):
        check_ref(ref, f"{place}.agents[{number}]", depth=depth + 1)
    if composite.HasField("fallback"):
        check_ref(composite.fallback, f"{place}.fallback", depth=depth + 1)
    names = [ref.name or ref.spec.name for ref in composite.agents]
    if composite.strategy == agent_pb2.COMPOSITE_STRATEGY_ROUTED:
        if len(set(names)) < len(names):
            raise field_invalid(f"{place}.agents", "must differ in name, so that one can be chosen")
        if not (composite.router_function or composite.router_model or spec.model):
            raise required(f"{place}.router_model")


def _check_numbers(spec: agent_pb2.AgentSpec, field: str) -> None:
    if spec.HasField("temperature") and not 0 <= spec.temperature <= _TEMPERATURE_MAX:
        raise field_invalid(f"{field}.temperature", f"must be 0 to {_TEMPERATURE_MAX:g}")
    if spec.HasField("top_p") and not 0 < spec.top_p <= 1:
        raise field_invalid(f"{field}.top_p", "must be over 0 and at most 1")
    for name in ("max_conversation_length", "max_conversation_tokens"):
        if getattr(spec, name) < 0:
            raise field_invalid(f"{field}.{name}", "must not be negative")
    if not math.isfinite(spec.memory.min_score):
        raise field_invalid(f"{field}.memory.min_score", "must be a finite number")
