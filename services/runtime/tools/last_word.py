"""The last word of a tool's process, as it was sent or noted: an outcome or a refusal.

The process may be in a stranger's hands: what it says is checked here, whichever way it came.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from services.common.errors import Reason, ServiceError
from services.common.limits import FRAME_BYTES_MAX, FRAME_NODES_MAX, MIB, VALUE_DEPTH_MAX
from services.runtime.frames import FrameError, FrameTooLong, Kind, check_tree
from services.runtime.toolbox.model import Failure, Outcome
from services.runtime.tools.entry import Entry

_TEXT_LENGTH_MAX = 2048
_ALLOWED_REASONS = frozenset(
    {
        "FIELD_INVALID",
        "FIELD_REQUIRED",
        "LIMIT_EXCEEDED",
        "NOT_IMPLEMENTED",
        "TOOL_FAILED",
        "TOOL_MEMORY_LIMIT",
        "PATH_REFUSED",
        "ADDRESS_REFUSED",
        "FILE_NOT_FOUND",
        "FILE_EXISTS",
        "FILES_FULL",
        "HOST_UNREACHABLE",
        "PERMISSION_DENIED",
    }
)
"""What a tool's process, which may be in a stranger's hands, can make a caller be told."""


class _Told(msgspec.Struct):
    """What a FAILURE frame holds."""

    reason: str
    message: str
    metadata: dict[str, str] = {}


class _ToldFailure(msgspec.Struct):
    message: str
    code: str
    details: dict[str, Any]


class _ToldOutcome(msgspec.Struct):
    result: Any
    operation: str
    message: str
    metadata: dict[str, Any]
    failure: _ToldFailure | None


def outcome_of(entry: Entry, kind: Kind, payload: bytes) -> Outcome:
    """What a RESULT holds.

    Raises:
        ServiceError: what a FAILURE holds; TOOL_RESULT_LIMIT where it is too wide or too deep.
        FrameError: where it is neither, or not well formed.
    """
    if kind is Kind.FAILURE:
        raise _refusal(entry, payload)
    if kind is not Kind.RESULT:
        raise FrameError(f"{kind.name} from a tool")
    try:
        return _outcome(payload)
    except FrameTooLong:
        raise too_large(entry) from None


def too_large(entry: Entry) -> ServiceError:
    """Its result is larger than what is read."""
    text = (
        f"made a larger result than {FRAME_BYTES_MAX} bytes, {FRAME_NODES_MAX} values or "
        f"{VALUE_DEPTH_MAX} levels"
    )
    return over(entry, Reason.TOOL_RESULT_LIMIT, text, FRAME_BYTES_MAX)


def over(entry: Entry, reason: Reason, what: str, limit: float | str) -> ServiceError:
    """It went beyond a limit."""
    name = entry.name
    return ServiceError(reason, f"The tool {name} {what}.", tool=name, limit=limit)


def _refusal(entry: Entry, payload: bytes) -> ServiceError:
    try:
        told = msgspec.json.decode(payload, type=_Told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("a failure that is not JSON") from None
    if told.reason == "TOOL_MEMORY_LIMIT":
        limit = entry.limits.memory_bytes // MIB
        text = f"needed more than {limit} MiB of memory"
        return over(entry, Reason.TOOL_MEMORY_LIMIT, text, limit)
    known = told.reason if told.reason in _ALLOWED_REASONS else "TOOL_FAILED"
    told_of = list(told.metadata.items())[:16]
    metadata = {name: text[:_TEXT_LENGTH_MAX] for name, text in told_of}
    metadata["tool"] = entry.name
    reason = cast("Reason", Reason.Value(known))
    return ServiceError(reason, told.message[:_TEXT_LENGTH_MAX], **metadata)


def _outcome(payload: bytes) -> Outcome:
    try:
        check_tree(payload, depth_max=VALUE_DEPTH_MAX + 2, nodes_max=FRAME_NODES_MAX)
        told = msgspec.msgpack.decode(payload, type=_ToldOutcome)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("a result that is not one") from None
    failure = None
    if told.failure is not None:
        known = told.failure
        failure = Failure(message=known.message, code=known.code, details=known.details)
    return Outcome(
        result=told.result,
        operation=told.operation,
        message=told.message,
        failure=failure,
        metadata=told.metadata,
    )
