"""Why a call failed, as exceptions: one family for each thing that a caller would do about it.

LLMSpellError
├── InvalidArgument      the request can never succeed as it is: change it
├── NotFound             what was named is not there, or not for this caller
├── AlreadyExists        what was to be made is there already
├── Conflict             a concurrent change won: read again, then retry
├── FailedPrecondition   the system is not in the state that the call needs
├── PermissionDenied     the caller is known and may not
├── Unauthenticated      the caller is not known: look at the API key
├── ResourceExhausted    a limit was reached
├── Unavailable          not reachable just now: try again
├── DeadlineExceeded     time ran out; the call may or may not have happened
├── Cancelled            the caller cancelled the call
├── Unimplemented        not offered by this deployment
├── DataLoss             stored bytes are damaged
└── Internal             their fault; the message has the id that their log knows

The `reason` names the exact case (`errors.proto` of the contract has them all); `metadata` holds
every part of the message that varies.
"""

# ruff: noqa: N818  (the families are named as in google.rpc.Code; `errors.NotFound` reads well)

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    import grpc

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "Conflict",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "LLMSpellError",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]

_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "llmspell-request-id"
_DOMAIN = "llmspell"


class LLMSpellError(Exception):
    """A call failed, or was refused before it was sent."""

    code: ClassVar[str] = "UNKNOWN"
    """Name of the gRPC status code."""
    usual_reason: ClassVar[str] = "INTERNAL"
    """The reason where the answer carries none, because the transport made it."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """One sentence for people."""
        self.reason = reason or self.usual_reason
        """Such as `DIMENSION_MISMATCH`."""
        self.metadata = dict(metadata or {})
        """What varies in the message, such as `expected` and `got`."""
        self.request_id = request_id
        """The call's id in the server's log; empty where it never got there."""
        self.retry_after_s = retry_after_s
        """Seconds after which the server says that the call may be made again (RetryInfo)."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}, {self.message!r}, {self.metadata!r})"


class InvalidArgument(LLMSpellError):
    """The request can never succeed as it is."""

    code = "INVALID_ARGUMENT"
    usual_reason = "FIELD_INVALID"


class NotFound(LLMSpellError):
    """What was named is not there, or not for this caller."""

    code = "NOT_FOUND"


class AlreadyExists(LLMSpellError):
    """What was to be made is there already."""

    code = "ALREADY_EXISTS"


class Conflict(LLMSpellError):
    """A concurrent change won; read again, then retry."""

    code = "ABORTED"
    usual_reason = "REVISION_MISMATCH"


class FailedPrecondition(LLMSpellError):
    """The system is not in the state that the call needs."""

    code = "FAILED_PRECONDITION"


class PermissionDenied(LLMSpellError):
    """The caller is known and may not."""

    code = "PERMISSION_DENIED"
    usual_reason = "PERMISSION_DENIED"


class Unauthenticated(LLMSpellError):
    """The caller is not known."""

    code = "UNAUTHENTICATED"
    usual_reason = "CREDENTIAL_INVALID"


class ResourceExhausted(LLMSpellError):
    """A limit was reached."""

    code = "RESOURCE_EXHAUSTED"
    usual_reason = "MESSAGE_TOO_LARGE"


class Unavailable(LLMSpellError):
    """Not reachable just now; try again."""

    code = "UNAVAILABLE"
    usual_reason = "SERVICE_UNAVAILABLE"


class DeadlineExceeded(LLMSpellError):
    """Time ran out; whether the call took effect is not known."""

    code = "DEADLINE_EXCEEDED"
    usual_reason = "DEADLINE_EXCEEDED"


class Cancelled(LLMSpellError):
    """The caller cancelled the call."""

    code = "CANCELLED"
    usual_reason = "CANCELLED"


class Unimplemented(LLMSpellError):
    """Not offered by this deployment."""

    code = "UNIMPLEMENTED"
    usual_reason = "NOT_IMPLEMENTED"


