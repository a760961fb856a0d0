"""ToolService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmspell._contract import Call, Page
from llmspell._tool_types import Tool, ToolResult
from llmspell._values import from_duration, from_fields, from_value, to_duration, to_map
from llmspell.v1 import tool_pb2 as pb

EXECUTION_TIMEOUT_S = 300.0
"""A tool ends by itself, at its own limit, which differs; this is the most that a call may take."""
_MARGIN_S = 5.0


def list_tools(category: str, query: str) -> Call[Page[Tool]]:
    """A page of tools."""
    return Call(
        pb.ListToolsRequest(category=category, query=query),
        lambda answer: Page([_tool(each) for each in answer.tools], answer.next_page_token),
    )


def get_tool(name: str) -> Call[Tool]:
    """One tool."""
    return Call(pb.GetToolRequest(name=name), lambda answer: _tool(answer.tool))


def execute(
    name: str, arguments: Mapping[str, Any], session_id: str, execution_s: float | None
) -> Call[ToolResult]:
    """Execute one."""
    request = pb.ExecuteToolRequest(
        name=name,
        arguments=to_map(arguments, "arguments"),
        session_id=session_id,
        timeout=to_duration(execution_s, "execution_s"),
    )
    timeout_s = EXECUTION_TIMEOUT_S
    if execution_s is not None:
        timeout_s = min(timeout_s, max(execution_s, 0.0) + _MARGIN_S)
    return Call(request, _result, timeout_s=timeout_s)


def _tool(message: pb.Tool) -> Tool:
    level = pb.ToolLevel.Name(message.level).removeprefix("TOOL_LEVEL_").lower()
    return Tool(
        name=message.name,
        description=message.description,
        category=message.category,
        level=level,
        version=message.version,
        parameters=json.loads(message.parameters_schema),
        result=json.loads(message.result_schema),
        old_names=tuple(message.old_names),
        notes=message.notes,
        unavailable=message.unavailable,
    )


def _result(answer: pb.ExecuteToolResponse) -> ToolResult:
    return ToolResult(
        success=answer.success,
        result=from_value(answer.result),
        operation=answer.operation,
        message=answer.message,
        failure_message=answer.failure.message,
        failure_code=answer.failure.code,
        failure_details=from_fields(answer.failure.details.fields),
        metadata=from_fields(answer.metadata.fields),
        elapsed_s=from_duration(answer, "elapsed") or 0.0,
    )
