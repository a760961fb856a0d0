"""Watches: a tenant's item changes, in order and without a gap, to whoever follows them.

A watch keeps a place in the feed and nothing else. What has changed it reads from the engine, a
slice at a time, when its reader has taken the slice before; so a slow reader costs no memory, and
one that is too slow finds that its place was let go (REVISION_COMPACTED).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from services.common.errors import Reason, ServiceError
from services.common.limits import (
    PAGE_BYTES_MAX,
    WATCH_CHANGES_MAX,
    WATCH_IDLE_SECONDS,
    WATCHES_MAX,
    WATCHES_PER_CALLER_MAX,
)
from services.common.view import View
from services.state import rules
from services.state.feed import wait
from services.state.item_step import alive_item
from services.state.layout import items as layout
from services.state.layout.items import Change, ChangeKind
from services.state.model import Item
from services.state.step import Keeper, changes_after, kept_changes

_LOOKED_AT_MAX = 1_000
"""Change records, those that nobody asked for included, after which a slice ends."""
_ITEM_KINDS = frozenset(
    {
        ChangeKind.SET,
        ChangeKind.DELETE,
        ChangeKind.INCREMENT,
        ChangeKind.EXPIRE,
        ChangeKind.PURGE,
        ChangeKind.MIGRATED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which changes a watch is about."""

    scope: str | None = None
    """None: all scopes."""
    prefix: str = ""
    """What the keys begin with."""
    values: bool = False
    """Whether items are read too."""
    may_see: Callable[[str], bool] | None = None
    """Which scopes the watcher may see; None: all."""

    def has(self, change: Change) -> bool:
        """Whether a change is one of them. A purge always is: it took what was selected too."""
        if change.kind not in _ITEM_KINDS:
            return False
        if change.kind is ChangeKind.PURGE:
            return True
        if change.scope and self.may_see is not None and not self.may_see(change.scope):
            return False
        if change.kind is ChangeKind.MIGRATED:
            begins = change.key.startswith(self.prefix) or self.prefix.startswith(change.key)
            return begins and (not change.scope or self.scope in {None, change.scope})
        return self.scope in {None, change.scope} and change.key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Seen:
    """A change, and the item as it left it where that was asked for and is still so."""

    change: Change
    item: Item | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a watch has come."""

    changes: Sequence[Seen]
    revision: int
    """Every selected change up to this one has been given; go on after it."""


@dataclass(frozen=True, slots=True)
class Place:
    """The last change record that a watch has looked at."""

    revision: int
    number: int = -1
    """Its place in the revision; -1: all of the revision was looked at."""


@dataclass(frozen=True, slots=True)
class _Slice:
    advance: Advance
    place: Place
    more: bool


class Watches:
    """All watches of the process."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        idle_s: float = WATCH_IDLE_SECONDS,
        slice_changes: int = WATCH_CHANGES_MAX,
    ) -> None:
        """`idle_s`: seconds after which a watch says where it is; `slice_changes`: a message's."""
        self._keeper = keeper
        self._idle_s = idle_s
        self._slice_changes = slice_changes
        self._callers: Counter[tuple[str, str]] = Counter()
        self._lines: set[asyncio.Event] = set()
        self._ending = False

    async def follow(
        self, tenant: str, selection: Selection, *, caller: str, after: int | None = None
    ) -> AsyncGenerator[Advance, None]:
        """Changes after a revision; None: from now on. The first advance comes at once.

        Raises:
            ServiceError: REVISION_FUTURE, REVISION_COMPACTED, OVERLOADED where the caller or the
                process has too many, SERVICE_UNAVAILABLE once the process ends.
        """
        rules.check_place(tenant, selection.scope or "global")
        selection = replace(selection, prefix=rules.normal_prefix(selection.prefix))
        with self._line(tenant, caller) as line:
            place = self._begin(tenant, after)
            yield Advance((), place.revision)
            told = self._keeper.time.monotonic()
            while True:
                line.clear()
                self._check_open()
                found = self._read(tenant, selection, place)
                place = found.place
                idle_s = told + self._idle_s - self._keeper.time.monotonic()
                if found.advance.changes or idle_s <= 0:
                    yield found.advance
                    told = self._keeper.time.monotonic()
                    idle_s = self._idle_s
                await wait(line, 0 if found.more else idle_s)

    async def run(self) -> None:
        """Until cancelled; then every watch ends, so that the process need not wait for them."""
        try:
            await asyncio.Event().wait()
        finally:
            self._ending = True
            for line in self._lines:
                line.set()

    @contextmanager
    def _line(self, tenant: str, caller: str) -> Iterator[asyncio.Event]:
        """A place among the watches, and what wakes it."""
        key = (tenant, caller)
        if self._callers[key] >= WATCHES_PER_CALLER_MAX:
            raise _too_many(WATCHES_PER_CALLER_MAX, "this caller has")
        if self._callers.total() >= WATCHES_MAX:
            raise _too_many(WATCHES_MAX, "this process has")
        self._callers[key] += 1
        try:
            with self._keeper.feed.line(tenant) as line:
                self._lines.add(line)
                try:
                    yield line
                finally:
                    self._lines.discard(line)
        finally:
            self._callers[key] -= 1
            self._callers += Counter()  # forgets those who have none

    def _begin(self, tenant: str, after: int | None) -> Place:
        with self._keeper.engine.read() as view:
            last = view.revision()
            if after is not None and after > last:
                raise _future(after, last)
            place = Place(last if after is None else after)
            _check_kept(view, tenant, place)
            return place

    def _read(self, tenant: str, selection: Selection, place: Place) -> _Slice:
        now_ns = self._keeper.time.now_ns()
        with self._keeper.engine.read() as view:
            _check_kept(view, tenant, place)
            return _slice(view, tenant, selection, place, limit=self._slice_changes, now_ns=now_ns)

    def _check_open(self) -> None:
        if self._ending:
            raise ServiceError(
                Reason.SERVICE_UNAVAILABLE,
                "The process ends; go on with the watch when it is back.",
                service="state",
            )


