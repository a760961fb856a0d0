"""The one exception that crosses rooms, and the reasons it may have.

An engine raises `ServiceError`; the door turns it into a status (`common.status`). Anything else
that escapes a handler becomes INTERNAL with an id, and its text never leaves the process.
"""

from __future__ import annotations

from typing import cast

from llmspell.v1.errors_pb2 import Reason

__all__ = [
    "Reason",
    "ServiceError",
    "field_invalid",
    "limit_exceeded",
    "reason_name",
    "reason_named",
    "required",
]


class ServiceError(Exception):
    """A failure with a reason of the contract (`protos/llmspell/v1/errors.proto`).

    The message is one sentence for the caller and may be shown to anyone who made the call; the
    metadata holds every part of it that varies (AIP-193).
    """

    def __init__(self, reason: Reason, message: str, /, **metadata: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {name: str(value) for name, value in metadata.items()}
        self.is_passed_on = False
        """Whether another process answered with it."""

    def __repr__(self) -> str:
        return f"ServiceError({reason_name(self.reason)}, {self.message!r}, {self.metadata!r})"


def reason_name(reason: Reason) -> str:
    """The reason as ErrorInfo carries it, such as `DIMENSION_MISMATCH`."""
    return Reason.Name(reason)


def reason_named(name: str, otherwise: Reason) -> Reason:
    """The reason of this name; `otherwise` where the contract has none."""
    known = Reason.DESCRIPTOR.values_by_name.get(name)
    return otherwise if known is None else cast("Reason", known.number)


def required(field: str) -> ServiceError:
    """A field that must be set is empty."""
    return ServiceError(Reason.FIELD_REQUIRED, f"{field} must be set.", field=field)


def field_invalid(field: str, rule: str) -> ServiceError:
    """A field breaks its rule, such as `must be positive`."""
    return ServiceError(Reason.FIELD_INVALID, f"{field} {rule}.", field=field, rule=rule)


def limit_exceeded(field: str, got: int, limit: int, unit: str = "") -> ServiceError:
    """A field is larger than its limit."""
    words = f" {unit}" if unit else ""
    return ServiceError(
        Reason.LIMIT_EXCEEDED,
        f"{field} is {got}{words}; the limit is {limit}{words}.",
        field=field,
        got=got,
        limit=limit,
    )
