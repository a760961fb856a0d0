"""An item's JSON object, opened no further than is needed.

What nobody asks for stays the bytes it was: a number keeps all its digits, and nothing is spent on
it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from services.state.migrations.model import FieldType

Document = dict[str, Any]
"""Names to `Raw`, or to documents where one was opened."""

_LEVEL = msgspec.json.Decoder(dict[str, Raw])
_ENCODER = msgspec.json.Encoder()
_KINDS = {
    ord('"'): "string",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord("["): "array",
    ord("{"): "object",
    ord("n"): "null",
}
_TYPES = {
    FieldType.STRING: {"string"},
    FieldType.INTEGER: {"integer"},
    FieldType.NUMBER: {"integer", "number"},
    FieldType.BOOLEAN: {"boolean"},
    FieldType.ARRAY: {"array"},
    FieldType.OBJECT: {"object"},
}


class Unfit(Exception):  # noqa: N818  (of a document: neither a fault nor the process's error)
    """A document breaks a rule at a path."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path} {rule}".strip())
        self.path = path
        self.rule = rule


def open_document(content: bytes) -> Document:
    """A JSON object's fields.

    Raises:
        Unfit: it is none.
    """
    try:
        return _LEVEL.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise Unfit("", "must be a JSON object") from None


def close_document(document: Document) -> bytes:
    """As bytes again."""
    return _ENCODER.encode(document)


def find(document: Document, path: str) -> bytes | None:
    """The JSON at a path; None where there is nothing."""
    names = path.split(".")
    level = _level(document, names[:-1], make=False)
    value = None if level is None else level.get(names[-1])
    if value is None:
        return None
    return bytes(value) if isinstance(value, Raw) else close_document(value)


def put(document: Document, path: str, content: bytes) -> None:
    """Put JSON at a path; objects on the way are made.

    Raises:
        Unfit: something else is on the way.
    """
    names = path.split(".")
    level = _level(document, names[:-1], make=True)
    assert level is not None, "it is made where it is missing"
    level[names[-1]] = Raw(content)


def take(document: Document, path: str) -> bytes | None:
    """Remove what is at a path; what it was."""
    names = path.split(".")
    content = find(document, path)
    if content is not None:
        level = _level(document, names[:-1], make=False)
        assert level is not None, "something was found in it"
        del level[names[-1]]
    return content


def kind_of(content: bytes) -> str:
    """What JSON it is: a type's name, or `null`. A whole number has no fraction and no exponent."""
    kind = _KINDS.get(content[0])
    if kind is not None:
        return kind
    return "number" if any(mark in content for mark in b".eE") else "integer"


def has_type(content: bytes, wanted: FieldType) -> bool:
    """Whether JSON is of a type."""
    return wanted is FieldType.ANY or kind_of(content) in _TYPES[wanted]


def unknown_path(document: Document, known: frozenset[str], inside: str = "") -> str | None:
    """The first path that is not known; an object may have any names where none in it is known."""
    for name, value in document.items():
        path = f"{inside}{name}"
        below = [each for each in known if each.startswith(f"{path}.")]
        if not below:
            if path not in known:
                return path
        else:
            found = _unknown_below(value, known, path)
            if found:
                return found
    return None


def _unknown_below(value: Any, known: frozenset[str], path: str) -> str | None:
    level = value if isinstance(value, dict) else _opened(value)
    return None if level is None else unknown_path(level, known, f"{path}.")


def _level(document: Document, names: list[str], *, make: bool) -> Document | None:
    """The object at a path, opened; None where it is absent, or is none and none is to be made."""
    level = document
    for number, name in enumerate(names):
        value = level.get(name)
        if value is None:
            if not make:
                return None
            value = level[name] = {}
        elif isinstance(value, Raw):
            opened = _opened(value)
            if opened is None:
                if make:
                    raise Unfit(".".join(names[: number + 1]), "must be an object")
                return None
            value = level[name] = opened
        level = value
    return level


def _opened(value: Raw) -> Document | None:
    return _LEVEL.decode(value) if bytes(value).startswith(b"{") else None
