"""Records as lines of JSON, for exports in an open form, and back.

A line has all that a record has, so that what is read from it is the record, byte for byte. Each
area says in a module of its own (`item_lines` and so on) how its lines look; what they share is
here. What comes in is checked as a write is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from services.common.errors import ServiceError
from services.common.limits import VALUE_DEPTH_MAX
from services.common.redaction import redact, redact_text

Record = tuple[bytes, bytes]
"""Key without the tenant, and value."""

S = TypeVar("S", bound=msgspec.Struct)

REVISION_MAX = 2**42
"""No store comes so far by itself, and events have room for numbers behind it."""
_NUMBER_MAX = 2**53
_TIME_MAX = 2**63 - 2
_VALUES = (
    f"must hold truth values, finite numbers, texts, bytes, lists and maps, {VALUE_DEPTH_MAX} "
    "levels deep at most"
)
_DEFAULTS = (None, False, "")
"""What a line may say and need not."""
_NAMED = re.compile(r"(?: - at `\$\.?|field `)([^`]+)`")

Time = Annotated[int, msgspec.Meta(ge=0, le=_TIME_MAX)]
"""Nanoseconds since 1970."""
Revision = Annotated[int, msgspec.Meta(ge=1, le=REVISION_MAX)]
Number = Annotated[int, msgspec.Meta(ge=0, le=_NUMBER_MAX)]
"""A count, or a number of its own."""


class UnfitError(ValueError):
    """A line is no record; the text says why."""

    def __init__(self, why: str, field: str = "", *, number: int = 0, file: str = "") -> None:
        """Why, and which field; `number` and `file`: of the line, where it is not this one."""
        super().__init__(why)
        self.field = field
        self.number = number
        self.file = file


@dataclass(frozen=True, slots=True)
class Form(Generic[S]):
    """How the records of a database look as lines."""

    line: type[S]
    tell: Callable[[bytes, bytes], S]
    """Key without the tenant and value → a line that has all of it."""
    keep: Callable[[S], Record]
    """A line → the record, checked."""
    withhold: Callable[[S], S | None]
    """The line that an export has unless all is asked for; None: the same."""
    group: Callable[[S], str] | None = None
    """Which records are worth nothing without each other. Where a line of them was withheld, an
    import leaves all of them out; None: each stands for itself."""

    is_strict: bool = False
    """Whether parts of a line may have fields that nobody knows, which must be looked for."""

    def write(self, line: S, *, in_clear: bool) -> bytes:
        """A line as an export has it."""
        told = None if in_clear else self.withhold(line)
        return msgspec.json.encode(line if told is None else told)

    def read(self, line: bytes) -> S:
        """From what `write` wrote; what it says is not checked yet.

        Raises:
            UnfitError: it is something else.
        """
        try:
            found = msgspec.json.decode(line, type=self.line)
            told = msgspec.json.decode(line) if self.is_strict else {}
        except (ValueError, RecursionError) as error:
            raise _unread(error) from None
        check_known(told, msgspec.to_builtins(found) if told else {}, "")
        return found

    def record(self, line: S) -> Record:
        """A line's record, checked.

        Raises:
            UnfitError: a key, an id, a value, a state or a time breaks a rule or a limit.
        """
        try:
            return self.keep(line)
        except UnfitError:
            raise
        except ServiceError as error:
            why = error.message.rstrip(".")
            raise UnfitError(f"is unfit: {why}", error.metadata.get("field", "")) from None
        except (ValueError, OverflowError, RecursionError) as error:
            raise UnfitError(f"cannot be kept: {error}") from None


def is_withheld(line: msgspec.Struct) -> bool:
    """Whether an export has left out of a line what its record cannot be made without."""
    return bool(getattr(line, "withheld", False))


def revision_of(line: msgspec.Struct) -> int:
    """The revision that a line names; an import raises the store's to the highest."""
    revision: int = getattr(line, "revision", 0)
    return revision


def check(holds: object, field: str, rule: str) -> None:
    """Refuse a line whose field breaks a rule.

    Raises:
        UnfitError: `holds` is not true.
    """
    if not holds:
        raise UnfitError(rule, field)