def _slice(
    view: View, tenant: str, selection: Selection, place: Place, *, limit: int, now_ns: int
) -> _Slice:
    """What comes after a place, up to a limit of changes, of bytes, and of records looked at."""
    seen: list[Seen] = []
    size = 0
    changes = changes_after(view, tenant, place.revision, place.number)
    for looked_at, change in enumerate(changes):
        if len(seen) == limit or size > PAGE_BYTES_MAX or looked_at == _LOOKED_AT_MAX:
            return _Slice(Advance(seen, change.revision - 1), place, more=True)
        place = Place(change.revision, change.number)
        if selection.has(change):
            item = _item(view, change, now_ns) if selection.values else None
            size += len(item.value.content) if item and item.value else 0
            seen.append(Seen(change, item))
    revision = view.revision()
    return _Slice(Advance(seen, revision), Place(revision), more=False)


def _item(view: View, change: Change, now_ns: int) -> Item | None:
    """The item as a change left it; a damaged one is for whoever reads it to hear of."""
    place = layout.item_key(change.tenant, change.scope, change.key)
    try:
        item = alive_item(view, place, now_ns)
    except ServiceError:
        return None
    return item if item is not None and item.revision == change.revision else None


def _check_kept(view: View, tenant: str, place: Place) -> None:
    """Refuse to go on where changes that were not given yet have been let go."""
    compacted = kept_changes(view, tenant).compacted_revision
    whole = place.revision if place.number < 0 else place.revision - 1
    if whole < compacted:
        raise ServiceError(
            Reason.REVISION_COMPACTED,
            f"Changes after revision {whole} are not all kept: the oldest revision to go on after "
            f"is {compacted}. List anew, then watch from the revision of the list.",
            revision=whole,
            oldest_revision=compacted,
        )


def _future(after: int, last: int) -> ServiceError:
    return ServiceError(
        Reason.REVISION_FUTURE,
        f"Revision {after} does not exist yet; the last one is {last}.",
        field="after_revision",
        revision=after,
        last_revision=last,
    )


def _too_many(limit: int, who: str) -> ServiceError:
    return ServiceError(
        Reason.OVERLOADED,
        f"There is no room for another watch: {who} {limit} already. End one, or try again later.",
        limit=limit,
    )
