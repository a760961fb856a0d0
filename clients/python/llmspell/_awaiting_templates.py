"""Templates of the asyncio client; `_blocking_templates` says more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmspell import _templates
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncTemplateCalls(AsyncCaller):
    """Agents and workflows that are ready to use."""

    async def list_templates(self, *, category: str = "", query: str = "") -> list[t.Template]:
        """Templates in order of id, without their scripts."""
        return await self._unary(_templates.list_templates(category, query))

    async def get_template(self, template_id: str) -> t.Template:
        """One template, with its script."""
        return await self._unary(_templates.get_template(template_id))

    async def execute_template(
        self,
        template_id: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        session_id: str = "",
        execution_s: float | None = None,
    ) -> t.TemplateResult:
        """Execute a template."""
        given = _templates.execute(template_id, parameters or {}, session_id, execution_s)
        return await self._unary(given)

    async def estimate_template(
        self, template_id: str, parameters: Mapping[str, Any] | None = None
    ) -> t.TemplateEstimate:
        """What a template would cost."""
        return await self._unary(_templates.estimate(template_id, parameters or {}))
