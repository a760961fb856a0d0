"""Templates of the blocking client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmspell import _templates
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class TemplateCalls(BlockingCaller):
    """Agents and workflows that are ready to use."""

    def list_templates(self, *, category: str = "", query: str = "") -> list[t.Template]:
        """Templates in order of id, without their scripts.

        Args:
            category: Only those of this one, in whatever case.
            query: Only those with this text in id, name, description or tags.
        """
        return self._unary(_templates.list_templates(category, query))

    def get_template(self, template_id: str) -> t.Template:
        """One template, with its script.

        Raises:
            NotFound: TEMPLATE_NOT_FOUND.
        """
        return self._unary(_templates.get_template(template_id))

    def execute_template(
        self,
        template_id: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        session_id: str = "",
        execution_s: float | None = None,
    ) -> t.TemplateResult:
        """Execute a template.

        Args:
            template_id: Which.
            parameters: By name.
            session_id: Session whose execution this is.
            execution_s: Seconds that it may take; None: 300.

        Raises:
            InvalidArgument: where the parameters do not fit.
            NotFound: TEMPLATE_NOT_FOUND.
            FailedPrecondition: SCRIPT_FAILED where it could not do it.
        """
        given = _templates.execute(template_id, parameters or {}, session_id, execution_s)
        return self._unary(given)

    def estimate_template(
        self, template_id: str, parameters: Mapping[str, Any] | None = None
    ) -> t.TemplateEstimate:
        """What a template would cost.

        Raises:
            InvalidArgument: where the parameters do not fit.
            NotFound: TEMPLATE_NOT_FOUND.
        """
        return self._unary(_templates.estimate(template_id, parameters or {}))
