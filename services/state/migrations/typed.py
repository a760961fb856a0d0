"""Many documents at once, without a look at what only passes through.

Renames, defaults and removals of fields at the top need no thought for each document: they are the
difference between two structures. One reads what was, the other writes what shall be; both have the
same attributes under different names, so that an object of the one becomes one of the other. Fields
that must be text, whole numbers or flags are read as such, which checks them; all else passes as
the bytes it was. A document that does not fit (a field that no schema knows, a missing one, a wrong
type) is left to the transforms one by one, which keep it or say what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from services.state.migrations.model import (
    Default,
    Field,
    FieldType,
    Remove,
    Rename,
    Schema,
    Validation,
)

_READ: dict[FieldType, Any] = {
    FieldType.STRING: str,
    FieldType.INTEGER: int,
    FieldType.BOOLEAN: bool,
}
"""Types that are read and written without loss. All others pass as bytes."""
_ENCODER = msgspec.json.Encoder()
_BEGINNINGS = {
    FieldType.NUMBER: b"-0123456789",
    FieldType.ARRAY: b"[",
    FieldType.OBJECT: b"{",
}


@dataclass(slots=True)
class _Slot:
    """A field's way from the first version to the last."""

    source: str
    """Its name in what is read."""
    target: str | None
    """In what is written; None: it goes."""
    default: bytes | None = None


@dataclass(frozen=True, slots=True)
class Typed:
    """How to read, what to forget, how to write."""

    decoder: msgspec.json.Decoder[Any]
    written: type
    removed: tuple[str, ...]
    checks: tuple[tuple[str, bytes], ...]
    """Attributes that pass as bytes, and the bytes that one may begin with."""

    def content(self, content: bytes) -> bytes | None:
        """One document as it will be; None where it does not fit."""
        try:
            document = self.decoder.decode(content)
        except (msgspec.DecodeError, RecursionError):
            return None
        for name in self.removed:
            setattr(document, name, UNSET)
        if not passes(document, self.checks):
            return None
        document.__class__ = self.written
        return _ENCODER.encode(document)


def passes(document: object, checks: Sequence[tuple[str, bytes]]) -> bool:
    """Whether fields that pass as bytes begin as their types do."""
    for name, beginnings in checks:
        value = getattr(document, name)
        if value is not UNSET and bytes(value)[:1] not in beginnings:
            return False
    return True


def typed(first: Schema, steps: Sequence[Schema], validation: Validation) -> Typed | None:
    """The quick way through these versions; None where they ask for more than it can."""
    if not steps or any("." in field.path for field in (*first.fields, *steps[-1].fields)):
        return None
    slots = _followed(first, steps)
    if slots is None:
        return None
    fields = {field.path: field for field in steps[-1].fields}
    kept = {slot.target for slot in slots if slot.target is not None}
    demanded = {name for name, field in fields.items() if field.required}
    if validation is not Validation.NONE and not demanded <= kept:
        return None
    if validation is Validation.STRICT and not kept <= fields.keys():
        return None
    return _built(slots, fields, validation)


def _followed(first: Schema, steps: Sequence[Schema]) -> list[_Slot] | None:
    slots = [_Slot(field.path, field.path) for field in first.fields]
    for step in steps:
        for transform in step.transforms:
            if not _follow(slots, transform):
                return None
        for field in step.fields:
            if field.default_json and not _follow(slots, Default(field.path, field.default_json)):
                return None
    names = [slot.source for slot in slots]
    return slots if len(set(names)) == len(names) else None


def _follow(slots: list[_Slot], transform: object) -> bool:
    """Whether a transform is one of those that need no thought; the slots then follow it."""
    at = {slot.target: slot for slot in slots if slot.target is not None}
    match transform:
        case Rename(source=source, target=target) if source in at and target not in at:
            slot = at[source]
            slot.target = target
            return "." not in target
        case Remove(path=path) if path in at:
            at[path].target = None
            return True
        case Default(path=path, value_json=value) if "." not in path:
            if path in at:
                at[path].default = at[path].default or value.encode()
            else:
                slots.append(_Slot(path, path, value.encode()))
            return True
    return False


def _built(slots: list[_Slot], fields: dict[str, Field], validation: Validation) -> Typed:
    read: list[Any] = []
    written: list[Any] = []
    sources, targets, checks = {}, {}, []
    checked = validation is not Validation.NONE
    for number, slot in enumerate(slots):
        name, field = f"f{number}", fields.get(slot.target or "")
        kind = _READ.get(field.type, Raw) if field is not None and checked else Raw
        demanded = field is not None and field.required and checked
        read.append(_reading(name, kind, slot.default, demanded=demanded))
        written.append((name, Any, UNSET))
        sources[name], targets[name] = slot.source, slot.target or f"(removed) {number}"
        if field is not None and checked and field.type in _BEGINNINGS:
            null = b"" if demanded else b"n"
            checks.append((name, _BEGINNINGS[field.type] + null))
    return Typed(
        msgspec.json.Decoder(_structure("Read", read, sources)),
        _structure("Written", written, targets),
        tuple(f"f{number}" for number, slot in enumerate(slots) if slot.target is None),
        tuple(checks),
    )


def _reading(name: str, kind: Any, default: bytes | None, *, demanded: bool) -> Any:
    """A field to be read. null is no value of a type, but may stand where none is demanded."""
    accepted = kind if kind is Raw or demanded else kind | None
    if default is not None:
        return name, accepted, Raw(default) if kind is Raw else msgspec.json.decode(default)
    return (name, accepted) if demanded else (name, accepted | UnsetType, UNSET)


def _structure(name: str, fields: Iterable[Any], names: dict[str, str]) -> type:
    return msgspec.defstruct(
        name, fields, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False
    )
