"""What steps can name in a deployment, as validation asks for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from services.runtime.workflows.model import Workflow


class Known(Protocol):
    """Knows tools, agents, workflows, templates and methods, as the caller sees them."""

    async def tools(self) -> Sequence[str]:
        """Names of tools, old ones included."""

    async def tool_problem(self, name: str, arguments: Any) -> tuple[str, str] | None:
        """Field and what is wrong with a tool's arguments; None: nothing that can be seen."""

    def agent_problem(self, agent: Any) -> tuple[str, str] | None:
        """Field and what is wrong with an agent that is described; None: nothing."""

    async def has_agent(self, name: str) -> bool:
        """Whether an agent of the name is registered."""

    async def workflow(self, name: str) -> Workflow:
        """A registered workflow.

        Raises:
            ServiceError: WORKFLOW_NOT_FOUND.
        """

    async def templates(self) -> Sequence[str] | None:
        """Ids of templates; None: nobody knows them here."""

    def methods(self) -> Sequence[str]:
        """Methods that a step may call, without the package."""

    def request_problem(self, method: str, arguments: Any) -> tuple[str, str] | None:
        """Field and what is wrong with a method's arguments; None: nothing that can be seen."""


def near(name: str, known: Iterable[str]) -> str:
    """` Did you mean x?` where something of the kind is known, else nothing."""
    found = difflib.get_close_matches(name[:100], list(known), n=1)
    return f" Did you mean {found[0]}?" if found else ""
