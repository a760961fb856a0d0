"""Short ways to write a tool's JSON Schema."""

from __future__ import annotations

from typing import Any

from services.runtime.toolbox.model import Schema


def text(description: str, /, **more: Any) -> Schema:
    """A string."""
    return {"type": "string", "description": description, **more}


def choice(description: str, /, *values: str, **more: Any) -> Schema:
    """One of these strings."""
    return {"enum": list(values), "description": description, **more}


def whole(description: str, /, **more: Any) -> Schema:
    """A whole number; what comes of Lua may be a float with no fraction."""
    return {"type": "integer", "description": description, **more}


def number(description: str, /, **more: Any) -> Schema:
    """A number."""
    return {"type": "number", "description": description, **more}


def flag(description: str, /, **more: Any) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": description, **more}


def listing(description: str, items: Schema, /, **more: Any) -> Schema:
    """A list of such things."""
    return {"type": "array", "items": items, "description": description, **more}


def mapping(description: str, values: Schema, /, **more: Any) -> Schema:
    """Such things by name."""
    return {
        "type": "object",
        "additionalProperties": values,
        "description": description,
        **more,
    }


def record(
    description: str = "", required: tuple[str, ...] = (), /, **properties: Schema
) -> Schema:
    """An object with these fields, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **({"description": description} if description else {}),
    }


def one_of(*schemas: Schema) -> Schema:
    """What fits any of these, such as the results of several operations."""
    return {"anyOf": list(schemas)}


def anything(description: str, /, **more: Any) -> Schema:
    """Any value."""
    return {"description": description, **more}
