"""A template as its file tells it: TOML in the comment that the file begins with, then the script.

The comment is `--[==[ template`, TOML, `]==]`. So the file is a script like any other: whoever
copies it has all of it, and may run it with its parameters as JSON in the argument `params`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import msgspec

from services.runtime.toolbox.model import Arguments
from services.runtime.tools.arguments import ArgumentRules

_HEAD = re.compile(r"\A--\[==\[ template\n(.*?)\n\]==\]\n", re.DOTALL)
CATEGORIES = ("Analysis", "Chat", "CodeGen", "Content", "Document", "Research", "Workflow")
Kind = Literal["string", "integer", "number", "boolean", "array", "object"]


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A parameter."""

    name: str
    type: Kind
    description: str
    required: bool = False
    default: Any = None
    """None: there is none; the script reads nil."""
    min: float | None = None
    max: float | None = None
    min_length: int | None = None
    """Of characters or entries."""
    max_length: int | None = None
    pattern: str = ""
    allowed: Sequence[Any] = ()

    def schema(self) -> dict[str, Any]:
        """As JSON Schema; null stands for what is not given."""
        kind = self.type if self.required else [self.type, "null"]
        counted = "Items" if self.type == "array" else "Length"
        rules = {
            "type": kind,
            "description": self.description,
            "default": self.default,
            "minimum": self.min,
            "maximum": self.max,
            f"min{counted}": self.min_length,
            f"max{counted}": self.max_length,
            "pattern": self.pattern or None,
            "enum": [*self.allowed, *([] if self.required else [None])] if self.allowed else None,
        }
        return {name: rule for name, rule in rules.items() if rule is not None}


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What its tokens depend on."""

    base_tokens: int
    """In any case."""
    confidence: float
    """0 to 1."""
    per: Mapping[str, float] = {}
    """Parameter → tokens for each of its units: of a number 1, of a list an entry, of text a
    character."""
    seconds_per_1000_tokens: float = 10.0


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a template but its script."""

    id: str
    name: str
    description: str
    category: str
    version: str
    requires: Sequence[str]
    tags: Sequence[str]
    result_schema: str
    """JSON Schema of `result`, as text."""
    parameters: Sequence[Parameter]
    author: str = "LLMSpell"
    estimate: Estimate | None = None
    """None: it asks no model."""


COMMON = (
    Parameter(
        name="session_id", type="string", description="Session that it belongs to.", max_length=128
    ),
    Parameter(
        name="memory_enabled",
        type="boolean",
        description="Whether agents go on with the conversation of the session.",
        default=True,
    ),
    Parameter(
        name="context_budget",
        type="integer",
        description="Tokens of that conversation that a model is shown.",
        default=2000,
        min=100,
        max=1_000_000,
    ),
    Parameter(
        name="provider_name",
        type="string",
        description="Provider that is used in the place of the one that `model` names.",
        max_length=64,
    ),
)
"""Parameters of every template, after its own."""


@dataclass(frozen=True, slots=True)
class Template:
    """One template."""

    head: Head
    source: str
    """The whole file."""
    parameters: tuple[Parameter, ...]
    """Its own, then the common ones."""
    rules: ArgumentRules
    """What these must be."""

    @classmethod
    def of(cls, source: str) -> Self:
        """Read a file.

        Raises:
            ValueError: It has no head, or one that is not as it must be.
        """
        found = _HEAD.match(source)
        if found is None:
            raise ValueError("a template begins with --[==[ template")
        head = msgspec.convert(tomllib.loads(found[1]), Head)
        if head.category not in CATEGORIES:
            raise ValueError(f"category {head.category!r} is none of {', '.join(CATEGORIES)}")
        json.loads(head.result_schema)
        own = {parameter.name for parameter in head.parameters}
        common = (parameter for parameter in COMMON if parameter.name not in own)
        parameters = (*head.parameters, *common)
        return cls(head, source, parameters, _rules(head.id, parameters))

    def accept(self, parameters: Mapping[str, Any]) -> Arguments:
        """The parameters with defaults, as they must be.

        Raises:
            ServiceError: FIELD_INVALID, FIELD_REQUIRED naming the parameter.
        """
        accepted = self.rules.accept(parameters)
        model, provider = accepted.get("model"), accepted.get("provider_name")
        if model and provider:
            accepted["model"] = f"{provider}/{model.partition('/')[2] or model}"
        return accepted

    def fits(self, category: str, query: str) -> bool:
        """Whether it is of a category and has a text in it, in whatever case; empty: any."""
        head = self.head
        told = " ".join((head.id, head.name, head.description, *head.tags)).casefold()
        return category.casefold() in ("", head.category.casefold()) and query.casefold() in told


def _rules(name: str, parameters: Sequence[Parameter]) -> ArgumentRules:
    schema = {
        "type": "object",
        "properties": {each.name: each.schema() for each in parameters},
        "required": [each.name for each in parameters if each.required],
        "additionalProperties": False,
    }
    return ArgumentRules.of(name, schema)
