"""Tools as callers of the door reach them: through the host's hooks, as scripts do."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message
from llmspell.v1 import tool_pb2, tool_pb2_grpc

from services.common.context import current_context
from services.runtime import marshal
from services.runtime.bridge import error_from
from services.runtime.handling import Handling
from services.runtime.runs import Call
from services.runtime.servicers.tool import ToolServicer

_SERVICE = "llmspell.v1.ToolService"

M = TypeVar("M", bound=Message)


class HookedTools(tool_pb2_grpc.ToolServiceServicer):
    """What scripts may call too, each with hooks around it and an event of what was executed."""

    def __init__(self, tools: ToolServicer, handling: Handling) -> None:
        """`tools`: answers what is the operator's own; `handling` knows it behind the hooks."""
        self._tools = tools
        self._handling = handling

    async def ListTools(  # noqa: N802  (the contract's name)
        self, request: tool_pb2.ListToolsRequest, context: object
    ) -> tool_pb2.ListToolsResponse:
        """A page of tools."""
        del context
        return await self._through("ListTools", request, tool_pb2.ListToolsResponse())

    async def GetTool(  # noqa: N802
        self, request: tool_pb2.GetToolRequest, context: object
    ) -> tool_pb2.GetToolResponse:
        """One tool."""
        del context
        return await self._through("GetTool", request, tool_pb2.GetToolResponse())

    async def ExecuteTool(  # noqa: N802
        self, request: tool_pb2.ExecuteToolRequest, context: object
    ) -> tool_pb2.ExecuteToolResponse:
        """Execute one."""
        del context
        session = request.session_id
        answer = tool_pb2.ExecuteToolResponse()
        return await self._through("ExecuteTool", request, answer, session_id=session)

    async def PurgeFiles(  # noqa: N802
        self, request: tool_pb2.PurgeFilesRequest, context: object
    ) -> tool_pb2.PurgeFilesResponse:
        """Erase a tenant's files, and end what goes on of it; no hook has a say in it."""
        self._handling.executions.end_tenant(current_context().tenant)
        return await self._tools.PurgeFiles(request, context)

    async def _through(self, name: str, request: Message, answer: M, *, session_id: str = "") -> M:
        method = f"{_SERVICE}/{name}"
        return await through_hooks(self._handling, method, request, answer, session_id=session_id)


async def through_hooks(
    handling: Handling, method: str, request: Message, answer: M, *, session_id: str = ""
) -> M:
    """A call of the door's, answered as a script's would be.

    Args:
        handling: Knows hooks and servicers.
        method: Such as `llmspell.v1.ToolService/GetTool`.
        request: Its request.
        answer: An empty message of its answer's type; it is filled.
        session_id: Session whose call it is; empty: none.

    Raises:
        ServiceError: What the servicer, or a hook, refuses it with.
    """
    call = Call(method, None, marshal.read(request))
    async with handling.beside_runs(current_context(), session_id) as hooked:
        reply = await hooked(call)
    if not reply.ok:
        raise error_from(reply.tree)
    marshal.fill(answer, reply.tree)
    return answer
