"""What state engines take and give: frozen values, and nothing of the wire.

Times are nanoseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import Enum, IntEnum, auto

import msgspec


class Encoding(IntEnum):
    """How to read a value's bytes. The numbers are stored."""

    JSON = 1
    """A JSON document."""
    TEXT = 2
    """UTF-8."""
    RAW = 3
    """Bytes."""


class Value(msgspec.Struct, frozen=True):
    """What an item holds, as it came."""

    encoding: Encoding
    content: bytes
    is_sensitive: bool = False
    """Whether only readers of the item are told: neither logs nor events nor exports."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One key's value, with its revision."""

    key: str
    value: Value | None
    """None where only keys were asked for."""
    revision: int
    """Of the last change."""
    create_time_ns: int
    """When the key was first written since it was last absent."""
    update_time_ns: int
    expire_time_ns: int | None = None
    """From this moment on nobody sees the item; None: never."""

    def alive_at(self, now_ns: int) -> bool:
        """Whether the item is seen at this moment."""
        return self.expire_time_ns is None or now_ns < self.expire_time_ns


class Condition(Enum):
    """What a precondition asks of an item."""

    REVISION = auto()
    """It is there with this revision."""
    ABSENT = auto()
    """It is not there."""
    PRESENT = auto()
    """It is there."""


class Precondition(msgspec.Struct, frozen=True):
    """What must hold for a write to happen."""

    condition: Condition
    revision: int = 0
    """With REVISION: which one."""


class Address(msgspec.Struct, frozen=True):
    """Where an item is."""

    scope: str
    key: str


class Once(msgspec.Struct, frozen=True):
    """How a write that was made already is known again."""

    request_id: str
    """The caller's name for it."""
    digest: bytes
    """Of all that it asks for."""


class Check(msgspec.Struct, frozen=True):
    """A condition on one item."""

    scope: str
    key: str
    precondition: Precondition


class Write(msgspec.Struct, frozen=True):
    """One change in a batch."""

    scope: str
    key: str
    value: Value | None
    """None removes the item, where `delta` is None too."""
    ttl_ns: int | None = None
    """Time to live from the moment of writing; None: for ever."""
    delta: int | float | Decimal | None = None
    """Add this to the item's number instead; see `Items.increment`."""

    @property
    def removes(self) -> bool:
        """Whether it takes the item away."""
        return self.value is None and self.delta is None


class Found(msgspec.Struct, frozen=True):
    """An item, or its absence, and the revision at which that was so."""

    item: Item | None
    revision: int


class Resolved(msgspec.Struct, frozen=True):
    """An item, or its absence, and the scope where it was found."""

    item: Item | None
    scope: str
    """Empty where there is none."""
    revision: int


class Transferred(msgspec.Struct, frozen=True):
    """How many items were copied, moved or cleared."""

    count: int
    revision: int
    more: bool = False
    """Whether some are left, because they were too many for one call."""


class Changed(msgspec.Struct, frozen=True):
    """What a write did."""

    revision: int
    """The revision that it took; the current one where it changed nothing."""
    deleted_count: int = 0
    sums: tuple[int | float | Decimal, ...] = ()
    """The numbers that its additions made, in their order."""


class Counted(msgspec.Struct, frozen=True):
    """An item's number after an increment."""

    number: int | float | Decimal
    revision: int


class Page(msgspec.Struct, frozen=True):
    """Items in key order."""

    items: Sequence[Item]
    after: str | None
    """Ask on after this key; None at the end."""
    revision: int
