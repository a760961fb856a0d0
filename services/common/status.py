"""The one translator between `ServiceError` and google.rpc.Status."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import errors_pb2, options_pb2

from services.common.errors import Reason, ServiceError, reason_name
from services.common.redaction import redact_field, redact_text

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "llmspell"
_MESSAGE_WIRE_BYTES_MAX = 3000
_MESSAGE_LENGTH_MAX = 2000
_LOOKED_AT_LENGTH = 10_000
"""More than fits; a credential must not lose its form at the cut before it is looked for."""
_METADATA_VALUE_BYTES_MAX = 500
_METADATA_BYTES_MAX = 1500
_RETRY_S_MAX = 86_400.0
_KEPT_LENGTH_MAX = 500
"""Of an error that is remembered as it went out."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_REASONS = errors_pb2.DESCRIPTOR.enum_types_by_name["Reason"]


@functools.cache
def status_code(reason: Reason) -> grpc.StatusCode:
    """The gRPC code that the contract gives a reason."""
    options = _REASONS.values_by_number[reason].GetOptions()
    return _CODES[options.Extensions[cast("Any", options_pb2.status_code)]]


def to_trailer(error: ServiceError) -> tuple[str, bytes]:
    """The trailing metadata entry that carries reason and metadata.

    What looks like a credential is taken out. Long texts are cut: a trailer over 8 KiB would be
    dropped by the transport with everything in it. The message is in it twice, and
    percent-encoded once.
    """
    told = tuple(error.metadata.items())
    size = len(error.message) + sum(len(name) + len(value) for name, value in told)
    pack = _pack_again if size <= _KEPT_LENGTH_MAX else _pack
    return DETAILS_KEY, pack(error.reason, error.message, told)


def _pack(reason: Reason, message: str, metadata: tuple[tuple[str, str], ...]) -> bytes:
    info = error_details_pb2.ErrorInfo(reason=reason_name(reason), domain=DOMAIN)
    room = _METADATA_BYTES_MAX
    for name, value in metadata:
        told = redact_field(name, value[:_LOOKED_AT_LENGTH])
        kept = _first_bytes(told, min(room, _METADATA_VALUE_BYTES_MAX))
        info.metadata[name] = kept
        room -= len(kept.encode())
    status = status_pb2.Status(code=status_code(reason).value[0], message=short(message))
    for detail in (info, *_advice(reason, info.metadata)):
        # Each relay packs again; the bytes stay the same.
        status.details.add().Pack(detail, deterministic=True)
    packed: bytes = status.SerializeToString()
    return packed


_pack_again = lru_cache(maxsize=512)(_pack)
"""A flood of refusals says the same again and again, and this is most of what one costs."""


def _advice(reason: Reason, metadata: Mapping[str, str]) -> Iterator[Message]:
    """The same as in the metadata, in the forms that clients of gRPC know."""
    try:
        retry_s = float(metadata.get("retry_after_s", ""))
    except ValueError:
        retry_s = math.nan
    if 0 <= retry_s <= _RETRY_S_MAX:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(math.ceil(retry_s * 1000))
        yield retry
    if reason == Reason.QUOTA_EXCEEDED:
        subject = f"tenant:{metadata.get('tenant_id', '')}"
        what = f"{metadata.get('quota', '')}: at most {metadata.get('limit', '')}"
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=subject, description=what)
        yield failure


def from_trailer(code: grpc.StatusCode, message: str, details: bytes | None) -> ServiceError:
    """The error that a service answered with; one made from the code where it carries none.

    Texts of the transport name addresses, so they are not passed on.
    """
    if details is not None:
        error = _from_details(message, details)
        if error is not None:
            return error
    return _from_code(code)


def short(message: str) -> str:
    """A message that fits into a trailer, can be written as UTF-8, and holds no credential."""
    return _cut_again(message) if len(message) <= _KEPT_LENGTH_MAX else _cut(message)


def _cut(message: str) -> str:
    clean = redact_text(message[:_LOOKED_AT_LENGTH]).encode("utf-8", "replace").decode()
    size = 0
    for position, character in enumerate(clean):
        size += _wire_bytes(character)
        if size > _MESSAGE_WIRE_BYTES_MAX or position == _MESSAGE_LENGTH_MAX:
            return clean[:position] + "…"
    return clean


_cut_again = lru_cache(maxsize=512)(_cut)


def _wire_bytes(character: str) -> int:
    """What a character takes in `grpc-message`, which is percent-encoded."""
    if " " <= character <= "~" and character != "%":
        return 1
    return 3 * len(character.encode())


def _first_bytes(text: str, limit: int) -> str:
    return text.encode("utf-8", "replace")[: max(limit, 0)].decode("utf-8", "ignore")


def _from_details(message: str, details: bytes) -> ServiceError | None:
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.reason in _REASONS.values_by_name:
            reason = cast("Reason", Reason.Value(info.reason))
            error = ServiceError(reason, message, **dict(info.metadata))
            error.is_passed_on = True
            return error
    return None


def _from_code(code: grpc.StatusCode) -> ServiceError:
    texts = {
        grpc.StatusCode.UNAVAILABLE: (
            Reason.SERVICE_UNAVAILABLE,
            "A process that this call needs is not reachable; try again.",
        ),
        grpc.StatusCode.DEADLINE_EXCEEDED: (
            Reason.DEADLINE_EXCEEDED,
            "The call's deadline passed.",
        ),
        grpc.StatusCode.RESOURCE_EXHAUSTED: (
            Reason.MESSAGE_TOO_LARGE,
            "The message is larger than the limit.",
        ),
        grpc.StatusCode.CANCELLED: (Reason.CANCELLED, "The call was cancelled."),
        grpc.StatusCode.UNIMPLEMENTED: (Reason.NOT_IMPLEMENTED, "The method is not offered."),
    }
    reason, text = texts.get(code, (Reason.INTERNAL, "A process that this call needs failed."))
    return ServiceError(reason, text)