def check_known(told: Any, known: Any, place: str) -> None:
    """Refuse fields that were read as if they were not there.

    Raises:
        UnfitError: there is one.
    """
    if isinstance(told, dict):
        for name, inner in told.items():
            there = isinstance(known, dict) and (name in known or inner in _DEFAULTS)
            check(there, f"{place}{name}", "is not known")
            check_known(inner, known.get(name), f"{place}{name}.")
    elif isinstance(told, list):
        for number, (inner, kept) in enumerate(zip(told, known, strict=True)):
            check_known(inner, kept, f"{place}{number}.")


class Metadata(msgspec.Struct, frozen=True):
    """A map as a line has it: as JSON where JSON can hold it, as MessagePack where not."""

    metadata: dict[str, Any] | None
    metadata_msgpack: bytes | None


def tell_metadata(metadata: dict[str, Any]) -> Metadata:
    """A map for a line."""
    packed = msgspec.msgpack.encode(metadata)
    try:
        back = msgspec.msgpack.encode(msgspec.json.decode(msgspec.json.encode(metadata)))
    except (TypeError, ValueError):
        back = b""
    return Metadata(metadata, None) if back == packed else Metadata(None, packed)


def keep_metadata(told: dict[str, Any] | None, packed: bytes | None) -> dict[str, Any]:
    """A map from a line.

    Raises:
        UnfitError: it is given twice, or is none.
    """
    check(told is None or packed is None, "metadata", "must be given once")
    if packed is None:
        found = told or {}
        check(all(_is_value(each, 1) for each in found.values()), "metadata", _VALUES)
        return found
    try:
        found = msgspec.msgpack.decode(packed, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise UnfitError(f"must be a map in MessagePack: {error}", "metadata_msgpack") from None
    check(msgspec.msgpack.encode(found) == packed, "metadata_msgpack", "must be in its usual form")
    check(all(_is_value(each, 1) for each in found.values()), "metadata_msgpack", _VALUES)
    return found


def _is_value(value: Any, depth: int) -> bool:
    """Whether it can be told to callers again, as what comes from them can."""
    match value:
        case int() if not isinstance(value, bool):
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case list():
            inner = value
        case dict():
            inner = list(value.values())
            if not all(isinstance(key, str) for key in value):
                return False
        case _:
            return value is None or isinstance(value, bool | str | bytes)
    fits = depth < VALUE_DEPTH_MAX or not inner
    return fits and all(_is_value(each, depth + 1) for each in inner)


def redacted(line: S, *texts: str, maps_bytes_max: int = 0) -> S | None:
    """A line without what looks like a credential; None where it has none.

    Args:
        line: The line.
        texts: Fields with what a caller wrote in his own words.
        maps_bytes_max: How many bytes its metadata may have; 0: it has none.
    """
    changed: dict[str, Any] = {}
    for name in texts:
        text = getattr(line, name)
        clean = tuple(map(_cut_text, text)) if isinstance(text, tuple) else _cut_text(text)
        if clean != text:
            changed[name] = clean
    if maps_bytes_max:
        changed |= _redacted_metadata(line, maps_bytes_max)
    return msgspec.structs.replace(line, **changed) if changed else None


def _redacted_metadata(line: msgspec.Struct, bytes_max: int) -> dict[str, Any]:
    told, packed = getattr(line, "metadata"), getattr(line, "metadata_msgpack")  # noqa: B009
    metadata = keep_metadata(told, packed)
    clean = redact(metadata)
    if clean == metadata:
        return {}
    if len(msgspec.msgpack.encode(clean)) > bytes_max:  # the marks are longer than what they hide
        clean = {}
    found = tell_metadata(clean)
    return {"metadata": found.metadata, "metadata_msgpack": found.metadata_msgpack}


def _cut_text(text: str) -> str:
    """Without credentials, and no longer than it was: there may be a limit to it."""
    clean = redact_text(text)
    return text if clean == text else clean.encode()[: len(text.encode())].decode(errors="ignore")


def _unread(error: Exception) -> UnfitError:
    found = _NAMED.search(str(error))
    return UnfitError(f"cannot be read: {error}", found[1] if found else "")
