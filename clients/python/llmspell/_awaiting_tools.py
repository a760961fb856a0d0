"""Tools of the asyncio client; `_blocking_tools` says more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from llmspell import _tools
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncToolCalls(AsyncCaller):
    """Named functions with a schema, executed beside the tenant's files."""

    def list_tools(self, *, category: str = "", query: str = "") -> AsyncIterator[t.Tool]:
        """Tools in order of name; pages come as they are needed."""
        return self._entries(_tools.list_tools(category, query))

    async def get_tool(self, name: str) -> t.Tool:
        """A tool by its name or an old one."""
        return await self._unary(_tools.get_tool(name))

    async def execute_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        session_id: str = "",
        execution_s: float | None = None,
    ) -> t.ToolResult:
        """Execute a tool."""
        given = _tools.execute(name, arguments or {}, session_id, execution_s)
        return await self._unary(given)
