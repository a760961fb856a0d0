"""State of the blocking client."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from llmspell import _state
from llmspell import types as t
from llmspell._blocking import BlockingCaller
from llmspell.errors import DeadlineExceeded, NotFound, Unavailable


class StateCalls(BlockingCaller):
    """Items, and what happens to them."""

    def get_state(self, key: str, *, scope: str = "global") -> t.Item | None:
        """One item; None where there is none."""
        try:
            return self._unary(_state.get_state(key, scope))
        except NotFound as error:
            if error.reason != "ITEM_NOT_FOUND":
                raise
            return None

    def set_state(
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
        """Write one item; its new revision.

        Args:
            key: At most 256 bytes.
            value: Anything that JSON can write; `bytes` are kept as bytes.
            scope: Such as `user:anna`.
            ttl_s: Seconds from now until it ends; None: for ever.
            text: Keep a `str` as text instead of as JSON.
            if_revision: Write only if the item still has this revision.
            if_absent: Write only if there is no such item.
            if_present: Write only if there is one.

        Raises:
            Conflict: REVISION_MISMATCH where the condition does not hold.
        """
        item = t.SetItem(key, value, scope, ttl_s, text)
        return self._unary(
            _state.set_state(
                item, if_revision=if_revision, if_absent=if_absent, if_present=if_present
            )
        )

    def delete_state(
        self, key: str, *, scope: str = "global", if_revision: int | None = None
    ) -> bool:
        """Remove one item; whether it was there."""
        return self._unary(_state.delete_state(key, scope, if_revision=if_revision))

    def increment_state(self, key: str, by: float = 1, *, scope: str = "global") -> int | float:
        """Add to a number, where none counts as 0; the sum."""
        return self._unary(_state.increment_state(key, by, scope))

    def list_state(
        self, prefix: str = "", *, scope: str = "global", keys_only: bool = False
    ) -> Iterator[t.Item]:
        """Items whose keys begin with `prefix`, in order of key; pages come as they are needed."""
        return self._entries(_state.list_state(prefix, scope, keys_only=keys_only))

    def batch(self, operations: Iterable[t.CheckItem | t.SetItem | t.DeleteItem]) -> t.BatchResult:
        """Checks and writes, all or nothing; at most 256."""
        return self._unary(_state.batch(operations))

    def watch_state(
        self,
        prefix: str = "",
        *,
        scope: str | None = None,
        after: int | None = None,
        values: bool = False,
        progress: bool = False,
    ) -> Generator[t.StateChanges, None, None]:
        """Changes of items as they happen, without a gap; closing the generator ends it.

        A connection that ends is made again, and the watch goes on where it was. Keep the
        `revision` of the last changes to go on later. Changes of a large batch may come twice over
        a connection that ended between them.

        Args:
            prefix: Only keys that begin with this.
            scope: Only this scope; None: all.
            after: Begin after this revision; None: from now on.
            values: Send the items too.
            progress: Tell of the revision when nothing happens, too: now and then, and at once.

        Raises:
            FailedPrecondition: REVISION_COMPACTED where changes after `after` are not all kept.
            InvalidArgument: REVISION_FUTURE where there is no such revision yet.
            Unavailable: nothing has answered for half a minute.
        """
        watch = _state.Watch(prefix, scope, after=after, values=values)
        while True:
            try:
                for changes in self._stream(watch.call()):
                    watch.note(changes)
                    if changes.changes or progress:
                        yield changes
            except (Unavailable, DeadlineExceeded) as error:
                time.sleep(watch.pause_s(error, time.monotonic()))
