"""What may not be put: names, versions, fields and transforms that make no sense."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    CUSTOM_TRANSFORM_BYTES_MAX,
    DEFAULT_VALUE_BYTES_MAX,
    FIELD_DEPTH_MAX,
    FIELD_PATH_BYTES_MAX,
    SCHEMA_FIELDS_MAX,
    SCHEMA_NAME_BYTES_MAX,
    SCHEMA_TRANSFORMS_MAX,
    SEPARATOR_BYTES_MAX,
)
from services.common.scopes import KINDS, parse_scope
from services.state import rules
from services.state.migrations.documents import has_type
from services.state.migrations.model import (
    Convert,
    Copy,
    Custom,
    Default,
    Family,
    Field,
    Merge,
    Remove,
    Rename,
    Schema,
    Split,
    Transform,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)
_SPLIT_MIN = 2


def check_name(name: str, field: str = "name") -> None:
    """Refuse a schema's name: 1 to 64 letters, digits, `_`, `.` and `-`."""
    if not name:
        raise required(field)
    if len(name.encode("utf-8", "replace")) > SCHEMA_NAME_BYTES_MAX:
        raise limit_exceeded(field, len(name), SCHEMA_NAME_BYTES_MAX, "bytes")
    if not _NAME.fullmatch(name):
        raise field_invalid(field, "must be letters, digits, '_', '.' and '-'")


def check_version(version: str, field: str = "version") -> None:
    """Refuse what is not `x.y.z`."""
    if not version:
        raise required(field)
    if not _VERSION.fullmatch(version):
        raise field_invalid(field, "must be three numbers such as 1.2.0")


def order(version: str) -> tuple[int, ...]:
    """By which versions are put in order."""
    return tuple(map(int, version.split(".")))


def check_pattern(pattern: str) -> str:
    """A scope pattern as it is printed: a scope, or `KIND:*`.

    Raises:
        ServiceError: SCOPE_INVALID, FIELD_REQUIRED.
    """
    if not pattern:
        raise required("scope_pattern")
    kind, colon, name = pattern.partition(":")
    if colon and name == "*" and kind in KINDS and kind != "global":
        return pattern
    return str(parse_scope(pattern))


def overlap(one: Family, other: Family) -> bool:
    """Whether an item could be of both."""
    begins = one.key_prefix.startswith(other.key_prefix) or other.key_prefix.startswith(
        one.key_prefix
    )
    return begins and (
        one.scope_pattern == other.scope_pattern
        or _covers(one.scope_pattern, other.scope_pattern)
        or _covers(other.scope_pattern, one.scope_pattern)
    )


def _covers(pattern: str, scope: str) -> bool:
    return pattern.endswith(":*") and scope.startswith(pattern[:-1])


def check_schema(schema: Schema, *, is_first: bool) -> None:
    """Refuse fields and transforms that make no sense.

    Raises:
        ServiceError: FIELD_INVALID, FIELD_REQUIRED, LIMIT_EXCEEDED, TRANSFORM_INVALID.
    """
    check_version(schema.version)
    if len(schema.fields) > SCHEMA_FIELDS_MAX:
        raise limit_exceeded("fields", len(schema.fields), SCHEMA_FIELDS_MAX)
    if len(schema.transforms) > SCHEMA_TRANSFORMS_MAX:
        raise limit_exceeded("transforms", len(schema.transforms), SCHEMA_TRANSFORMS_MAX)
    if is_first and schema.transforms:
        raise field_invalid("transforms", "must be empty: there is no version before this one")
    seen: set[str] = set()
    for number, field in enumerate(schema.fields):
        _check_field(field, f"fields[{number}]", seen)
    for number, transform in enumerate(schema.transforms):
        _check_transform(transform, f"transforms[{number}]")


def _check_field(field: Field, place: str, seen: set[str]) -> None:
    rule = _path_rule(field.path)
    if rule:
        raise field_invalid(f"{place}.name", rule)
    if field.path in seen:
        raise field_invalid(f"{place}.name", f"is {field.path!r} for the second time")
    seen.add(field.path)
    if field.default_json:
        rule = _json_rule(field.default_json)
        if not rule and not has_type(field.default_json.strip().encode(), field.type):
            rule = f"must be of type {field.type.value}"
        if rule:
            raise field_invalid(f"{place}.default", rule)


def _path_rule(path: str) -> str:
    """What a path breaks; empty where it is one."""
    if not path:
        return "must be set"
    if len(path.encode("utf-8", "replace")) > FIELD_PATH_BYTES_MAX:
        return f"must have at most {FIELD_PATH_BYTES_MAX} bytes"
    names = path.split(".")
    if not all(names) or len(names) > FIELD_DEPTH_MAX:
        return f"must be at most {FIELD_DEPTH_MAX} names joined by dots"
    if any(letter in path for letter in '\\"') or not path.isprintable():
        return "must not contain quotes, backslashes or control characters"
    return ""


def _json_rule(text: str) -> str:
    if len(text.encode()) > DEFAULT_VALUE_BYTES_MAX:
        return f"must have at most {DEFAULT_VALUE_BYTES_MAX} bytes"
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return "must be JSON"
    return ""


def _check_transform(transform: Transform, place: str) -> None:
    for rule in (*map(_path_rule, _paths(transform)), *_rules(transform)):
        if rule:
            field = f"{place}.{type(transform).__name__.lower()}"
            raise ServiceError(
                Reason.TRANSFORM_INVALID, f"{field}: {rule}.", field=field, rule=rule
            )


def _paths(transform: Transform) -> Sequence[str]:
    match transform:
        case Copy(source, target) | Rename(source, target):
            return (source, target)
        case Convert(path, _) | Default(path, _) | Remove(path):
            return (path,)
        case Split(path, into, _):
            return (path, *into)
        case Merge(paths, into, _):
            return (*paths, into)
    return ()


def _rules(transform: Transform) -> Iterable[str]:
    match transform:
        case Copy(source, target) | Rename(source, target) if source == target:
            yield "source and target must differ"
        case Default(_, value):
            yield _json_rule(value)
        case Split(_, parts, separator):
            yield "" if len(parts) >= _SPLIT_MIN else "into must name at least two fields"
            yield "" if len(set(parts)) == len(parts) else "into names a field twice"
            yield _separator_rule(separator) if separator else "separator must be set"
        case Merge(parts, _, separator):
            yield "" if len(parts) >= _SPLIT_MIN else "fields must name at least two"
            yield "" if len(set(parts)) == len(parts) else "fields names one twice"
            yield _separator_rule(separator)
        case Custom(name, source):
            yield "" if _NAME.fullmatch(name) else "name must be letters, digits, '_', '.' and '-'"
            size = len(source.encode())
            limit = CUSTOM_TRANSFORM_BYTES_MAX
            yield "" if 0 < size <= limit else f"lua must have 1 to {limit} bytes"


def _separator_rule(separator: str) -> str:
    fits = len(separator.encode()) <= SEPARATOR_BYTES_MAX
    return "" if fits else f"separator must have at most {SEPARATOR_BYTES_MAX} bytes"


def check_place(tenant: str, name: str) -> None:
    """Refuse a tenant or a schema's name that cannot be part of a stored key."""
    rules.check_place(tenant, "global")
    check_name(name, "schema")
