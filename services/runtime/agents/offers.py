"""What an agent may call: tools of this system, functions of its caller, other agents."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from llmspell.v1 import agent_pb2

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import AGENT_TOOLS_MAX
from services.runtime.agents.schemas import NO_ARGUMENTS, Schema
from services.runtime.agents.situation import Situation
from services.runtime.bridge import error_from
from services.runtime.execution import FUNCTION, TOOL
from services.runtime.providers.model import ToolOffer
from services.runtime.runs import Call
from services.runtime.tools.entry import Entry
from services.runtime.tools.toolbox import PERMISSIONS

EXECUTE_TOOL = "llmspell.v1.ToolService/ExecuteTool"
ALL = "*"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_AGENT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "What it is asked."}},
    "required": ["input"],
    "additionalProperties": False,
}

AsksAgent = Callable[[agent_pb2.AgentRef, str, Situation], Awaitable[str]]
"""Has another agent answer a text, in its situation."""


class KnowsTools(Protocol):
    """The tools of this deployment; `tools.toolbox.Toolbox` knows them."""

    async def entries(self) -> dict[str, Entry]:
        """Every tool by name, in order."""
        ...

    async def find(self, name: str) -> Entry:
        """A tool by its name or an old one; TOOL_NOT_FOUND."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that the model may call."""

    tool: ToolOffer
    accept: Callable[[dict[str, Any]], object]
    """Checks arguments; raises a ServiceError that the model is told."""
    make: Callable[[dict[str, Any], Situation], Awaitable[Any]]
    """Makes the call where it is made; gives a plain value."""


class Offers:
    """Finds out what a model is offered."""

    def __init__(self, toolbox: KnowsTools, asks_agent: AsksAgent) -> None:
        self._toolbox = toolbox
        self._asks_agent = asks_agent

    async def of(self, spec: agent_pb2.AgentSpec, situation: Situation) -> dict[str, Offer]:
        """By name.

        Raises:
            ServiceError: TOOL_NOT_FOUND, FIELD_INVALID where two have one name, LIMIT_EXCEEDED.
        """
        offers = [_tool(entry) for entry in await self._entries(spec, situation)]
        offers += [
            _function(one, f"agent.spec.functions[{number}]")
            for number, one in enumerate(spec.functions, start=1)
        ]
        offers += [
            self._agent(one, f"agent.spec.agents[{number}]")
            for number, one in enumerate(spec.agents, start=1)
        ]
        if len(offers) > AGENT_TOOLS_MAX:
            raise limit_exceeded("agent.spec.tools", len(offers), AGENT_TOOLS_MAX)
        found: dict[str, Offer] = {}
        for offer in offers:
            if found.setdefault(offer.tool.name, offer) is not offer:
                rule = f"must differ in name; {offer.tool.name} is there twice"
                raise field_invalid("agent.spec: tools, functions and agents", rule)
        return found

    async def _entries(self, spec: agent_pb2.AgentSpec, situation: Situation) -> list[Entry]:
        named = dict.fromkeys(name for name in spec.tools if name != ALL)
        found = {entry.name: entry for entry in [await self._toolbox.find(one) for one in named]}
        if ALL in spec.tools or (spec.type == "tool-orchestrator" and not spec.tools):
            for name, entry in (await self._toolbox.entries()).items():
                if _may(situation, entry):
                    found.setdefault(name, entry)
        return list(found.values())

    def _agent(self, given: agent_pb2.AgentAsTool, field: str) -> Offer:
        name = given.agent.name or given.agent.spec.name
        tool_name = given.tool_name or f"{name}_tool"
        _check_name(tool_name, f"{field}.tool_name")
        description = given.description or given.agent.spec.description or f"Asks {name}."

        async def make(arguments: dict[str, Any], here: Situation) -> str:
            return await self._asks_agent(given.agent, arguments["input"], here)

        offer = ToolOffer(name=tool_name, description=description, parameters=_AGENT_SCHEMA)
        return Offer(offer, _accept_input, make)


def _tool(entry: Entry) -> Offer:
    async def make(arguments: dict[str, Any], here: Situation) -> Any:
        return await execute_tool(entry.name, arguments, here)

    offer = ToolOffer(name=entry.name, description=entry.description, parameters=entry.parameters)
    return Offer(offer, entry.rules.accept, make)


async def execute_tool(name: str, arguments: dict[str, Any], situation: Situation) -> Any:
    """What a tool gives: as a call of the caller's own, or made by the caller itself.

    Raises:
        ServiceError: TOOL_FAILED where it does not succeed; whatever the call is refused with.
    """
    caller = situation.caller
    if caller.executes_tools:
        told = await situation.execution.ask(TOOL, name, arguments, situation.path)
        return _result(name, told) if isinstance(told, dict) and "success" in told else told
    asked: dict[str, Any] = {"name": name, "arguments": arguments}
    if caller.session_id:
        asked["session_id"] = caller.session_id
    call = Call(EXECUTE_TOOL, None, asked)
    reply = await caller.call(replace(call, claim=await situation.memo.claim(call)))
    if not reply.ok:
        raise error_from(reply.tree)
    return _result(name, reply.tree)


def _result(name: str, told: Any) -> Any:
    """Of an ExecuteToolResponse."""
    if told.get("success"):
        result = told.get("result")
        return told.get("message") if result is None else result
    failure = told.get("failure") or {}
    message = str(failure.get("message") or told.get("message") or "It failed.")
    raise ServiceError(Reason.TOOL_FAILED, message, tool=name)


def _function(given: agent_pb2.OfferedFunction, field: str) -> Offer:
    _check_name(given.name, f"{field}.name")
    text, place = given.parameters_schema, f"{field}.parameters_schema"
    schema = Schema(text, place) if text else None

    def accept(arguments: dict[str, Any]) -> None:
        fault = schema.fault(arguments) if schema is not None else ""
        if fault:
            raise field_invalid("arguments", f"do not fit: {fault}")

    async def make(arguments: dict[str, Any], here: Situation) -> Any:
        return await here.execution.ask(FUNCTION, given.name, arguments, here.path)

    parameters = schema.tree if schema is not None else NO_ARGUMENTS
    offer = ToolOffer(name=given.name, description=given.description, parameters=parameters)
    return Offer(offer, accept, make)


def _may(situation: Situation, entry: Entry) -> bool:
    """Whether the caller may execute it, and it can be."""
    needed, held = PERMISSIONS.get(entry.level), situation.caller.context.permissions
    return not entry.unavailable and (needed is None or needed in held or "*" in held)


def _accept_input(arguments: dict[str, Any]) -> None:
    if not isinstance(arguments.get("input"), str) or len(arguments) != 1:
        raise field_invalid("arguments", "must be an object with one text, `input`")


def _check_name(name: str, field: str) -> None:
    if not _NAME.fullmatch(name):
        raise field_invalid(field, "must be 1 to 64 letters, digits, '_' and '-'")
