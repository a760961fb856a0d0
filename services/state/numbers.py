"""Numbers in items, and how they grow: whole ones of 64 bits, doubles, and decimals without loss.

A decimal stays the text that it is: 0.1 and 0.2 make 0.3, and 1.10 keeps its zero. What would need
more digits than are kept is an error, never a rounding.
"""

from __future__ import annotations

import math
import re
from decimal import (
    Context,
    Decimal,
    DecimalException,
    Inexact,
    InvalidOperation,
    Overflow,
    Subnormal,
    Underflow,
)
from typing import TypeAlias

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import (
    DECIMAL_DIGITS_MAX,
    DECIMAL_EXPONENT_MAX,
    DECIMAL_TEXT_BYTES_MAX,
)
from services.state.model import Encoding, Value

Number: TypeAlias = int | float | Decimal

_INT64_MIN = -(2**63)
_INT64_MAX = 2**63 - 1
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)
_PLAIN_LENGTH_MAX = 60
_EXACT = Context(
    prec=DECIMAL_DIGITS_MAX,
    Emin=-DECIMAL_EXPONENT_MAX,
    Emax=DECIMAL_EXPONENT_MAX,
    traps=[Inexact, InvalidOperation, Overflow, Subnormal, Underflow],
)
"""Refuses whatever it would have to round. Doubles reach as far, so whoever reads JSON can."""


def check_delta(delta: Number, field: str = "delta") -> None:
    """Refuse to add what is not finite, or has more than 64 bits."""
    if isinstance(delta, Decimal):
        return  # `read_decimal` has looked at it
    if isinstance(delta, float):
        if not math.isfinite(delta):
            raise field_invalid(field, "must be finite")
    elif not _INT64_MIN <= delta <= _INT64_MAX:
        raise field_invalid(field, "must fit into 64 bits")


def read_decimal(text: str, field: str) -> Decimal:
    """A decimal number as JSON writes one.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED where it has too many digits.
    """
    size = len(text)
    if size > DECIMAL_TEXT_BYTES_MAX:
        raise limit_exceeded(field, size, DECIMAL_TEXT_BYTES_MAX, "bytes")
    if not _NUMBER.fullmatch(text):
        raise field_invalid(field, "must be a decimal number such as -12.50")
    try:
        return _EXACT.create_decimal(text)
    except DecimalException:
        digits = len(Decimal(text).as_tuple().digits)
    if digits > DECIMAL_DIGITS_MAX:
        raise limit_exceeded(field, digits, DECIMAL_DIGITS_MAX, "digits")
    most = DECIMAL_EXPONENT_MAX
    raise field_invalid(field, f"must be between 1e-{most} and 1e{most}")


def write_decimal(number: Decimal) -> str:
    """A decimal number as JSON writes it: without exponent where that is short."""
    if number.is_zero() and number.is_signed():
        number = -number
    plain = format(number, "f")
    return plain if len(plain) <= _PLAIN_LENGTH_MAX else str(number)


def add(key: str, value: Value | None, delta: Number) -> Number:
    """An item's number plus `delta`; an absent one counts as 0.

    Raises:
        ServiceError: VALUE_NOT_NUMBER.
    """
    if isinstance(delta, Decimal):
        return _add_exactly(key, value, delta)
    number: int | float = 0 if value is None else _number(key, value)
    total = number + delta
    if isinstance(total, int):
        if not _INT64_MIN <= total <= _INT64_MAX:
            raise _not_number(key, "the sum leaves the range of 64 bits")
    elif not math.isfinite(total):
        raise _not_number(key, "the sum leaves the range of a double")
    return total


def number_value(number: Number) -> Value:
    """A number as an item holds it."""
    if isinstance(number, Decimal):
        return Value(Encoding.JSON, write_decimal(number).encode())
    return Value(Encoding.JSON, msgspec.json.encode(number))


def _add_exactly(key: str, value: Value | None, delta: Decimal) -> Decimal:
    number = Decimal(0) if value is None else _decimal(key, value)
    try:
        return _EXACT.add(number, delta)
    except DecimalException:
        raise _not_number(
            key,
            f"the sum has more than {DECIMAL_DIGITS_MAX} digits or leaves the range of "
            f"1e{DECIMAL_EXPONENT_MAX}",
        ) from None


def _decimal(key: str, value: Value) -> Decimal:
    text = value.content.decode("utf-8", "replace").strip(" \t\r\n")
    if value.encoding is not Encoding.JSON or not _NUMBER.fullmatch(text):
        raise _not_number(key, "the item is not a JSON number")
    try:
        return _EXACT.create_decimal(text)
    except DecimalException:
        raise _not_number(
            key, f"the item has more than {DECIMAL_DIGITS_MAX} digits or is out of range"
        ) from None


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
