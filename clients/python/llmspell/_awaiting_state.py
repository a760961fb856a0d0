"""State of the client for asyncio; `_blocking_state` says more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

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
        if_revision: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> int:
        """Write one item; its new revision."""
        item = t.SetItem(key, value, scope, ttl_s, text)
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

    async def increment_state(
        self, key: str, by: float = 1, *, scope: str = "global"
    ) -> int | float:
        """Add to a number, where none counts as 0; the sum."""
        return await self._unary(_state.increment_state(key, by, scope))

    def list_state(
        self, prefix: str = "", *, scope: str = "global", keys_only: bool = False
    ) -> AsyncIterator[t.Item]:
        """Items whose keys begin with `prefix`, in order of key; pages come as they are needed."""
        return self._entries(_state.list_state(prefix, scope, keys_only=keys_only))

    async def batch(
        self, operations: Iterable[t.CheckItem | t.SetItem | t.DeleteItem]
    ) -> t.BatchResult:
        """Checks and writes, all or nothing; at most 256."""
        return await self._unary(_state.batch(operations))

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
