"""Who watches a tenant's items and who subscribes to its events, on and on over all kills."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from llmspell.v1 import event_pb2, state_pb2

from tests.crash.ledgers.items import ItemLedger
from tests.crash.ledgers.ledger import Stubs, UnknownError, answered, caller

KINDS = state_pb2.StateChangeKind
HERE = {KINDS.STATE_CHANGE_KIND_SET, KINDS.STATE_CHANGE_KIND_INCREMENT}
GONE = {KINDS.STATE_CHANGE_KIND_DELETE, KINDS.STATE_CHANGE_KIND_EXPIRE}
CATCH_UP_S = 30


class Watcher:
    """Watches all items of a tenant; after each kill from where it was."""

    def __init__(self, tenant: str) -> None:
        self.metadata = caller(tenant)
        self.after: int | None = None
        self.revisions: set[int] = set()
        """Seen, of changes."""
        self.here: set[tuple[str, str]] = set()
        """Items that are there, going by the changes alone."""

    async def run(self, stubs: Stubs) -> None:
        """Until the process is gone."""
        try:
            await answered(self._follow(stubs, None))
        except UnknownError:
            return

    async def catch_up(self, stubs: Stubs) -> None:
        """See all that there is now."""
        request = state_pb2.SetStateRequest(scope="global", key="marker")
        request.value.text = "x"
        answer = await stubs.state.SetState(request, metadata=self.metadata)
        await self._follow(stubs, answer.revision)
        assert answer.revision in self.revisions

    async def _follow(self, stubs: Stubs, until: int | None) -> None:
        request = state_pb2.WatchStateRequest()
        request.after_revision = self.after or 0
        timeout = None if until is None else CATCH_UP_S
        call = stubs.state.WatchState(request, metadata=self.metadata, timeout=timeout)
        async for advance in call:
            for change in advance.changes:
                assert change.revision > (self.after or 0), "a change that was told before"
                self._note(change)
            self.after = advance.revision
            if until is not None and self.after >= until:
                call.cancel()
                return

    def _note(self, change: Any) -> None:
        self.revisions.add(change.revision)
        if change.kind in HERE:
            self.here.add((change.scope, change.key))
        elif change.kind in GONE:
            self.here.discard((change.scope, change.key))

    def check(self, ledgers: Iterable[ItemLedger]) -> None:
        """All changes that were answered were seen, and what was seen gives what is there."""
        for ledger in ledgers:
            missed = ledger.revisions - self.revisions
            assert not missed, f"client {ledger.number}: not told of {sorted(missed)[:9]}"
            ledger.revisions.clear()
            scopes = {ledger.scope, ledger.other}
            here = {place for place in self.here if place[0] in scopes}
            assert here == set(ledger.known), f"client {ledger.number}: told of other items"
        self.revisions.clear()


class Subscriber:
    """Subscribes to a tenant's published events; after each kill from where it was."""

    def __init__(self, tenant: str) -> None:
        self.metadata = caller(tenant)
        self.after = 0
        self.seen: dict[int, list[int]] = defaultdict(list)
        """Numbers of events, by client, in the order in which they came."""

    async def run(self, stubs: Stubs) -> None:
        """Until the process is gone."""
        try:
            await answered(self._follow(stubs, None))
        except UnknownError:
            return

    async def catch_up(self, stubs: Stubs) -> None:
        """See all that there is now."""
        request = event_pb2.PublishEventsRequest()
        request.events.add(type="work.marker", json="{}")
        answer = await stubs.events.PublishEvents(request, metadata=self.metadata)
        await self._follow(stubs, answer.last_sequence)

    async def _follow(self, stubs: Stubs, until: int | None) -> None:
        request = event_pb2.SubscribeEventsRequest(pattern="work.*", after=self.after)
        timeout = None if until is None else CATCH_UP_S
        call = stubs.events.SubscribeEvents(request, metadata=self.metadata, timeout=timeout)
        async for advance in call:
            assert not advance.HasField("skipped"), "events were let go"
            for event in advance.events:
                assert event.sequence > self.after, "an event that was told before"
                self.after = event.sequence
                if event.type != "work.marker":
                    data = json.loads(event.json)
                    self.seen[data["client"]].append(data["number"])
            self.after = max(self.after, advance.sequence)
            if until is not None and self.after >= until:
                call.cancel()
                return