class DataLoss(LLMSpellError):
    """Stored bytes are damaged."""

    code = "DATA_LOSS"
    usual_reason = "RECORD_CORRUPT"


class Internal(LLMSpellError):
    """Their fault; the message has the id that their log knows."""

    code = "INTERNAL"


_FAMILIES: dict[str, type[LLMSpellError]] = {
    family.code: family for family in LLMSpellError.__subclasses__()
}


def from_rpc(error: grpc.RpcError, address: str) -> LLMSpellError:
    """The exception for a call that grpc says has failed; for both of grpc's call types."""
    code = error.code().name
    trailers = _trailers(error.trailing_metadata())
    family = _FAMILIES.get(code, Internal)
    request_id = str(trailers.get(_REQUEST_ID_KEY, ""))
    info, retry_after_s = _told(trailers.get(_DETAILS_KEY))
    details = error.details() or ""
    if info is None:
        return family(
            _transport_message(code, details, address),
            metadata={"transport": details},
            request_id=request_id,
        )
    return family(
        details,
        reason=info.reason,
        metadata=dict(info.metadata),
        request_id=request_id,
        retry_after_s=retry_after_s,
    )


def _trailers(metadata: Any) -> dict[str, str | bytes]:
    return {key: value for key, value in metadata or ()}  # noqa: C416  (grpc.aio's is no mapping)


def _told(details: str | bytes | None) -> tuple[error_details_pb2.ErrorInfo | None, float | None]:
    """Why, and after how many seconds to come again."""
    found, retry_after_s = None, None
    if not isinstance(details, bytes):
        return None, None
    try:
        for detail in status_pb2.Status.FromString(details).details:
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info) and info.domain == _DOMAIN:
                found = found or info
            elif detail.Unpack(retry):
                retry_after_s = max(retry.retry_delay.ToTimedelta().total_seconds(), 0.0)
    except (DecodeError, OverflowError):
        pass
    return found, retry_after_s


_TLS_TROUBLES = {
    "certificate has expired": "its certificate has expired",
    "certificate is not yet valid": "its certificate does not count yet; look at both clocks",
    "Hostname Verification Check failed": "its certificate is for another name",
    "unable to get local issuer": "its certificate is not signed by the authority that is trusted "
    "here (ca_file)",
    "self signed": "its certificate is signed by itself, not by the authority that is trusted here",
    "self-signed": "its certificate is signed by itself, not by the authority that is trusted here",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted here (ca_file)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS; call it without ca_file if that is meant",
    "CERTIFICATE_REQUIRED": "it asks for a certificate (certificate_file, key_file)",
    "TLSV1_ALERT": "it does not take the certificate that is shown (certificate_file)",
    "SSL_ERROR": "the two agree on no TLS; 1.3 is needed",
}
"""What grpc's texts say → what is told; the first that fits."""


def _tls_message(details: str, address: str) -> str:
    """What went wrong with TLS, empty where it is something else."""
    if "handshake failed" not in details and "verification check failed" not in details:
        return ""
    for text, told in _TLS_TROUBLES.items():
        if text in details:
            return f"No encrypted connection to {address}: {told}."
    return ""


def _transport_message(code: str, details: str, address: str) -> str:
    """What to tell where no service of ours has spoken; grpc's own texts are for its authors."""
    if code == "UNAVAILABLE" and (told := _tls_message(details, address)):
        return told
    if code == "UNAVAILABLE":
        if "failed to connect" in details and details.endswith("Socket closed"):
            return f"Nothing answers at {address}; if it speaks TLS, name its authority (ca_file)."
        if "failed to connect" in details or "resolv" in details:
            return f"Nothing answers at {address}."
        return f"The connection to {address} ended before the answer came."
    messages = {
        "DEADLINE_EXCEEDED": "No answer came in time.",
        "CANCELLED": "The call was cancelled.",
        "RESOURCE_EXHAUSTED": "A message is larger than the limit of 8 MiB.",
        "UNIMPLEMENTED": f"The server at {address} does not offer this method.",
    }
    return messages.get(code, f"{address} answered {code}: {details}")
