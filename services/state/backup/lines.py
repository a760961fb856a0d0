"""Records as lines of JSON, for exports in an open form, and back.

A line has all that a record has, so that what is read from it is the record, byte for byte. Where
nobody has said how an area's records look, a line has key and value in base64.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from services.common.redaction import redact, redact_json, redact_text
from services.common.scopes import parse_scope
from services.state import rules
from services.state.layout import items as layout
from services.state.model import Encoding, Item, Value

Record = tuple[bytes, bytes]
"""Key without the tenant, and value."""

S = TypeVar("S")

_REVISION_MAX = 2**63 - 1


class UnfitError(ValueError):
    """A line is no record; the text says why."""


class _Raw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: bytes
    value: bytes


class _Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    scope: str
    key: str
    revision: int
    create_time_ns: int
    update_time_ns: int
    expire_time_ns: int | None = None
    json: str | None = None
    text: str | None = None
    raw: bytes | None = None
    sensitive: bool = False
    withheld: bool = False


def write_raw(own: bytes, stored: bytes) -> bytes:
    """Key and value in base64."""
    return msgspec.json.encode(_Raw(own, stored))


def read_raw(line: bytes) -> Record:
    """From what `write_raw` wrote.

    Raises:
        UnfitError: it is something else.
    """
    found = _decode(line, _Raw)
    if len(found.key) > layout.KEY_BYTES_MAX:
        raise UnfitError(f"has a key of {len(found.key)} bytes")
    return found.key, found.value


def write_item(own: bytes, stored: bytes) -> bytes:
    """An item with its scope, times and revision, in clear."""
    item = _unpacked(own, stored)
    return msgspec.json.encode(_line(own, item, item.value))


def withhold_item(own: bytes, stored: bytes) -> bytes | None:
    """The line of an item of which not all may be told; None for any other.

    A value that is marked as sensitive is left out; from another one what looks like a credential
    is taken. Either way an import passes it over.
    """
    item = _unpacked(own, stored)
    assert item.value is not None, "an item is stored with its value"
    told = None if item.value.is_sensitive else _redacted(item.value)
    if told is item.value:
        return None
    line = _line(own, item, told)
    return msgspec.json.encode(
        msgspec.structs.replace(line, sensitive=item.value.is_sensitive, withheld=True)
    )


def _unpacked(own: bytes, stored: bytes) -> Item:
    return layout.unpack_item(own.decode().partition("\0")[2], stored)


def _line(own: bytes, item: Item, value: Value | None) -> _Item:
    line = _Item(
        scope=own.decode().partition("\0")[0],
        key=item.key,
        revision=item.revision,
        create_time_ns=item.create_time_ns,
        update_time_ns=item.update_time_ns,
        expire_time_ns=item.expire_time_ns,
    )
    if value is None:
        return line
    kind, content = value.encoding, value.content
    return msgspec.structs.replace(
        line,
        json=content.decode() if kind is Encoding.JSON else None,
        text=content.decode() if kind is Encoding.TEXT else None,
        raw=content if kind is Encoding.RAW else None,
        sensitive=value.is_sensitive,
    )


def _redacted(value: Value) -> Value:
    """The same value where there is nothing in it that looks like a credential."""
    if value.encoding is Encoding.RAW:
        clean = redact(value.content)
        return value if clean is value.content else msgspec.structs.replace(value, content=clean)
    text = value.content.decode()
    told = redact_json(text) if value.encoding is Encoding.JSON else redact_text(text)
    return value if told is text else msgspec.structs.replace(value, content=told.encode())


def withhold_none(own: bytes, stored: bytes) -> bytes | None:
    """Nothing of these records is marked."""
    del own, stored
    return None


def read_item(line: bytes) -> Record | None:
    """From what `write_item` wrote, checked as a write is; None where the value was withheld.

    Raises:
        UnfitError: it is something else.
        ServiceError: a key, scope or value breaks a rule or a limit.
    """
    found = _decode(line, _Item)
    if found.withheld:
        return None
    if str(parse_scope(found.scope)) != found.scope:
        raise UnfitError(f"has scope {found.scope!r}, which is not as scopes are written")
    if rules.normal_key(found.key) != found.key:
        raise UnfitError("has a key that is not in normal form (NFC)")
    value = _value(found)
    rules.check_value(value)
    times = (found.create_time_ns, found.update_time_ns, found.expire_time_ns or 0)
    if not 0 < found.revision <= _REVISION_MAX or not all(0 <= t < _REVISION_MAX for t in times):
        raise UnfitError("has a revision or a time out of range")
    item = Item(
        key=found.key,
        value=value,
        revision=found.revision,
        create_time_ns=found.create_time_ns,
        update_time_ns=found.update_time_ns,
        expire_time_ns=found.expire_time_ns,
    )
    return f"{found.scope}\0{found.key}".encode(), layout.pack_item(item)


def item_revision(stored: bytes) -> int:
    """The revision that an item has."""
    return layout.unpack_item("", stored, values=False).revision


def _value(found: _Item) -> Value:
    given = [each for each in (found.json, found.text, found.raw) if each is not None]
    if len(given) != 1:
        raise UnfitError("must have one of json, text and raw")
    if found.raw is not None:
        return Value(Encoding.RAW, found.raw, found.sensitive)
    if found.text is not None:
        return Value(Encoding.TEXT, found.text.encode(), found.sensitive)
    assert found.json is not None
    try:
        msgspec.json.decode(found.json)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnfitError(f"has a json that is none: {error}") from None
    return Value(Encoding.JSON, found.json.encode(), found.sensitive)


def _decode(line: bytes, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UnfitError(f"cannot be read: {error}") from None
