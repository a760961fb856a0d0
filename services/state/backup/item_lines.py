"""Items, and the items of checkpoints, as lines."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from services.common.redaction import (
    is_credential_name,
    redact,
    redact_field,
    redact_json,
    redact_text,
)
from services.common.scopes import parse_scope
from services.state import rules, session_rules
from services.state.backup.lines import Form, Record, Revision, Time, UnfitError, check
from services.state.layout import items as layout
from services.state.model import Encoding, Item, Value


class _Content(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    key: str
    revision: Revision
    create_time_ns: Time
    update_time_ns: Time
    expire_time_ns: Time | None = None
    json: str | None = None
    text: str | None = None
    raw: bytes | None = None
    sensitive: bool = False
    withheld: bool = False


class ItemLine(_Content, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `items.jsonl`."""

    scope: str


class CheckpointItemLine(_Content, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `checkpoint_items.jsonl`."""

    session_id: str
    checkpoint_id: str


L = TypeVar("L", bound=_Content)


def _tell_item(own: bytes, stored: bytes) -> ItemLine:
    scope, key = own.decode().split("\0")
    return ItemLine(scope=scope, **_facts(key, stored))


def _tell_checkpoint_item(own: bytes, stored: bytes) -> CheckpointItemLine:
    session_id, checkpoint_id, key = own.decode().split("\0")
    facts = _facts(key, stored)
    return CheckpointItemLine(session_id=session_id, checkpoint_id=checkpoint_id, **facts)


def _facts(key: str, stored: bytes) -> dict[str, Any]:
    item = layout.unpack_item(key, stored)
    assert item.value is not None, "an item is stored with its value"
    facts: dict[str, Any] = {
        "key": key,
        "revision": item.revision,
        "create_time_ns": item.create_time_ns,
        "update_time_ns": item.update_time_ns,
        "expire_time_ns": item.expire_time_ns,
        "sensitive": item.value.is_sensitive,
    }
    return facts | _told(item.value)


def _told(value: Value) -> dict[str, Any]:
    kind, content = value.encoding, value.content
    return {
        "json": content.decode() if kind is Encoding.JSON else None,
        "text": content.decode() if kind is Encoding.TEXT else None,
        "raw": content if kind is Encoding.RAW else None,
    }


def _withhold(line: L) -> L | None:
    """A value that is marked goes; of another one, what looks like a credential.

    Either way an import passes the line over.
    """
    if line.sensitive:
        return msgspec.structs.replace(line, json=None, text=None, raw=None, withheld=True)
    value = _value(line)
    told = _redacted(line.key, value)
    if told is value:
        return None
    return msgspec.structs.replace(line, withheld=True, **_told(told))


def _redacted(key: str, value: Value) -> Value:
    """The same value where there is nothing in it that looks like a credential."""
    if is_credential_name(key):
        return _named(key, value)
    if value.encoding is Encoding.RAW:
        clean = redact(value.content)
        return value if clean is value.content else msgspec.structs.replace(value, content=clean)
    text = value.content.decode()
    told = redact_json(text) if value.encoding is Encoding.JSON else redact_text(text)
    return value if told is text else msgspec.structs.replace(value, content=told.encode())


def _named(key: str, value: Value) -> Value:
    """The value of an item whose key is what credentials are called."""
    if value.encoding is Encoding.JSON:
        found = msgspec.json.decode(value.content)
        clean = redact_field(key, found)
        return (
            value
            if clean == found
            else msgspec.structs.replace(value, content=msgspec.json.encode(clean))
        )
    return Value(Encoding.TEXT, redact_field(key, "").encode())


def _keep_item(line: ItemLine) -> Record:
    scope = str(parse_scope(line.scope))
    check(scope == line.scope, "scope", f"must be written as {scope}")
    return f"{scope}\0{line.key}".encode(), _packed(line)


def _keep_checkpoint_item(line: CheckpointItemLine) -> Record:
    session_rules.check_session_id(line.session_id)
    session_rules.check_checkpoint_id(line.checkpoint_id)
    own = f"{line.session_id}\0{line.checkpoint_id}\0{line.key}"
    return own.encode(), _packed(line)


def _packed(line: _Content) -> bytes:
    check(rules.normal_key(line.key) == line.key, "key", "must be in normal form (NFC)")
    value = _value(line)
    rules.check_value(value)
    item = Item(
        key=line.key,
        value=value,
        revision=line.revision,
        create_time_ns=line.create_time_ns,
        update_time_ns=line.update_time_ns,
        expire_time_ns=line.expire_time_ns,
    )
    return layout.pack_item(item)


def _value(line: _Content) -> Value:
    given = [each for each in (line.json, line.text, line.raw) if each is not None]
    check(len(given) == 1, "json", "must be there, or text or raw must be, and one of them only")
    if line.raw is not None:
        return Value(Encoding.RAW, line.raw, line.sensitive)
    if line.text is not None:
        return Value(Encoding.TEXT, line.text.encode(), line.sensitive)
    assert line.json is not None
    try:
        msgspec.json.decode(line.json)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnfitError(f"must be JSON: {error}", "json") from None
    return Value(Encoding.JSON, line.json.encode(), line.sensitive)


ITEM = Form(ItemLine, _tell_item, _keep_item, _withhold)
CHECKPOINT_ITEM = Form(CheckpointItemLine, _tell_checkpoint_item, _keep_checkpoint_item, _withhold)
