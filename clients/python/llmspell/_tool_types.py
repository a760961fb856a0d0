"""Tools, as users see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    """A named function with a schema."""

    name: str
    """Such as `text-manipulator`."""
    description: str
    """One sentence."""
    category: str
    """Such as `utility`."""
    level: str
    """`safe`, `restricted` or `privileged`: what its caller must hold."""
    version: str
    """Such as `1.0.0`."""
    parameters: Mapping[str, Any]
    """JSON Schema of its arguments."""
    result: Mapping[str, Any]
    """JSON Schema of its result."""
    old_names: tuple[str, ...] = ()
    """Names under which scripts of old know it."""
    notes: str = ""
    """What is special about it."""
    unavailable: str = ""
    """Why it cannot be executed there; empty where it can."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of an execution."""

    success: bool
    """Whether it did what it was asked."""
    result: Any
    """What came of it, as its schema says."""
    operation: str = ""
    """What it did, such as `encode`."""
    message: str = ""
    """One sentence for people."""
    failure_message: str = ""
    """Why not, where `success` is false."""
    failure_code: str = ""
    """The same as a word, such as `division_by_zero`."""
    failure_details: Mapping[str, Any] = field(default_factory=dict)
    """More of it."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the execution."""
    elapsed_s: float = 0.0
    """Seconds that it took."""
