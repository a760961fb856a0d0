"""Whether the messages of a journal's call tell a secret, as far as marks, names and forms tell.

A call's messages are known by its method. Of what is no method of the contract only the bytes are
looked at, by whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from llmspell.v1 import run_pb2

from services.common.access import METHODS
from services.common.redaction import is_credential_name, redact, redact_json, redact_text
from services.common.run_entries import RUN_BEGIN, RUN_CALL, RUN_END, RUN_INTENT

_PLAIN_KINDS = {None, "bool_value", "int_value", "double_value"}
_RUN_MESSAGES: dict[str, Any] = {RUN_BEGIN: run_pb2.RunBegin, RUN_END: run_pb2.RunEnd}
_DOCUMENT_BEGINS = ("{", "[", '"')


def tells_secret(method: str, request: bytes, answer: bytes | None) -> bool:
    """Whether request or answer hold what is marked as sensitive, or looks like a credential.

    What cannot be read as a message of the method is held to do so.
    """
    if method.startswith((RUN_CALL, RUN_INTENT)):
        return _trees_tell(request, (answer or b"")[1:])
    known = METHODS.get(f"/{method.removeprefix('/')}")
    if known is None and method not in _RUN_MESSAGES:
        return False
    types = (known.descriptor.input_type, known.descriptor.output_type) if known else ()
    try:
        if method in _RUN_MESSAGES:
            return _has_secret(_RUN_MESSAGES[method].FromString(request))
        return any(
            _has_secret(GetMessageClass(kind).FromString(content))
            for kind, content in zip(types, (request, answer or b""), strict=True)
        )
    except DecodeError:
        return True


def _trees_tell(*packed: bytes) -> bool:
    """Likewise of what a run's journal keeps of a call; see `services.common.run_entries`."""
    try:
        trees = [msgspec.msgpack.decode(each) for each in packed if each]
    except msgspec.DecodeError:
        return True
    return any(redact(tree) != tree or _is_marked(tree) for tree in trees)


def _is_marked(tree: Any) -> bool:
    if isinstance(tree, dict):
        is_named = "value" in tree and is_credential_name(tree.get("key"))
        return is_named or tree.get("sensitive") is True or any(map(_is_marked, tree.values()))
    return isinstance(tree, list) and any(map(_is_marked, tree))


def _has_secret(message: Message) -> bool:
    if getattr(message, "sensitive", False) is True:
        return True
    has_value = "value" in message.DESCRIPTOR.fields_by_name
    if has_value and is_credential_name(getattr(message, "key", "")):
        return True
    return any(map(_is_secret, _values(message)))


def _values(message: Message) -> Iterator[Any]:
    for field, value in message.ListFields():
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            for name, inner in value.items():
                yield _Named() if is_credential_name(name) and not _is_plain(inner) else inner
        elif isinstance(value, str | bytes | Message):
            yield value
        elif not isinstance(value, bool | int | float):
            yield from value


class _Named:
    """What stands under a credential's name."""


def _is_secret(value: Any) -> bool:
    if isinstance(value, Message):
        return _has_secret(value)
    if isinstance(value, str):
        return redact_text(value) != value or _has_secret_inside(value)
    if isinstance(value, bytes):
        return bool(redact(value) != value) or _has_secret_inside(value.decode("utf-8", "replace"))
    return isinstance(value, _Named)


def _has_secret_inside(text: str) -> bool:
    """Whether it is a document that has one."""
    if not text.lstrip().startswith(_DOCUMENT_BEGINS):
        return False
    try:
        return redact_json(text) != text
    except (ValueError, RecursionError):
        return False


def _is_plain(value: Any) -> bool:
    """Numbers and truth values are counts and switches."""
    if isinstance(value, Message):
        one = value.DESCRIPTOR.oneofs_by_name.get("kind")
        return one is not None and value.WhichOneof("kind") in _PLAIN_KINDS
    return isinstance(value, bool | int | float)
