"""The one translator between `ServiceError` and google.rpc.Status."""

from __future__ import annotations

from typing import Any, cast

import grpc
from google.protobuf import any_pb2
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

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_REASONS = errors_pb2.DESCRIPTOR.enum_types_by_name["Reason"]


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
    info = error_details_pb2.ErrorInfo(reason=reason_name(error.reason), domain=DOMAIN)
    room = _METADATA_BYTES_MAX
    for name, value in error.metadata.items():
        told = redact_field(name, value[:_LOOKED_AT_LENGTH])
        kept = _first_bytes(told, min(room, _METADATA_VALUE_BYTES_MAX))
        info.metadata[name] = kept
        room -= len(kept.encode())
    detail = any_pb2.Any()
    detail.Pack(info, deterministic=True)  # each relay packs again; the bytes stay the same
    status = status_pb2.Status(
        code=status_code(error.reason).value[0], message=short(error.message), details=[detail]
    )
    return DETAILS_KEY, status.SerializeToString()


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
    clean = redact_text(message[:_LOOKED_AT_LENGTH]).encode("utf-8", "replace").decode()
    size = 0
    for position, character in enumerate(clean):
        size += _wire_bytes(character)
        if size > _MESSAGE_WIRE_BYTES_MAX or position == _MESSAGE_LENGTH_MAX:
            return clean[:position] + "…"
    return clean


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
