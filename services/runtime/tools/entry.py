"""A tool as the host knows it: all but its body, or a body that runs here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.common.context import CallContext
from services.runtime.toolbox.model import Arguments, Level, Need, Outcome, ToolLimits
from services.runtime.tools.arguments import ArgumentRules


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCall:
    """What a tool that runs here is told of its call."""

    context: CallContext
    """Who calls, for which tenant."""
    timeout_s: float
    """Seconds that it may take."""
    session_id: str
    """Session whose call it is; empty: none."""
    request_id: str = ""
    """What it asks others to change goes by ids made of this; empty: by none."""


HostBody = Callable[[Arguments, HostCall], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tool."""

    name: str
    description: str
    category: str
    level: Level
    parameters: Mapping[str, Any]
    result: Mapping[str, Any]
    old_names: tuple[str, ...]
    synonyms: Mapping[str, str]
    needs: frozenset[Need]
    limits: ToolLimits
    version: str
    notes: str
    unavailable: str
    rules: ArgumentRules
    """What its arguments must be."""
    body: HostBody | None = None
    """None: it runs in a jailed process."""

    @classmethod
    def of(cls, told: Mapping[str, Any], body: HostBody | None = None) -> Entry:
        """An entry of what `model.described` wrote."""
        known = {**told, "body": body}
        known["level"] = Level(told["level"])
        known["needs"] = frozenset(Need(need) for need in told["needs"])
        known["limits"] = ToolLimits(**told["limits"])
        known["old_names"] = tuple(told["old_names"])
        known["rules"] = ArgumentRules.of(told["name"], told["parameters"], told["synonyms"])
        return cls(**known)
