"""Events published in batches, with one subscriber that is to keep up.

The reference is a loop of one process that does with each batch what has to be done, and nothing
else: read the message, check that the data are JSON, pack, write, flush, unpack, make the message
for a subscriber. No call, no order, no limits, no search for what looks like a credential.
Publishers and the subscriber are one process, the server is another.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc
import msgspec
from llmspell.v1 import event_pb2, event_pb2_grpc

from tests.crash.state_clients import caller
from tests.performance.report import Report
from tests.performance.rounds import processor_s, rate

TARGET_PER_S = 90_000
BATCH = 1000
PUBLISHERS = 4
ROUNDS, ROUND_S = 4, 2.0
LAG_S_MAX = 0.5
"""One whose lag stays below this and does not grow keeps up."""

_PUBLISH = "/llmspell.v1.EventService/PublishEvents"
_SAMPLE_S = 0.02
_decode = msgspec.json.Decoder().decode


def batch() -> bytes:
    """A request with small events, as it travels."""
    request = event_pb2.PublishEventsRequest()
    for number in range(BATCH):
        request.events.add(
            type="agent.step.done",
            json=f'{{"agent": "a{number % 7}", "step": {number}, "ok": true}}',
            correlation_id=f"run-{number % 13}",
            source="bench",
        )
    return request.SerializeToString()


@dataclass
class Pace:
    """How far publishers and the subscriber have come."""

    published: int = 0
    seen: int = 0
    lags: list[int] = field(default_factory=list)
    """Events that were answered and not yet seen, looked at every now and then."""

    async def look(self) -> None:
        """Note how far they are apart, until cancelled."""
        while True:
            self.lags.append(self.published - self.seen)
            await asyncio.sleep(_SAMPLE_S)


class Feed:
    """Publishes to the state process and reads what comes of it."""

    def __init__(self, state: grpc.aio.Channel, file: IO[bytes]) -> None:
        self._send = state.unary_unary(_PUBLISH)
        self._subscribe = event_pb2_grpc.EventServiceStub(state).SubscribeEvents
        self._file = file
        self._batch = batch()
        self._metadata = caller("events")
        self._arrived = asyncio.Event()
        self.pace = Pace()

    async def publish(self, _: int) -> None:
        """A batch; it is on disk when it is answered."""
        await self._send(self._batch, metadata=self._metadata)
        self.pace.published += BATCH

    async def loop(self, _: int) -> None:
        """The reference."""
        rows = [
            (each.type, each.json, each.correlation_id, each.source)
            for each in event_pb2.PublishEventsRequest.FromString(self._batch).events
        ]
        for row in rows:
            _decode(row[1])
        packed = msgspec.msgpack.encode(rows)
        os.pwrite(self._file.fileno(), packed, 0)
        os.fdatasync(self._file.fileno())
        answer = event_pb2.SubscribeEventsResponse()
        for number, row in enumerate(msgspec.msgpack.decode(packed)):
            event = answer.events.add()
            event.sequence = number
            event.type, event.json, event.correlation_id, event.source = row
        answer.SerializeToString()

    async def read(self) -> None:
        """All that is published from now on, until cancelled."""
        request = event_pb2.SubscribeEventsRequest(pattern="agent.*")
        async for answer in self._subscribe(request, metadata=self._metadata):
            assert not answer.HasField("skipped"), "it did not keep up"
            self.pace.seen += len(answer.events)
            self._arrived.set()

    async def caught_up(self) -> float:
        """Wait until the subscriber has all; the seconds."""
        start = time.perf_counter()
        while self.pace.seen < self.pace.published:
            self._arrived.clear()
            await self._arrived.wait()
        return time.perf_counter() - start


async def bench(report: Report, state: str, folder: Path, pid: int) -> None:
    """Print the lines."""
    async with grpc.aio.insecure_channel(state) as channel:
        with (folder / "events").open("wb", 0) as file:
            await _bench(report, Feed(channel, file), pid)


async def _bench(report: Report, feed: Feed, pid: int) -> None:
    await rate(feed.publish, PUBLISHERS, round_s=0.5)
    alone = statistics.median([await _published_s(feed) for _ in range(2)])
    feed.pace.seen = feed.pace.published
    reading = asyncio.ensure_future(feed.read())
    await asyncio.sleep(0.2)
    await _with_reader(report, feed, alone, pid)
    reading.cancel()
    with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await reading


async def _published_s(feed: Feed) -> float:
    return BATCH * await rate(feed.publish, PUBLISHERS, round_s=ROUND_S)


async def _with_reader(report: Report, feed: Feed, alone: float, pid: int) -> None:
    pairs: list[tuple[float, float]] = []
    ends: list[float] = []
    used, before = processor_s(pid), feed.pace.published
    for _ in range(ROUNDS):
        looking = asyncio.ensure_future(feed.pace.look())
        ours = await _published_s(feed)
        looking.cancel()
        ends.append(await feed.caught_up())
        pairs.append((ours, BATCH * await rate(feed.loop, 1, round_s=ROUND_S / 2)))
    per_event_us = (processor_s(pid) - used) / (feed.pace.published - before) * 1e6
    ours, loop = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    report.asked(
        f"events published in batches of {BATCH}, one subscriber",
        f"{ours:,.0f}/s ({alone:,.0f}/s without) beside {loop:,.0f}/s of a loop without a server: "
        f"{ratio:.2f}; {per_event_us:.1f} us of the server's processor each",
        f"at least {TARGET_PER_S:,}/s",
        ours >= TARGET_PER_S,
    )
    _tell_lag(report, feed.pace, ours, max(ends))


def _tell_lag(report: Report, pace: Pace, per_s: float, end_s: float) -> None:
    middle_s, most_s = statistics.median(pace.lags) / per_s, max(pace.lags) / per_s
    report.asked(
        "its subscriber",
        f"behind by {middle_s * 1e3:.0f} ms, at most {most_s * 1e3:.0f} ms; "
        f"has all {end_s * 1e3:.0f} ms after the last answer",
        "keeps up",
        max(most_s, end_s) <= LAG_S_MAX,
    )
