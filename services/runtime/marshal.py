"""A script's plain tree ⇄ a protobuf message, by descriptor.

The tree is what MessagePack gives: None, bool, int, float, str, bytes, list, dict. Some messages
have a plain form: Value and its kin are plain values, Timestamp is Unix seconds (or RFC 3339 text
on the way in), Duration is seconds, Vector is a list of numbers, an enum is its name without the
prefix. Everything is checked: a field that the message does not have is an error that names it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from services.common.errors import field_invalid
from services.common.limits import VALUE_DEPTH_MAX
from services.common.values import map_to_python, to_python, to_value

Tree = Any

_SECONDS_MAX = 253_402_300_799.0  # 9999-12-31, the last that a Timestamp may have
_INT_TYPES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_FLOAT32_MAX = (2 - 2**-23) * 2.0**127
_FLOAT_TYPES = {
    FieldDescriptor.TYPE_DOUBLE: sys.float_info.max,
    FieldDescriptor.TYPE_FLOAT: _FLOAT32_MAX,
}


def fill(message: Message, tree: Tree, path: str = "") -> None:
    """Set a message's fields from a tree.

    Raises:
        ServiceError: FIELD_INVALID naming the field by its path.
    """
    plain = _FROM_PLAIN.get(message.DESCRIPTOR.full_name)
    if plain is not None:
        plain(message, tree, path)
        return
    if not isinstance(tree, dict):
        raise field_invalid(path or "the argument", f"must be a table, not {_kind(tree)}")
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in tree.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in fields:
            raise field_invalid(where, "is not a field of this call")
        if value is not None:
            _check_choice(message, fields[name], where)
            _fill_field(message, fields[name], value, where)


def read(message: Message) -> Tree:
    """A message as a tree. What is absent is left out; what cannot be absent is always there."""
    plain = _TO_PLAIN.get(message.DESCRIPTOR.full_name)
    if plain is not None:
        return plain(message)
    tree: dict[str, Tree] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        tree[field.name] = _read_field(field, getattr(message, field.name))
    return tree


def _check_choice(message: Message, field: Any, where: str) -> None:
    """Of fields that exclude each other the last would win, in an order that Lua does not keep."""
    choice = field.containing_oneof
    other = message.WhichOneof(choice.name) if choice is not None else None
    if other is not None:
        raise field_invalid(where, f"cannot be set together with {other}")


def _fill_field(message: Message, field: Any, value: Tree, where: str) -> None:
    if _is_map(field):
        _fill_map(message, field, value, where)
    elif field.is_repeated:
        _fill_list(message, field, value, where)
    elif field.message_type is not None:
        target = getattr(message, field.name)
        target.SetInParent()
        fill(target, value, where)
    else:
        setattr(message, field.name, _scalar(field, value, where))


def _fill_map(message: Message, field: FieldDescriptor, value: Tree, where: str) -> None:
    if not isinstance(value, dict):
        raise field_invalid(where, f"must be a table with text keys, not {_kind(value)}")
    assert field.message_type is not None
    entry = field.message_type.fields_by_name["value"]
    target = getattr(message, field.name)
    for key, inner in value.items():
        if not isinstance(key, str):
            raise field_invalid(where, "must have text keys only")
        if entry.message_type is not None:
            fill(target[key], inner, f"{where}.{key}")
        else:
            target[key] = _scalar(entry, inner, f"{where}.{key}")


def _fill_list(message: Message, field: FieldDescriptor, value: Tree, where: str) -> None:
    entries = [] if value == {} else value  # an empty Lua table is a list and a map at once
    if not isinstance(entries, list):
        raise field_invalid(where, f"must be a list, not {_kind(value)}")
    target = getattr(message, field.name)
    for position, inner in enumerate(entries, start=1):
        place = f"{where}[{position}]"
        if field.message_type is not None:
            fill(target.add(), inner, place)
        else:
            target.append(_scalar(field, inner, place))


def _scalar(field: FieldDescriptor, value: Tree, where: str) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum(field.enum_type, value, where)
    if field.type in _INT_TYPES:
        return _integer(value, *_INT_TYPES[field.type], where)
    if field.type in _FLOAT_TYPES:
        return _number(value, where, most=_FLOAT_TYPES[field.type])
    if field.type == FieldDescriptor.TYPE_BOOL and isinstance(value, bool):
        return value
    if field.type == FieldDescriptor.TYPE_STRING and isinstance(value, str):
        return value
    if field.type == FieldDescriptor.TYPE_BYTES and isinstance(value, str | bytes):
        return value.encode() if isinstance(value, str) else value
    wanted = {FieldDescriptor.TYPE_BOOL: "a boolean", FieldDescriptor.TYPE_STRING: "UTF-8 text"}
    raise field_invalid(where, f"must be {wanted.get(field.type, 'bytes')}, not {_kind(value)}")


def _enum(enum: EnumDescriptor | None, value: Tree, where: str) -> int:
    assert enum is not None
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    named = enum.values_by_name.get(prefix + value.upper()) if isinstance(value, str) else None
    if named is None or named.number == 0:
        known = ", ".join(entry.name.removeprefix(prefix).lower() for entry in enum.values[1:])
        raise field_invalid(where, f"must be one of {known}")
    return named.number


def _integer(value: Tree, lowest: int, highest: int, where: str) -> int:
    whole = isinstance(value, float) and value.is_integer()
    if isinstance(value, bool) or not (isinstance(value, int) or whole):
        raise field_invalid(where, f"must be a whole number, not {_kind(value)}")
    if not lowest <= value <= highest:
        raise field_invalid(where, f"must be between {lowest} and {highest}")
    return int(value)


def _number(value: Tree, where: str, *, most: float = sys.float_info.max) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise field_invalid(where, f"must be a finite number, not {_kind(value)}")
    if abs(value) > most:
        raise field_invalid(where, f"must be between {-most:g} and {most:g}")
    return float(value)


def _read_field(field: Any, value: Any) -> Tree:
    if _is_map(field):
        assert field.message_type is not None
        entry = field.message_type.fields_by_name["value"]
        return {key: _read_entry(entry, inner) for key, inner in value.items()}
    if field.is_repeated:
        return [_read_entry(field, inner) for inner in value]
    return _read_entry(field, value)


def _read_entry(field: FieldDescriptor, value: Any) -> Tree:
    if field.message_type is not None:
        return read(value)
    if field.enum_type is not None:
        prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
        named = field.enum_type.values_by_number.get(value)
        return named.name.removeprefix(prefix) if named else value
    return value


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def _kind(value: Tree) -> str:
    names = {dict: "a table", list: "a list", str: "text", bytes: "bytes", bool: "a boolean"}
    return "nil" if value is None else names.get(type(value), "a number")


def _fill_value(message: Any, tree: Tree, path: str) -> None:
    if _is_deeper(tree, VALUE_DEPTH_MAX):
        raise field_invalid(path, f"must not be nested deeper than {VALUE_DEPTH_MAX} levels")
    try:
        message.CopyFrom(to_value(tree))
    except (TypeError, ValueError) as error:
        raise field_invalid(path, f"cannot be kept: {error}") from None


def _is_deeper(tree: Tree, levels: int) -> bool:
    if not levels:
        return True
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return any(_is_deeper(entry, levels - 1) for entry in inner)


def _fill_list_value(message: Any, tree: Tree, path: str) -> None:
    if not isinstance(tree, list):
        raise field_invalid(path, f"must be a list, not {_kind(tree)}")
    for position, inner in enumerate(tree, start=1):
        _fill_value(message.values.add(), inner, f"{path}[{position}]")


def _fill_map_value(message: Any, tree: Tree, path: str) -> None:
    if not isinstance(tree, dict):
        raise field_invalid(path, f"must be a table, not {_kind(tree)}")
    for key, inner in tree.items():
        _fill_value(message.fields[key], inner, f"{path}.{key}")


def _fill_timestamp(message: Any, tree: Tree, path: str) -> None:
    if isinstance(tree, str):
        try:
            message.FromJsonString(tree)
        except ValueError:
            raise field_invalid(path, "must be Unix seconds or RFC 3339 text") from None
        return
    seconds = _number(tree, path)
    if not 0 <= seconds <= _SECONDS_MAX:
        raise field_invalid(path, f"must be between 0 and {_SECONDS_MAX:.0f} seconds")
    message.FromMicroseconds(round(seconds * 1e6))


def _fill_duration(message: Any, tree: Tree, path: str) -> None:
    seconds = _number(tree, path)
    if not abs(seconds) <= _SECONDS_MAX:
        raise field_invalid(path, f"must be at most {_SECONDS_MAX:.0f} seconds")
    message.FromMicroseconds(round(seconds * 1e6))


def _fill_vector(message: Any, tree: Tree, path: str) -> None:
    if isinstance(tree, bytes):
        message.f32 = tree
        return
    if not isinstance(tree, list):
        raise field_invalid(path, f"must be a list of numbers, not {_kind(tree)}")
    message.values.extend(
        _number(entry, f"{path}[{position}]", most=_FLOAT32_MAX)
        for position, entry in enumerate(tree, start=1)
    )


def _read_vector(message: Any) -> Tree:
    if not message.f32:
        return list(message.values)
    return memoryview(message.f32).cast("f").tolist()


_FROM_PLAIN: dict[str, Callable[[Any, Tree, str], None]] = {
    "llmspell.v1.Value": _fill_value,
    "llmspell.v1.ListValue": _fill_list_value,
    "llmspell.v1.MapValue": _fill_map_value,
    "llmspell.v1.Vector": _fill_vector,
    "google.protobuf.Timestamp": _fill_timestamp,
    "google.protobuf.Duration": _fill_duration,
}
_TO_PLAIN: dict[str, Callable[[Any], Tree]] = {
    "llmspell.v1.Value": lambda message: to_python(message, "value"),
    "llmspell.v1.ListValue": lambda message: [
        to_python(value, "value") for value in message.values
    ],
    "llmspell.v1.MapValue": lambda message: map_to_python(message.fields, "value"),
    "llmspell.v1.Vector": _read_vector,
    "google.protobuf.Timestamp": lambda message: message.ToMicroseconds() / 1e6,
    "google.protobuf.Duration": lambda message: message.ToMicroseconds() / 1e6,
}
