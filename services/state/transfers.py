"""Copying, moving and clearing: one item, or what a scope has under a prefix, all or nothing.

A copy has the value and the end of what it is a copy of. What is written shares one revision, in
which each item has its change record: a move is a removal and a write. The most that one call takes
is bounded, because everybody's writes wait for it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.common import failpoints
from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import TRANSFER_BYTES_MAX, TRANSFER_ITEMS_MAX
from services.state import rules
from services.state.item_step import ItemStep
from services.state.layout import ITEMS
from services.state.layout import items as layout
from services.state.layout.items import ChangeKind
from services.state.model import Address, Changed, Item, Once, Precondition, Transferred
from services.state.requests import Requests
from services.state.step import Keeper, Step


class Transfers:
    """Copies, moves and clears items of all tenants. `Items` says what holds of every call."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        items_max: int = TRANSFER_ITEMS_MAX,
        bytes_max: int = TRANSFER_BYTES_MAX,
    ) -> None:
        """`items_max`, `bytes_max`: items, and bytes of their values, of one call."""
        self._requests = Requests(keeper)
        self._items_max = items_max
        self._bytes_max = bytes_max

    async def copy(
        self,
        tenant: str,
        source: Address,
        target: Address,
        *,
        move: bool = False,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Changed:
        """Write an item's value and end to another place, over what is there.

        Args:
            tenant: Whose items.
            source: Which item.
            target: Where to.
            move: Whether to remove it where it was.
            precondition: What must hold of the target.
            once: See `requests`.

        Raises:
            ServiceError: ITEM_NOT_FOUND where the source is absent, REVISION_MISMATCH,
                FIELD_INVALID where both places are one.
        """
        source = _normal(tenant, source, "source_key")
        target = _normal(tenant, target, "key")
        if source == target:
            raise field_invalid("key", "must differ from source_key, or its scope must")

        def operation(step: Step) -> Changed:
            items = ItemStep(step)
            begin = layout.item_key(tenant, source.scope, source.key)
            end = layout.item_key(tenant, target.scope, target.key)
            item = items.alive(begin)
            if item is None:
                raise item_not_found(source.key, source.scope)
            deleted = _transfer(items, item, begin, end, precondition=precondition, move=move)
            return Changed(step.revision, deleted)

        return await self._requests.step(tenant, once, Changed, operation, grows=True)

    async def copy_scope(
        self,
        tenant: str,
        source: str,
        target: str,
        *,
        prefix: str = "",
        move: bool = False,
        precondition: Precondition | None = None,
        once: Once | None = None,
    ) -> Transferred:
        """Copy every item of a scope into another one, under its key.

        Args:
            tenant: Whose items.
            source: From this scope.
            target: Into this one.
            prefix: Only keys that begin with this.
            move: Whether to remove them where they were.
            precondition: What must hold of each target.
            once: See `requests`.

        Raises:
            ServiceError: REVISION_MISMATCH for the first target of which it does not hold,
                LIMIT_EXCEEDED where there are too many, FIELD_INVALID where both scopes are one.
        """
        for scope in (source, target):
            rules.check_place(tenant, scope)
        prefix = rules.normal_prefix(prefix)
        if source == target:
            raise field_invalid("scope", "must differ from source_scope")

        def operation(step: Step) -> Transferred:
            items = ItemStep(step)
            keys = self._keys(step, tenant, source, prefix, with_bytes=True)
            for key in keys:
                begin, end = (
                    layout.item_key(tenant, source, key),
                    layout.item_key(tenant, target, key),
                )
                item = items.alive(begin)
                assert item is not None, "it was seen in this transaction"
                _transfer(items, item, begin, end, precondition=precondition, move=move)
                failpoints.hit("transfer.between_items")
            return Transferred(len(keys), step.revision)

        return await self._requests.step(tenant, once, Transferred, operation, grows=True)

    async def clear(
        self,
        tenant: str,
        scope: str,
        *,
        prefix: str = "",
        in_parts: bool = False,
        once: Once | None = None,
    ) -> Transferred:
        """Remove every item of a scope, or of a prefix in it.

        Args:
            tenant: Whose items.
            scope: Of this scope.
            prefix: Only keys that begin with this.
            in_parts: Where there are more than one call takes, remove so many and say that there
                are more.
            once: See `requests`.

        Raises:
            ServiceError: LIMIT_EXCEEDED where there are too many, and `in_parts` is not asked for.
        """
        rules.check_place(tenant, scope)
        prefix = rules.normal_prefix(prefix)

        def operation(step: Step) -> Transferred:
            items = ItemStep(step)
            keys = self._keys(step, tenant, scope, prefix, beyond=in_parts)
            more = len(keys) > self._items_max
            keys = keys[: self._items_max]
            for key in keys:
                items.delete(layout.item_key(tenant, scope, key))
                failpoints.hit("transfer.between_items")
            return Transferred(len(keys), step.revision, more)

        return await self._requests.step(tenant, once, Transferred, operation)

    def _keys(
        self,
        step: Step,
        tenant: str,
        scope: str,
        prefix: str,
        *,
        beyond: bool = False,
        with_bytes: bool = False,
    ) -> list[str]:
        """Keys of the items that are seen; `beyond`: one more than allowed is no error."""
        keys: list[str] = []
        size = 0
        for key, length in _seen(step, layout.item_key(tenant, scope, prefix)):
            keys.append(key)
            if len(keys) > self._items_max:
                if beyond:
                    return keys
                raise _too_many("items", len(keys), self._items_max)
            size += length
            if with_bytes and size > self._bytes_max:
                raise _too_many("bytes", size, self._bytes_max)
        return keys


def _seen(step: Step, begin: bytes) -> Iterator[tuple[str, int]]:
    """Key and bytes of the value of each item that is seen."""
    for place, stored in step.txn.scan(ITEMS, begin):
        if layout.ends_ns(stored) > step.now_ns:
            yield layout.split_item_key(place)[2], layout.plain_bytes(stored)


def _transfer(
    items: ItemStep,
    item: Item,
    source: bytes,
    target: bytes,
    *,
    precondition: Precondition | None,
    move: bool,
) -> int:
    """Write an item to its target; how many were removed for it."""
    if precondition is not None:
        rules.check_precondition(
            layout.split_item_key(target)[2], items.alive(target), precondition
        )
    assert item.value is not None, "it was read with its value"
    items.put(target, item.value, item.expire_time_ns, kind=ChangeKind.SET)
    return int(items.delete(source)) if move else 0


def _normal(tenant: str, address: Address, field: str) -> Address:
    rules.check_place(tenant, address.scope)
    return Address(address.scope, rules.normal_key(address.key, field))


def item_not_found(key: str, scope: str) -> ServiceError:
    """There is no such item."""
    return ServiceError(
        Reason.ITEM_NOT_FOUND,
        f"There is no item {key!r} in scope {scope}.",
        key=key,
        scope=scope,
    )


def _too_many(what: str, got: int, limit: int) -> ServiceError:
    error = limit_exceeded(what, got, limit)
    error.message = (
        f"There are more {what} than one call takes, which is {limit}; nothing was changed. "
        "Take a longer prefix, and more calls."
    )
    return error
