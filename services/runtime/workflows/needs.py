"""What a workflow needs of whoever began it, so that nobody else can go on with it."""

from __future__ import annotations

from typing import Any, Protocol

from google.protobuf.message import Message
from llmspell.v1 import agent_pb2, workflow_pb2

from services.common.errors import ServiceError
from services.common.limits import WORKFLOW_DEPTH_MAX
from services.runtime.workflows.model import (
    AgentAction,
    Asked,
    Classified,
    FunctionAction,
    Workflow,
    WorkflowAction,
)
from services.runtime.workflows.validate import named_in


class FindsWorkflows(Protocol):
    """Knows registered workflows."""

    async def workflow(self, name: str) -> Workflow:
        """One by name; WORKFLOW_NOT_FOUND."""


async def needs_of(workflow: Workflow, known: FindsWorkflows, depth: int = 0) -> bool:
    """Whether it calls functions of its caller, somewhere within."""
    for named in named_in(workflow):
        match named.what:
            case FunctionAction() | Asked():
                return True
            case AgentAction(agent=agent) | Classified(agent=agent) if _has_functions(agent.spec):
                return True
            case WorkflowAction(name=name) if name and depth < WORKFLOW_DEPTH_MAX:
                try:
                    inner = await known.workflow(name)
                except ServiceError:
                    continue  # it fails when it comes to that
                if await needs_of(inner, known, depth + 1):
                    return True
    return False


def _has_functions(spec: agent_pb2.AgentSpec) -> bool:
    """Whether an agent may ask its caller, itself or through another."""
    if spec.functions or spec.composite.router_function:
        return True
    within = [*(one.agent for one in spec.agents), *spec.composite.agents, spec.composite.fallback]
    return any(one.HasField("spec") and _has_functions(one.spec) for one in within)


def without_keys(message: workflow_pb2.Workflow) -> tuple[workflow_pb2.Workflow, bool]:
    """A workflow as it may be kept: no agent in it has a provider's key; and whether one had."""
    kept = workflow_pb2.Workflow()
    kept.CopyFrom(message)
    return kept, _clear_keys(kept)


def _clear_keys(message: Any) -> bool:
    found = False
    if isinstance(message, agent_pb2.AgentSpec) and message.api_key:
        message.ClearField("api_key")
        found = True
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        inner: list[Message] = list(value) if field.is_repeated else [value]
        for one in inner:
            found = _clear_keys(one) or found
    return found
