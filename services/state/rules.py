"""What holds in every state engine: names, limits, preconditions, and how a number grows.

Pure functions, asked by each engine before it touches its data, so that all refuse alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    BATCH_BYTES_MAX,
    BATCH_OPERATIONS_MAX,
    PAGE_SIZE_MAX,
    SCOPE_BYTES_MAX,
    STATE_KEY_BYTES_MAX,
    STATE_VALUE_BYTES_MAX,
    TENANT_ID_LENGTH_MAX,
    TTL_SECONDS_MAX,
)
from services.state.model import (
    Check,
    Condition,
    Encoding,
    Item,
    Precondition,
    Value,
    Write,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INT64_MIN = -(2**63)
_INT64_MAX = 2**63 - 1
_SECOND_NS = 10**9


def check_place(tenant: str, scope: str) -> None:
    """Refuse a tenant or scope that cannot be part of a stored key."""
    _check_name("tenant", tenant, TENANT_ID_LENGTH_MAX)
    _check_name("scope", scope, SCOPE_BYTES_MAX)


def check_key(key: str, field: str = "key") -> None:
    """Refuse a key: 1 to 256 bytes of UTF-8 without control characters."""
    _check_name(field, key, STATE_KEY_BYTES_MAX)


def check_prefix(prefix: str, field: str = "prefix") -> None:
    """Refuse what no key can begin with; empty is fine."""
    if prefix:
        _check_name(field, prefix, STATE_KEY_BYTES_MAX)


def check_value(value: Value, field: str = "value") -> None:
    """Refuse a value that is too large."""
    if len(value.content) > STATE_VALUE_BYTES_MAX:
        raise limit_exceeded(field, len(value.content), STATE_VALUE_BYTES_MAX, "bytes")


def check_ttl(ttl_ns: int | None, field: str = "ttl") -> None:
    """Refuse a time to live that is not positive, or too long."""
    if ttl_ns is None:
        return
    if ttl_ns <= 0:
        raise field_invalid(field, "must be positive")
    if ttl_ns > TTL_SECONDS_MAX * _SECOND_NS:
        raise limit_exceeded(field, ttl_ns // _SECOND_NS, TTL_SECONDS_MAX, "seconds")


def check_batch_length(count: int) -> None:
    """Refuse a batch of no checks and writes, or of too many."""
    if count == 0:
        raise required("writes")
    if count > BATCH_OPERATIONS_MAX:
        raise limit_exceeded("checks and writes", count, BATCH_OPERATIONS_MAX)


def check_batch(tenant: str, checks: Sequence[Check], writes: Sequence[Write]) -> None:
    """Refuse a batch that is empty, too long, too large, or has a bad part; parts are named."""
    check_batch_length(len(checks) + len(writes))
    for number, check in enumerate(checks):
        check_place(tenant, check.scope)
        check_key(check.key, f"checks[{number}].key")
    for number, write in enumerate(writes):
        check_place(tenant, write.scope)
        check_key(write.key, f"writes[{number}].key")
        check_ttl(write.ttl_ns, f"writes[{number}].ttl")
        if write.value is not None:
            check_value(write.value, f"writes[{number}].set")
    size = sum(len(write.value.content) for write in writes if write.value is not None)
    if size > BATCH_BYTES_MAX:
        raise limit_exceeded("writes", size, BATCH_BYTES_MAX, "bytes")


def page_limit(limit: int) -> int:
    """How many items a page may hold; more than the most means the most."""
    if limit <= 0:
        raise field_invalid("limit", "must be positive")
    return min(limit, PAGE_SIZE_MAX)


def check_precondition(key: str, item: Item | None, precondition: Precondition) -> None:
    """Refuse a write whose precondition does not hold for the item that is there.

    Raises:
        ServiceError: REVISION_MISMATCH with the item's revision, 0 where it is absent.
    """
    revision = 0 if item is None else item.revision
    wanted, holds = {
        Condition.ABSENT: ("be absent", item is None),
        Condition.PRESENT: ("be present", item is not None),
        Condition.REVISION: (
            f"have revision {precondition.revision}",
            item is not None and revision == precondition.revision,
        ),
    }[precondition.condition]
    if not holds:
        state = "is absent" if item is None else f"has revision {revision}"
        raise ServiceError(
            Reason.REVISION_MISMATCH,
            f"{key!r} {state}; it was expected to {wanted}. Read it again and retry.",
            key=key,
            revision=revision,
        )


def check_delta(delta: float) -> None:
    """Refuse to add what is not finite, or has more than 64 bits."""
    if isinstance(delta, float):
        if not math.isfinite(delta):
            raise field_invalid("delta", "must be finite")
    elif not _INT64_MIN <= delta <= _INT64_MAX:
        raise field_invalid("delta", "must fit into 64 bits")


def add(key: str, value: Value | None, delta: float) -> int | float:
    """An item's number plus `delta`; an absent one counts as 0.

    Raises:
        ServiceError: VALUE_NOT_NUMBER.
    """
    number: int | float = 0 if value is None else _number(key, value)
    total = number + delta
    if isinstance(total, int):
        if not _INT64_MIN <= total <= _INT64_MAX:
            raise _not_number(key, "the sum leaves the range of 64 bits")
    elif not math.isfinite(total):
        raise _not_number(key, "the sum leaves the range of a double")
    return total


def number_value(number: float) -> Value:
    """A number as an item holds it."""
    return Value(Encoding.JSON, msgspec.json.encode(number))


def _number(key: str, value: Value) -> int | float:
    if value.encoding is not Encoding.JSON:
        raise _not_number(key, "the item is not JSON")
    try:
        number = msgspec.json.decode(value.content)
    except (msgspec.DecodeError, RecursionError):
        raise _not_number(key, "the item is not a number") from None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _not_number(key, "the item is not a number")
    if isinstance(number, int) and not _INT64_MIN <= number <= _INT64_MAX:
        raise _not_number(key, "the item has more than 64 bits")
    return number


def _not_number(key: str, why: str) -> ServiceError:
    return ServiceError(Reason.VALUE_NOT_NUMBER, f"{key!r} cannot be added to: {why}.", key=key)


def _check_name(field: str, text: str, bytes_max: int) -> None:
    if not text:
        raise required(field)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise field_invalid(field, "must be text that UTF-8 can hold") from None
    if size > bytes_max:
        raise limit_exceeded(field, size, bytes_max, "bytes")
    if _CONTROL.search(text):
        raise field_invalid(field, "must not contain control characters")
