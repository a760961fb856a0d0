"""Tools of the blocking client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmspell import _tools
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class ToolCalls(BlockingCaller):
    """Named functions with a schema, executed beside the tenant's files."""

    def list_tools(self, *, category: str = "", query: str = "") -> Iterator[t.Tool]:
        """Tools in order of name; pages come as they are needed.

        Args:
            category: Only tools of this one.
            query: Only tools with this text in name or description.
        """
        return self._entries(_tools.list_tools(category, query))

    def get_tool(self, name: str) -> t.Tool:
        """A tool by its name or an old one.

        Raises:
            NotFound: TOOL_NOT_FOUND.
        """
        return self._unary(_tools.get_tool(name))

    def execute_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        session_id: str = "",
        execution_s: float | None = None,
    ) -> t.ToolResult:
        """Execute a tool.

        Args:
            name: Its name or an old one.
            arguments: By name, as its schema says.
            session_id: Session whose call this is.
            execution_s: Seconds that it may take; None: what it is given by default.

        Raises:
            InvalidArgument: where the arguments do not fit.
            NotFound: TOOL_NOT_FOUND, FILE_NOT_FOUND.
            PermissionDenied: where its level needs more, or a path or an address is refused.
        """
        given = _tools.execute(name, arguments or {}, session_id, execution_s)
        return self._unary(given)
