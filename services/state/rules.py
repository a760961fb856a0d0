"""What holds in every state engine: names, limits and preconditions.

Pure functions, asked by each engine before it touches its data, so that all refuse alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    BATCH_BYTES_MAX,
    BATCH_OPERATIONS_MAX,
    PAGE_SIZE_MAX,
    REQUEST_ID_BYTES_MAX,
    SCOPE_BYTES_MAX,
    STATE_KEY_BYTES_MAX,
    STATE_VALUE_BYTES_MAX,
    TENANT_ID_LENGTH_MAX,
    TTL_SECONDS_MAX,
)
from services.state import numbers
from services.state.model import (
    Check,
    Condition,
    Item,
    Precondition,
    Value,
    Write,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KEY_HAS_NOT = ("..", "\\", "//")
_KEY_BEGINS_NOT = ("__", "$$")
_SECOND_NS = 10**9


def check_place(tenant: str, scope: str) -> None:
    """Refuse a tenant or scope that cannot be part of a stored key."""
    _check_name("tenant", tenant, TENANT_ID_LENGTH_MAX)
    _check_name("scope", scope, SCOPE_BYTES_MAX)


def normal_key(key: str, field: str = "key") -> str:
    """A key in the form in which it is kept, Unicode's NFC.

    Raises:
        ServiceError: where it is empty, has more than 256 bytes of UTF-8 or control characters,
            contains `..`, `//` or a backslash, or begins with `__` or `$$`.
    """
    key = unicodedata.normalize("NFC", key)
    _check_name(field, key, STATE_KEY_BYTES_MAX)
    for part in _KEY_HAS_NOT:
        if part in key:
            raise field_invalid(field, f"must not contain {part}")
    for part in _KEY_BEGINS_NOT:
        if key.startswith(part):
            raise field_invalid(field, f"must not begin with {part}")
    return key


def normal_prefix(prefix: str, field: str = "prefix") -> str:
    """What keys begin with, in the form in which they are kept; empty is fine.

    Raises:
        ServiceError: where no key can begin so.
    """
    return normal_key(prefix, field) if prefix else ""


def check_after(after: str) -> None:
    """Refuse a cursor that cannot have been a key."""
    if after:
        _check_name("after", after, STATE_KEY_BYTES_MAX)


def check_request_id(request_id: str) -> None:
    """Refuse a request id: 1 to 64 bytes of UTF-8 without control characters."""
    _check_name("request_id", request_id, REQUEST_ID_BYTES_MAX)


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


def check_wait(wait_s: float, most_s: float) -> float:
    """So many seconds to wait; refuse what is negative or too long."""
    if wait_s < 0:
        raise field_invalid("wait", "must not be negative")
    if wait_s > most_s:
        raise limit_exceeded("wait", int(wait_s), int(most_s), "seconds")
    return wait_s


def check_batch_length(count: int) -> None:
    """Refuse a batch of no checks and writes, or of too many."""
    if count == 0:
        raise required("writes")
    if count > BATCH_OPERATIONS_MAX:
        raise limit_exceeded("checks and writes", count, BATCH_OPERATIONS_MAX)


def normal_batch(
    tenant: str, checks: Sequence[Check], writes: Sequence[Write]
) -> tuple[Sequence[Check], Sequence[Write]]:
    """A batch with its keys in the form in which they are kept.

    Raises:
        ServiceError: where it is empty, too long, too large, or has a bad part, which is named.
    """
    check_batch_length(len(checks) + len(writes))
    size = sum(len(write.value.content) for write in writes if write.value is not None)
    if size > BATCH_BYTES_MAX:
        raise limit_exceeded("writes", size, BATCH_BYTES_MAX, "bytes")
    return (
        [_normal_check(tenant, check, number) for number, check in enumerate(checks)],
        [_normal_write(tenant, write, number) for number, write in enumerate(writes)],
    )


def _normal_check(tenant: str, check: Check, number: int) -> Check:
    check_place(tenant, check.scope)
    return msgspec.structs.replace(check, key=normal_key(check.key, f"checks[{number}].key"))


def _normal_write(tenant: str, write: Write, number: int) -> Write:
    check_place(tenant, write.scope)
    key = normal_key(write.key, f"writes[{number}].key")
    check_ttl(write.ttl_ns, f"writes[{number}].ttl")
    if write.value is not None:
        check_value(write.value, f"writes[{number}].set")
    if write.delta is not None:
        numbers.check_delta(write.delta, f"writes[{number}].increment")
    return msgspec.structs.replace(write, key=key)


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
