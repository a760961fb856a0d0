"""Events of one client, published in batches; whether a subscriber saw them is asked elsewhere."""

from __future__ import annotations

import json
from typing import Any

from llmspell.v1 import event_pb2

from tests.crash.ledgers.ledger import Ledger, Stubs, Work

Numbers = tuple[int, ...]


class EventLedger(Ledger[Numbers]):
    """Each event of a client has a number; a batch has some that follow each other."""

    weight = 2

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, ())
        self.next = 0

    def works(self) -> list[Work]:
        """See Ledger."""
        return [self.publish, self.publish_once]

    async def publish(self, stubs: Stubs) -> None:
        """A batch, asked for once."""
        await self._publish(stubs, "")

    async def publish_once(self, stubs: Stubs) -> None:
        """One that is asked for again where the process went before it answered."""
        await self._publish(stubs, f"e{self.number}-{self.next}")

    async def _publish(self, stubs: Stubs, request_id: str) -> None:
        count = self.rng.choice((1, 2, 5, 40))
        numbers = range(self.next, self.next + count)
        self.next += count
        request = event_pb2.PublishEventsRequest(request_id=request_id)
        for number in numbers:
            text = json.dumps({"client": self.number, "number": number})
            request.events.add(type=f"work.c{self.number}", json=text)
        answer = await self.ask(stubs.events.PublishEvents, request, (*self.known, *numbers))
        assert answer.last_sequence - answer.first_sequence == count - 1

    async def check(self, stubs: Stubs) -> None:
        """Nothing is listed here; what is asked for under an id is asked for again."""
        await self.ask_again("PublishEvents", stubs.events)

    def seen(self, numbers: list[int]) -> None:
        """What a subscriber has seen of this client: all that was answered, in order."""
        self.settle(tuple(numbers), "events")
