"""A session created and saved, beside as many calls that do nothing, and flushes."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import grpc
from llmspell.v1 import session_pb2, session_pb2_grpc, state_pb2, state_pb2_grpc

from tests.crash.state_clients import caller
from tests.performance import echo
from tests.performance.report import Report
from tests.performance.rounds import beside, flush_s

CALLERS = 64
CALLS = 3
"""Create, an item set in it, save."""
ROUNDS, ROUND_S = 4, 1.0


class Story:
    """Calls of a session's first moments."""

    def __init__(self, state: grpc.aio.Channel, idle: grpc.aio.Channel) -> None:
        self._sessions: Any = session_pb2_grpc.SessionServiceStub(state)
        self._items: Any = state_pb2_grpc.StateServiceStub(state)
        self._nothing = idle.unary_unary(echo.BEHIND_DOOR)
        self._metadata = caller("sessions")

    async def create_and_save(self, _: int) -> None:
        """Each answer is on disk."""
        create = session_pb2.CreateSessionRequest(name="bench", tags=["bench"])
        made = await self._sessions.CreateSession(create, metadata=self._metadata)
        name = made.session.session_id
        item = state_pb2.SetStateRequest(
            scope=f"session:{name}", key="step", value=state_pb2.Payload(json='{"done": 3}')
        )
        await self._items.SetState(item, metadata=self._metadata)
        save = session_pb2.SaveSessionRequest(session_id=name)
        await self._sessions.SaveSession(save, metadata=self._metadata)

    async def empty(self, _: int) -> None:
        """As many calls, for nothing."""
        for _ in range(CALLS):
            await self._nothing(b"", metadata=self._metadata)


async def bench(report: Report, state: str, doored: str, folder: Path) -> None:
    """Print the lines."""
    async with (
        grpc.aio.insecure_channel(state) as ours,
        grpc.aio.insecure_channel(doored) as idle,
    ):
        await idle.channel_ready()
        story = Story(ours, idle)
        flush = statistics.median(flush_s(folder) for _ in range(3))
        for callers in (1, CALLERS):
            made, empty, ratio = await beside(
                story.create_and_save, story.empty, callers, rounds=ROUNDS, round_s=ROUND_S
            )
            both = f"{callers} callers" if callers > 1 else "one caller"
            told = f"{made:,.0f}/s beside {empty:,.0f}/s of {CALLS} empty calls: {ratio:.2f}"
            if callers == 1:
                least = 1 / empty + CALLS * flush
                told = (
                    f"{1e3 / made:.2f} ms beside {1e3 / empty:.2f} ms of {CALLS} empty calls + "
                    f"{CALLS * flush * 1e3:.2f} ms of flushes: {1 / made / least:.2f}"
                )
            report.line(f"session created, an item set in it, saved; {both}", told)
