"""Gives agents that name no model the one that the operator chose for their tenant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message
from llmspell.v1 import agent_pb2

from services.common.context import current_context
from services.common.standing import LooksUp


class DefaultModels:
    """Looked up where an agent names none, and only then."""

    def __init__(self, tenants: LooksUp) -> None:
        self._tenants = tenants

    async def fill(self, message: Message) -> None:
        """Give every agent in the message that lacks a model its tenant's; there may be none."""
        without = [spec for spec in _specs(message) if _lacks_model(spec)]
        if not without:
            return
        record = await self._tenants.get(current_context().tenant)
        for spec in without:
            spec.model = "" if record is None else record.default_provider


def _lacks_model(spec: agent_pb2.AgentSpec) -> bool:
    return not (spec.model.strip() or spec.HasField("composite") or spec.type == "basic")


def _specs(message: Message) -> Iterator[agent_pb2.AgentSpec]:
    """Every agent in a message, however deep; messages have been parsed, so that is bounded."""
    if isinstance(message, agent_pb2.AgentSpec):
        yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        parts: Any = [value] if isinstance(value, Message) else value
        for each in parts:
            if isinstance(each, Message):  # a map gives its keys
                yield from _specs(each)
