"""ToolService: a request into an execution, its outcome into an answer."""

from __future__ import annotations

import json
import time

from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import tool_pb2, tool_pb2_grpc

from services.common.context import current_context
from services.common.erasure import Erased, erasure_messages
from services.common.errors import Reason, ServiceError, required
from services.common.paging import PageTokens, page_size
from services.common.values import fill_map, map_to_python, to_value
from services.runtime.claims import current_claim
from services.runtime.toolbox.model import Outcome
from services.runtime.tools.entry import Entry
from services.runtime.tools.toolbox import Toolbox


class ToolServicer(tool_pb2_grpc.ToolServiceServicer):
    """Answers from one toolbox, for callers of the door and for scripts alike."""

    def __init__(self, toolbox: Toolbox, page_tokens: PageTokens) -> None:
        self._toolbox = toolbox
        self._page_tokens = page_tokens

    async def ListTools(  # noqa: N802  (the contract's name)
        self, request: tool_pb2.ListToolsRequest, context: object
    ) -> tool_pb2.ListToolsResponse:
        """A page of tools."""
        del context
        tenant = current_context().tenant
        bound_to = f"ListTools\0{tenant}\0{request.category}\0{request.query}"
        after = ""
        if request.page_token:
            after = self._page_tokens.open(request.page_token, bound_to).decode()
        entries = await self._toolbox.entries()
        later = (entry for name, entry in entries.items() if name > after)
        fitting = [entry for entry in later if _fits(entry, request)]
        page = fitting[: page_size(request.page_size)]
        token = ""
        if len(page) < len(fitting):
            token = self._page_tokens.seal(bound_to, page[-1].name.encode())
        return tool_pb2.ListToolsResponse(tools=map(_tool, page), next_page_token=token)

    async def GetTool(  # noqa: N802
        self, request: tool_pb2.GetToolRequest, context: object
    ) -> tool_pb2.GetToolResponse:
        """One tool."""
        del context
        if not request.name:
            raise required("name")
        return tool_pb2.GetToolResponse(tool=_tool(await self._toolbox.find(request.name)))

    async def ExecuteTool(  # noqa: N802
        self, request: tool_pb2.ExecuteToolRequest, context: object
    ) -> tool_pb2.ExecuteToolResponse:
        """Execute one."""
        del context
        if not request.name:
            raise required("name")
        begin = time.monotonic()
        outcome = await self._toolbox.execute(
            request.name,
            map_to_python(request.arguments.fields, "arguments"),
            current_context(),
            timeout_s=_timeout_s(request),
            session_id=request.session_id,
            claim=current_claim(),
        )
        return _answer(outcome, time.monotonic() - begin)

    async def PurgeFiles(  # noqa: N802
        self, request: tool_pb2.PurgeFilesRequest, context: object
    ) -> tool_pb2.PurgeFilesResponse:
        """Erase what the tenant has."""
        del request, context
        removed, left = await self._toolbox.purge_files(current_context().tenant)
        erased = Erased("files and folders of tools", removed, left)
        return tool_pb2.PurgeFilesResponse(
            deleted_count=removed, erasures=erasure_messages([erased])
        )


def _timeout_s(request: tool_pb2.ExecuteToolRequest) -> float | None:
    if not request.HasField("timeout"):
        return None
    return float(request.timeout.ToMicroseconds() / 1e6)


def _fits(entry: Entry, request: tool_pb2.ListToolsRequest) -> bool:
    words = request.query.casefold()
    told = f"{entry.name} {entry.description}".casefold()
    return request.category in ("", entry.category) and words in told


def _tool(entry: Entry) -> tool_pb2.Tool:
    return tool_pb2.Tool(
        name=entry.name,
        old_names=entry.old_names,
        description=entry.description,
        version=entry.version,
        category=entry.category,
        level=f"TOOL_LEVEL_{entry.level.upper()}",
        parameters_schema=json.dumps(entry.parameters),
        result_schema=json.dumps(entry.result),
        notes=entry.notes,
        unavailable=entry.unavailable,
    )


def _answer(outcome: Outcome, elapsed_s: float) -> tool_pb2.ExecuteToolResponse:
    try:
        return _told(outcome, elapsed_s)
    except (TypeError, ValueError, RecursionError):
        # Such as a number that is not finite, or of more than 64 bits.
        text = "What the tool answered cannot be told: it holds a value that no message can."
        raise ServiceError(Reason.TOOL_FAILED, text) from None


def _told(outcome: Outcome, elapsed_s: float) -> tool_pb2.ExecuteToolResponse:
    elapsed = Duration()
    elapsed.FromMicroseconds(round(elapsed_s * 1e6))
    answer = tool_pb2.ExecuteToolResponse(
        success=outcome.failure is None,
        operation=outcome.operation,
        message=outcome.message,
        result=to_value(outcome.result),
        elapsed=elapsed,
    )
    fill_map(answer.metadata.fields, outcome.metadata)
    if outcome.failure is not None:
        answer.failure.message = outcome.failure.message
        answer.failure.code = outcome.failure.code
        fill_map(answer.failure.details.fields, outcome.failure.details)
    return answer
