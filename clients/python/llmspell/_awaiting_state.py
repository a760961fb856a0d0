"""State of the client for asyncio; `_blocking_state` says more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from decimal import Decimal
from typing import Any, overload

from llmspell import _state
from llmspell import types as t
from llmspell._awaiting import AsyncCaller
from llmspell.errors import DeadlineExceeded, NotFound, Unavailable


class AsyncStateCalls(AsyncCaller):
    """Items, and what happens to them."""

    async def get_state(self, key: str, *, scope: str = "global") -> t.Item | None:
        """One item; None where there is none."""
        try:
            return await self._unary(_state.get_state(key, scope))
        except NotFound as error:
            if error.reason != "ITEM_NOT_FOUND":
                raise
            return None

    async def set_state(
        self,
        key: str,
        value: Any,
        *,
        scope: str = "global",
        ttl_s: float | None = None,
        text: bool = False,
        sensitive: bool = False,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> int:
        """Write one item; its new revision."""
        item = t.SetItem(key, value, scope, ttl_s, text, sensitive)
        return await self._unary(
            _state.set_state(
                item, if_revision=if_revision, if_absent=if_absent, if_present=if_present
            )
        )

    async def delete_state(
        self, key: str, *, scope: str = "global", if_revision: int | None = None
    ) -> bool:
        """Remove one item; whether it was there."""
        return await self._unary(_state.delete_state(key, scope, if_revision=if_revision))

    @overload
    async def increment_state(
        self, key: str, by: Decimal, *, scope: str = "global", if_revision: int | None = None
    ) -> Decimal: ...

    @overload
    async def increment_state(
        self, key: str, by: float = 1, *, scope: str = "global", if_revision: int | None = None
    ) -> int | float: ...

    async def increment_state(
        self,
        key: str,
        by: float | Decimal = 1,
        *,
        scope: str = "global",
        if_revision: int | None = None,
    ) -> int | float | Decimal:
        """Add to a number, where none counts as 0; the sum. Decimals are added without loss."""
        call = _state.increment_state(key, by, scope, if_revision=if_revision)
        total: int | float | Decimal = await self._unary(call)
        return total

    def list_state(
        self, prefix: str = "", *, scope: str = "global", keys_only: bool = False
    ) -> AsyncIterator[t.Item]:
        """Items whose keys begin with `prefix`, in order of key; pages come as they are needed."""
        return self._entries(_state.list_state(prefix, scope, keys_only=keys_only))

    async def batch(self, operations: Iterable[t.BatchOperation]) -> t.BatchResult:
        """Checks and writes, all or nothing; at most 256."""
        return await self._unary(_state.batch(operations))

    async def resolve_state(
        self, key: str, *, component: str = "", workflow_id: str = "", session_id: str = ""
    ) -> t.ResolvedItem | None:
        """The item of the nearest scope that has one; None where none has.

        Args:
            key: Its key.
            component: Looked at first: a scope such as `agent:writer`.
            workflow_id: Then this workflow's.
            session_id: Then this session's; last `global`.
        """
        call = _state.resolve_state(
            key, component=component, workflow_id=workflow_id, session_id=session_id
        )
        try:
            return await self._unary(call)
        except NotFound as error:
            if error.reason != "ITEM_NOT_FOUND":
                raise
            return None

    async def copy_state(
        self,
        source_key: str,
        key: str,
        *,
        source_scope: str = "global",
        scope: str = "global",
        if_absent: bool = False,
    ) -> int:
        """Copy an item, with its end, over what is at the other place; its revision there.

        Raises:
            NotFound: ITEM_NOT_FOUND.
            Conflict: REVISION_MISMATCH where `if_absent` and there is an item already.
        """
        places = _state.Place(source_key, source_scope), _state.Place(key, scope)
        return await self._unary(_state.copy_state(*places, move=False, if_absent=if_absent))

    async def move_state(
        self,
        source_key: str,
        key: str,
        *,
        source_scope: str = "global",
        scope: str = "global",
        if_absent: bool = False,
    ) -> int:
        """Like `copy_state`, and removes the item where it was."""
        places = _state.Place(source_key, source_scope), _state.Place(key, scope)
        return await self._unary(_state.copy_state(*places, move=True, if_absent=if_absent))

    async def copy_state_scope(
        self, source_scope: str, scope: str, *, prefix: str = "", if_absent: bool = False
    ) -> int:
        """Copy a scope's items into another one, all or none; how many.

        Raises:
            InvalidArgument: LIMIT_EXCEEDED where there are more than 10 000, or 64 MiB.
            Conflict: REVISION_MISMATCH where `if_absent` and one of them is there already.
        """
        call = _state.copy_state_scope(
            source_scope, scope, prefix=prefix, move=False, if_absent=if_absent
        )
        return await self._unary(call)

    async def move_state_scope(
        self, source_scope: str, scope: str, *, prefix: str = "", if_absent: bool = False
    ) -> int:
        """Like `copy_state_scope`, and removes the items where they were."""
        call = _state.copy_state_scope(
            source_scope, scope, prefix=prefix, move=True, if_absent=if_absent
        )
        return await self._unary(call)

    async def clear_state(
        self, prefix: str = "", *, scope: str = "global", in_parts: bool = False
    ) -> int:
        """Remove a scope's items, or those under a prefix; how many.

        Args:
            prefix: Only keys that begin with this.
            scope: Of this scope.
            in_parts: Go on, call after call, where there are more than 10 000. Without, they go
                all or none, and so many are refused with LIMIT_EXCEEDED.
        """
        total = 0
        while True:
            count, more = await self._unary(_state.clear_state(prefix, scope, in_parts=in_parts))
            total += count
            if not more:
                return total

    async def watch_state(
        self,
        prefix: str = "",
        *,
        scope: str | None = None,
        after: int | None = None,
        values: bool = False,
        progress: bool = False,
    ) -> AsyncGenerator[t.StateChanges, None]:
        """Changes of items as they happen, without a gap; closing the generator ends it."""
        watch = _state.Watch(prefix, scope, after=after, values=values)
        while True:
            try:
                async with aclosing(self._stream(watch.call())) as stream:
                    async for changes in stream:
                        watch.note(changes)
                        if changes.changes or progress:
                            yield changes
            except (Unavailable, DeadlineExceeded) as error:
                await asyncio.sleep(watch.pause_s(error, time.monotonic()))
