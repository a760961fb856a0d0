"""Sixteen clients on twenty items of a process that is killed and paused, and the history of it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.relay import CHANNEL_OPTIONS
from services.common.status import DETAILS_KEY, from_trailer
from tests.crash.alone import Alone, alone
from tests.crash.linearizability.checker import Timed
from tests.crash.linearizability.item import Call
from tests.crash.state_clients import caller
from tests.integration.deployment import free_port

CLIENTS, KEYS = 16, 20
KINDS = ["get"] * 8 + ["set"] * 3 + ["swap"] * 4 + ["add"] * 4 + ["delete"]
PAUSE_S = (0.05, 0.4)
HURRY_S, PATIENCE_S = 0.15, 20.0
"""How long a caller waits: one in ten gives up before a pause ends, and does not know then."""
_OPTIONS = (
    *(option for option in CHANNEL_OPTIONS if "reconnect" not in option[0]),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 50),
)


@dataclass
class History:
    """Every call, by key."""

    calls: dict[str, list[Timed[Call]]] = field(default_factory=lambda: defaultdict(list))
    open: list[tuple[str, float, Call]] = field(default_factory=list)
    """Those without an answer that may take effect still."""
    count: int = 0
    unknown: int = 0

    def end(self) -> None:
        """The process is gone, or idle: what is open has happened, or will not."""
        now = time.monotonic()
        for key, called, call in self.open:
            self.calls[key].append(Timed(called, now, call))
        self.unknown += len(self.open)
        self.open.clear()


@dataclass
class Run:
    """Clients, the process, and what is done to it."""

    folder: Path
    seed: int
    total: int
    faults: int
    """How many kills, and as many pauses."""
    flaw: str = ""
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        """Nothing has begun."""
        self._rng = random.Random(self.seed)
        self._serving = asyncio.Event()
        self._address = f"127.0.0.1:{free_port()}"
        self._running = 0

    async def go(self) -> History:
        """The whole history."""
        async with grpc.aio.insecure_channel(self._address, options=_OPTIONS) as channel:
            with ExitStack() as stack:
                up = await self._start(stack, channel)
                async with asyncio.TaskGroup() as tasks:
                    for number in range(CLIENTS):
                        tasks.create_task(self._client(number, channel))
                    tasks.create_task(self._disturb(up, stack, channel))
        self.history.end()
        return self.history

    async def _start(self, stack: ExitStack, channel: Any) -> Alone:
        up = stack.enter_context(alone("state", self.folder, flaw=self.flaw, address=self._address))
        await channel.channel_ready()
        self._serving.set()
        return up

    async def _disturb(self, up: Alone, stack: ExitStack, channel: Any) -> None:
        """Kill and pause, in equal parts of the calls."""
        for number in range(2 * self.faults):
            moment = self.total * (number + self._rng.uniform(0.3, 0.9)) / (2 * self.faults)
            while self.history.count < moment:  # noqa: ASYNC110  (nobody tells of a count)
                await asyncio.sleep(0.002)
            if number % 2:
                await self._pause(up)
            else:
                up = await self._kill(up, stack, channel)

    async def _pause(self, up: Alone) -> None:
        up.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._rng.uniform(*PAUSE_S))
        up.process.send_signal(signal.SIGCONT)

    async def _kill(self, up: Alone, stack: ExitStack, channel: Any) -> Alone:
        self._serving.clear()
        up.kill()
        while self._running:  # noqa: ASYNC110  (each gets its error, and stands among the open)
            await asyncio.sleep(0.001)
        self.history.end()
        return await self._start(stack, channel)

    async def _client(self, number: int, channel: Any) -> None:
        client = Client(number, random.Random(f"{self.seed} {number}"), channel)
        while self.history.count < self.total:
            await self._serving.wait()
            self.history.count += 1
            self._running += 1
            try:
                await client.call(self.history)
            finally:
                self._running -= 1


class Client:
    """One caller, who makes one call after another."""

    def __init__(self, number: int, rng: random.Random, channel: Any) -> None:
        self._number = number
        self._rng = rng
        self._stub = state_pb2_grpc.StateServiceStub(channel)
        self._metadata = caller("acme")
        self._last: dict[str, int] = {}
        self._ask: dict[str, Callable[[str, Call], Awaitable[Call]]] = {
            "get": self._get,
            "set": self._set,
            "swap": self._set,
            "add": self._add,
            "delete": self._delete,
        }

    async def call(self, history: History) -> None:
        """One call, into the history."""
        key = f"k{self._rng.randrange(KEYS)}"
        kind = self._rng.choice(KINDS)
        if kind == "swap" and key not in self._last:
            kind = "get"
        argument = 1 if kind == "add" else history.count * 10_000
        call = Call(history.count, kind, argument, expected=self._last.get(key, 0))
        called = time.monotonic()
        try:
            answered = await self._ask[kind](key, call)
        except grpc.aio.AioRpcError as error:
            if error.code() not in {
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            }:
                raise
            history.open.append((key, called, replace(call, known=False)))
            return
        history.calls[key].append(Timed(called, time.monotonic(), answered))

    async def _send(self, method: Any, request: Any) -> Any:
        patience = HURRY_S if self._rng.random() < 0.1 else PATIENCE_S
        return await method(request, metadata=self._metadata, timeout=patience)

    async def _get(self, key: str, call: Call) -> Call:
        request = state_pb2.GetStateRequest(scope="global", key=key)
        try:
            item = (await self._send(self._stub.GetState, request)).item
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return call
        self._last[key] = item.revision
        return replace(call, held=(int(item.value.json), item.revision))

    async def _set(self, key: str, call: Call) -> Call:
        request = state_pb2.SetStateRequest(scope="global", key=key)
        request.value.json = str(call.argument)
        if call.kind == "swap":
            request.precondition.revision = call.expected
        try:
            answer = await self._send(self._stub.SetState, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED:
                raise
            return replace(call, refused=True, revision=_revision_in(error))
        self._last[key] = answer.revision
        return replace(call, revision=answer.revision)

    async def _add(self, key: str, call: Call) -> Call:
        request = state_pb2.IncrementStateRequest(scope="global", key=key, int_delta=call.argument)
        answer = await self._send(self._stub.IncrementState, request)
        self._last[key] = answer.revision
        return replace(call, held=(answer.int_value, answer.revision))

    async def _delete(self, key: str, call: Call) -> Call:
        request = state_pb2.DeleteStateRequest(scope="global", key=key)
        answer = await self._send(self._stub.DeleteState, request)
        return replace(call, deleted=answer.deleted_count == 1)


def _revision_in(error: grpc.aio.AioRpcError) -> int:
    """The item's, as a refused precondition names it."""
    details = dict(error.trailing_metadata() or ())[DETAILS_KEY]
    return int(from_trailer(error.code(), "", details).metadata["revision"])
