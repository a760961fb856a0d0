"""What a request names, for the audit log: scopes, keys, ids. Never what it carries.

Read from the first bytes of a message, as they came: parsing a whole upload once more would cost
as much as its relay. Only fields whose names tell that they hold a name are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import unquote

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.common.access import METHODS, Method
from services.common.limits import AUDIT_TEXT_BYTES_MAX
from services.common.redaction import redact_text

_NAMES = frozenset(
    {"scope", "key", "name", "prefix", "source_scope", "source_key", "subject", "schema", "role",
     "roles", "tool", "agent", "workflow", "template", "provider", "model"}
)  # fmt: skip
_NOT_NAMES = frozenset({"request_id", "correlation_id"})
_TOLD = {"/llmspell.v1.IdentityService/GrantAccess": ("reason", "scopes")}
"""What else is told of a request: why the operator was let in, and for what."""
_DEPTH_MAX = 3
_FIELDS_MAX = 64
"""Fields of a message that are looked at; names come before what is carried."""
_NAMES_MAX = 16
_VALUE_LENGTH_MAX = 128


@dataclass(slots=True)
class _Form:
    """What is looked at in messages of a type."""

    texts: dict[int, str] = field(default_factory=dict)
    """Number of a field → its name."""
    inner: dict[int, _Form] = field(default_factory=dict)


def resource_of(method: Method, message: bytes) -> str:
    """What the request names, such as `scope=user:alice key=theme`; cut where it is long.

    What looks like a credential is taken out, and what does not print is written as an escape.
    """
    found = _found(_form(method.path), message)
    return plain(" ".join(f"{name}={value}" for name, value in found))


def tenant_named(method: Method, message: bytes) -> str:
    """The tenant that a request of the operator's names; empty: none."""
    return dict(_found(_form(method.path), message)).get("tenant_id", "")


def plain(text: str) -> str:
    """A text as the log keeps it: no credentials, nothing that does not print, not too long."""
    text = redact_text(text)
    if not (text.isascii() and text.isprintable()):
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    if len(text) > AUDIT_TEXT_BYTES_MAX // 4:
        raw = text.encode(errors="replace")
        text = raw[:AUDIT_TEXT_BYTES_MAX].decode(errors="ignore")
    return text


def host_of(peer: str) -> str:
    """Where a call comes from, without the port: `ipv4:10.0.0.7:50000` → `10.0.0.7`."""
    family, _, rest = unquote(peer).partition(":")
    if family not in {"ipv4", "ipv6"}:
        return plain(family)
    return plain(rest.rpartition(":")[0].strip("[]"))


@cache
def _form(path: str) -> _Form:
    request = METHODS[path].descriptor.input_type
    form = _form_of(request, _DEPTH_MAX)
    for name in _TOLD.get(path, ()):
        form.texts[request.fields_by_name[name].number] = name
    return form


def _form_of(descriptor: Descriptor, depth: int) -> _Form:
    form = _Form()
    for each in descriptor.fields:
        kind = each.message_type
        if each.type == FieldDescriptor.TYPE_STRING and _is_name(each.name):
            form.texts[each.number] = each.name
        elif kind is not None and depth and not kind.GetOptions().map_entry:
            inner = _form_of(kind, depth - 1)
            if inner.texts or inner.inner:
                form.inner[each.number] = inner
    return form


def _is_name(name: str) -> bool:
    return name not in _NOT_NAMES and (name in _NAMES or name.endswith(("_id", "_ids")))


def _found(form: _Form, message: bytes) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    _collect(form, message, found)
    return found


def _collect(form: _Form, message: bytes, found: list[tuple[str, str]]) -> None:
    for number, value in _fields(message):
        name = form.texts.get(number)
        if name is not None:
            found.append((name, _text(value)))
        elif number in form.inner:
            _collect(form.inner[number], value, found)
        if len(found) >= _NAMES_MAX:
            return


def _text(value: bytes) -> str:
    """A value that is cut must not lose the form by which it is known for a credential."""
    text = redact_text(value.decode(errors="replace"))
    return text if len(text) <= _VALUE_LENGTH_MAX else text[:_VALUE_LENGTH_MAX] + "…"


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Fields with a length, as they come; ends where the bytes make no sense or are cut."""
    at = 0
    for _ in range(_FIELDS_MAX):
        if at >= len(message):
            return
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:  # noqa: PLR2004  (the wire's number)
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
        elif kind == 0:
            size = 0
            _, at = _varint(message, at)
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
        else:
            return
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift <= 63:  # noqa: PLR2004  (bits of the largest)
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004
            return value, at
        shift += 7
    return 0, len(message) + 1
