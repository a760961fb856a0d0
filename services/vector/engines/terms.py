"""What a record's metadata is found by: its terms, as keys that sort as the values do.

| kind | what | followed by |
|---|---|---|
| PRESENT | the field holds something that is not null | |
| FILLED | the field holds something that is not empty either | |
| BOOLEAN | this | 1 byte |
| NUMBER | this amount | 10 bytes: float64 in order, and what an integer has beyond it |
| NUMBERS | an amount that begins so | 2 or 3, and so many bytes of that |
| TEXT | this text | UTF-8, NUL escaped, two NULs |
| LONG | a text that is too long for a key and begins so | 32 bytes of it, as in TEXT |
| MOMENT | text that means this moment | 8 bytes |
| MOMENTS | a moment that begins so | 2 or 3, and so many bytes of that |
| DIGEST | exactly this, whatever it is | 16 bytes of blake3 over a canonical form |

A field is 8 bytes of blake3 over its path. Coarse terms (NUMBERS, MOMENTS) let a range be read as a
few large sets and two small edges, as in Lucene's numeric tries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache

import msgspec
from blake3 import blake3

from services.vector.model import Value
from services.vector.values import parse_moment

PRESENT, FILLED, BOOLEAN, NUMBER, NUMBERS, TEXT, LONG, MOMENT, MOMENTS, DIGEST = (
    bytes([kind]) for kind in range(16, 26)
)
TERMS_MAX = 512
"""A record with more terms, or more values, is not found by terms, but looked at each time. What
was noted is forgotten by the same rule: another number, or another rule, is another schema."""
TEXT_BYTES_MAX = 256
"""With NUL escaped. LMDB's keys have at most 511 bytes, and those of a term 28 beside its text."""
LONG_BYTES = 32
LEVELS = (2, 3)
"""Bytes of the coarse terms."""

_FIELD_BYTES = 8
_DIGEST_BYTES = 16
_FLOAT = struct.Struct(">d")
_U64 = struct.Struct(">Q")
_U16 = struct.Struct(">H")
_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_REST = 1 << 15
_UNADDRESSABLE = frozenset(".[]")
_EMPTY: tuple[Value, ...] = ("", [], {})


_decode = msgspec.msgpack.Decoder(dict).decode


class TooManyTermsError(Exception):
    """A record has more than TERMS_MAX."""


@lru_cache(maxsize=1024)
def field_key(path: str) -> bytes:
    """What stands for a field in keys."""
    return blake3(path.encode()).digest(_FIELD_BYTES)


def terms_of(metadata: bytes) -> set[bytes]:
    """The terms of a record: field, kind, and what follows it.

    Raises:
        TooManyTermsError: where there are more than TERMS_MAX.
    """
    found: set[bytes] = set()
    entries = _decode(metadata)
    # Each value has a byte at least. Many are refused before a term of any is made, since a map's
    # digest costs as much as all that is in it.
    if len(metadata) > TERMS_MAX and _values_in(entries) > TERMS_MAX:
        raise TooManyTermsError
    for path, value in _fields(entries, ""):
        field = field_key(path)
        found.add(field + PRESENT)
        if value not in _EMPTY:
            found.add(field + FILLED)
        for entry in (value, *(value if isinstance(value, list) else ())):
            found.update(field + term for term in _terms(entry))
        if len(found) > TERMS_MAX:
            raise TooManyTermsError
    return found


def number_key(value: float) -> bytes:
    """An amount as bytes in order; 1 and 1.0 are the same, and integers keep every digit."""
    wide = float(value) + 0.0  # which makes one zero of two
    bits = _U64.unpack(_FLOAT.pack(wide))[0]
    ordered = bits ^ _ALL if bits & _SIGN else bits | _SIGN
    rest = value - int(wide) if isinstance(value, int) else 0
    return _U64.pack(ordered) + _U16.pack(rest + _REST)


def moment_key(moment_ns: int) -> bytes:
    """A moment as bytes in order."""
    return _U64.pack(moment_ns + _SIGN)


def text_key(text: str) -> bytes:
    """A text, or its beginning, as bytes in order; `TEXT_END` ends it."""
    return text.encode().replace(b"\0", b"\0\xff")


def long_key(text: str) -> bytes:
    """What a text begins with, as bytes in order; of one that is shorter, all of it."""
    return (text_key(text) + TEXT_END)[:LONG_BYTES]


TEXT_END = b"\0\0"


def digest_of(value: Value) -> bytes:
    """The same for values that are equal, and for no others."""
    return blake3(msgspec.msgpack.encode(_canonical(value))).digest(_DIGEST_BYTES)


def _fields(entries: dict[str, Value], path: str) -> Iterator[tuple[str, Value]]:
    """Every path that a filter can name, with what stands there."""
    for name, value in entries.items():
        if value is None or not name or _UNADDRESSABLE.intersection(name):
            continue
        here = f"{path}{name}"
        yield here, value
        if isinstance(value, dict):
            yield from _fields(value, f"{here}.")
        elif isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict):
                    yield from _fields(entry, f"{here}[].")


def _values_in(value: Value) -> int:
    """How many there are, the lists and maps themselves among them."""
    if isinstance(value, dict):
        return 1 + sum(map(_values_in, value.values()))
    return 1 + sum(map(_values_in, value)) if isinstance(value, list) else 1


def _terms(value: Value) -> Iterator[bytes]:
    if isinstance(value, bool):
        yield BOOLEAN + bytes([value])
    elif isinstance(value, int | float):
        key = number_key(value)
        yield NUMBER + key
        yield from _coarse(NUMBERS, key)
    elif isinstance(value, str):
        yield from _text_terms(value)
    elif value is not None:
        yield DIGEST + digest_of(value)


def _text_terms(value: str) -> Iterator[bytes]:
    text = text_key(value)
    if len(text) > TEXT_BYTES_MAX:
        yield LONG + long_key(value)
        yield DIGEST + digest_of(value)
        return
    yield TEXT + text + TEXT_END
    moment = parse_moment(value)
    if moment is not None:
        key = moment_key(moment)
        yield MOMENT + key
        yield from _coarse(MOMENTS, key)


def _coarse(kind: bytes, key: bytes) -> Iterator[bytes]:
    """The length first: the terms of a level then stand together, in order."""
    for level in LEVELS:
        yield kind + bytes([level]) + key[:level]


def _canonical(value: Value) -> Value:
    """A form in which equal values are written alike."""
    if isinstance(value, float) and value.is_integer() and -_SIGN <= value < _SIGN:
        return int(value)
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in sorted(value)}
    return value
