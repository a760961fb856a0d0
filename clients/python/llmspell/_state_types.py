"""What is given and got about state. `types` has them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

Encoding: TypeAlias = Literal["json", "text", "raw"]
"""How an item's value is kept."""

ChangeKind: TypeAlias = Literal["set", "delete", "increment", "expire", "purge", "migrate"]
"""What happened to an item; `purge`: to all that the tenant had; `migrate`: to all of the scope
whose keys begin with the key, and of all scopes where the scope is empty."""


@dataclass(frozen=True, slots=True)
class Item:
    """One key's value."""

    key: str
    value: Any
    """The decoded JSON, or `str` for text, or `bytes` for raw; None where only keys were asked
    for."""
    revision: int
    """Of its last change."""
    encoding: Encoding | None = None
    """None where only keys were asked for."""
    create_time: datetime | None = None
    update_time: datetime | None = None
    expire_time: datetime | None = None
    """None: never."""
    sensitive: bool = False
    """Whether it is kept out of logs, events, errors and exports."""


@dataclass(frozen=True, slots=True)
class SetItem:
    """Part of a batch: write this."""

    key: str
    value: Any
    scope: str = "global"
    ttl_s: float | None = None
    text: bool = False
    """Keep a `str` as text instead of as JSON."""
    sensitive: bool = False
    """Keep the value out of logs, events, errors and exports."""


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """Part of a batch: remove this."""

    key: str
    scope: str = "global"


@dataclass(frozen=True, slots=True)
class IncrementItem:
    """Part of a batch: add this to a number, where none counts as 0. Decimals are added exactly."""

    key: str
    by: float | Decimal = 1
    scope: str = "global"


@dataclass(frozen=True, slots=True)
class CheckItem:
    """Part of a batch: nothing is written unless this holds. Give one of the three."""

    key: str
    scope: str = "global"
    revision: int | None = None
    """The item has this revision."""
    absent: bool = False
    """There is no such item."""
    present: bool = False
    """There is one, whatever its revision."""


BatchOperation: TypeAlias = CheckItem | SetItem | DeleteItem | IncrementItem
"""What a batch can hold."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch did."""

    revision: int
    """Shared by all its writes."""
    deleted_count: int
    sums: tuple[int | float | Decimal, ...] = ()
    """What its additions made, in their order; a Decimal where one was added."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of one item."""

    kind: ChangeKind
    scope: str
    key: str
    revision: int
    """Changes that happened together share it."""
    item: Item | None = None
    """The item as the change left it, where values were asked for and it is still so."""


@dataclass(frozen=True, slots=True)
class StateChanges:
    """What a watch has seen since it last told."""

    changes: Sequence[StateChange]
    """In the order in which they happened."""
    revision: int
    """Watch on after this one, and nothing is missed."""


@dataclass(frozen=True, slots=True)
class ResolvedItem:
    """An item, and where it was found."""

    item: Item
    scope: str
    """The nearest that has it."""
