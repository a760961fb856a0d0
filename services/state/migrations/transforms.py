"""What each transform does to one document.

No value is ever overwritten in silence: a target that is there already is refused. What a
transform is to work on and is absent is let be; whether it may be absent, the schema says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from services.state.migrations.documents import Document, Unfit, find, kind_of, put, take
from services.state.migrations.model import (
    Convert,
    Copy,
    Custom,
    Default,
    FieldType,
    Merge,
    Remove,
    Rename,
    Split,
    Transform,
)

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,300})(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?")
_DIGITS_MAX = 40


class CustomTransform(Protocol):
    """Runs a function in Lua over a document. The one place where such a runner is given."""

    def __call__(self, name: str, source: str, document: bytes) -> bytes:
        """The document that the function gives, as JSON.

        Raises:
            Unfit: it refuses the document, or gives none.
        """


def apply(document: Document, transform: Transform) -> None:
    """Change a document.

    Raises:
        Unfit: the document does not allow it.
    """
    _APPLY[type(transform)](document, transform)


def convert(content: bytes, wanted: FieldType, path: str) -> bytes:
    """JSON of another type; what has the type already, and null, stay.

    Raises:
        Unfit: the value has no counterpart in that type.
    """
    kind = kind_of(content)
    if kind in {"null", wanted.value} or wanted is FieldType.ANY:
        return content
    rule = _CONVERT.get((kind, wanted))
    converted = rule(content) if rule else None
    if converted is None:
        raise Unfit(path, f"has {_shown(content)}, of which no {wanted.value} can be made")
    return converted


def _shown(content: bytes) -> str:
    """What a value is, not which: it may be a secret."""
    kind = kind_of(content)
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"


def _text(content: bytes) -> str:
    return msgspec.json.decode(content, type=str)


def _whole_of_text(content: bytes) -> bytes | None:
    text = _text(content)
    return str(int(text)).encode() if _INTEGER.fullmatch(text) else None


def _number_of_text(content: bytes) -> bytes | None:
    text = _text(content)
    return text.encode() if _NUMBER.fullmatch(text) else None


def _whole_of_number(content: bytes) -> bytes | None:
    number = Decimal(content.decode())
    if number and number.adjusted() >= _DIGITS_MAX:
        return None
    whole = number.to_integral_value()
    return str(int(whole)).encode() if whole == number else None


def _flag_of_text(content: bytes) -> bytes | None:
    return {"true": b"true", "false": b"false"}.get(_text(content))


def _quoted(content: bytes) -> bytes:
    return b'"' + content + b'"'


def _listed(content: bytes) -> bytes:
    return b"[" + content + b"]"


_CONVERT: dict[tuple[str, FieldType], Callable[[bytes], bytes | None]] = {
    ("string", FieldType.INTEGER): _whole_of_text,
    ("string", FieldType.NUMBER): _number_of_text,
    ("string", FieldType.BOOLEAN): _flag_of_text,
    ("integer", FieldType.STRING): _quoted,
    ("integer", FieldType.NUMBER): lambda content: content,
    ("integer", FieldType.BOOLEAN): {b"1": b"true", b"0": b"false"}.get,
    ("number", FieldType.STRING): _quoted,
    ("number", FieldType.INTEGER): _whole_of_number,
    ("boolean", FieldType.STRING): _quoted,
    ("boolean", FieldType.INTEGER): {b"true": b"1", b"false": b"0"}.get,
    ("string", FieldType.ARRAY): _listed,
    ("integer", FieldType.ARRAY): _listed,
    ("number", FieldType.ARRAY): _listed,
    ("boolean", FieldType.ARRAY): _listed,
    ("object", FieldType.ARRAY): _listed,
}
"""All that can be made of what; docs/guide/migrations.md has the same table."""


def _put_new(document: Document, path: str, content: bytes) -> None:
    if find(document, path) is not None:
        raise Unfit(path, "is there already")
    put(document, path, content)


def _copy(document: Document, transform: Copy) -> None:
    content = find(document, transform.source)
    if content is not None:
        _put_new(document, transform.target, content)


def _rename(document: Document, transform: Rename) -> None:
    content = take(document, transform.source)
    if content is not None:
        _put_new(document, transform.target, content)


def _convert(document: Document, transform: Convert) -> None:
    content = find(document, transform.path)
    if content is not None:
        put(document, transform.path, convert(content, transform.type, transform.path))


def _default(document: Document, transform: Default) -> None:
    if find(document, transform.path) is None:
        put(document, transform.path, transform.value_json.encode())


def _remove(document: Document, transform: Remove) -> None:
    take(document, transform.path)


def _split(document: Document, transform: Split) -> None:
    content = take(document, transform.path)
    if content is None:
        return
    if kind_of(content) != "string":
        raise Unfit(transform.path, "must be text to be split")
    parts = _text(content).split(transform.separator, len(transform.into) - 1)
    for path, part in zip(transform.into, parts, strict=False):
        _put_new(document, path, msgspec.json.encode(part))


def _merge(document: Document, transform: Merge) -> None:
    parts = []
    for path in transform.paths:
        content = take(document, path)
        if content is None:
            continue
        if kind_of(content) != "string":
            raise Unfit(path, "must be text to be merged")
        parts.append(_text(content))
    if parts:
        merged = msgspec.json.encode(transform.separator.join(parts))
        _put_new(document, transform.into, merged)


def _custom(document: Document, transform: Custom) -> None:
    raise AssertionError((document, transform))  # the transformer has the runner


_APPLY: dict[type, Callable[[Document, Any], None]] = {
    Copy: _copy,
    Rename: _rename,
    Convert: _convert,
    Default: _default,
    Remove: _remove,
    Split: _split,
    Merge: _merge,
    Custom: _custom,
}
