"""One execution in a jailed process: order, connections on request, the outcome or why not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from services.common.errors import Reason, ServiceError, reason_name
from services.common.limits import (
    FRAME_BYTES_MAX,
    MIB,
    TOOL_CONNECTIONS_MAX,
)
from services.runtime.frames import FrameError, FrameTooLong, Kind, RunOrder
from services.runtime.pool import Worker, WorkerLimits, WorkerPool
from services.runtime.toolbox.model import Outcome
from services.runtime.tools.entry import Entry
from services.runtime.tools.folders import Opened
from services.runtime.tools.last_word import outcome_of, over, too_large
from services.runtime.tools.receipts import Slip
from services.runtime.watch import Cause, Watch

log = logging.getLogger(__name__)

_GUARD_SECONDS = 1.0
TENANT_FILES = "runtime.tenant_files_bytes, runtime.tenant_files_count"


class Lines(Protocol):
    """The ways out of one execution."""

    async def connect(self, host: str, port: int, timeout_s: float) -> int:
        """A connected descriptor, the caller's to close. Raises ServiceError."""
        ...

    async def addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """A host's addresses, where it may be reached. Raises ServiceError."""
        ...


class _Wanted(msgspec.Struct):
    """What a CALL frame holds: a connection is asked for."""

    host: str
    port: int
    timeout_s: float
    look_up: bool = False
    """Only the addresses are asked for."""


async def describe_tools(pool: WorkerPool, *, timeout_s: float) -> list[dict[str, Any]]:
    """All tools of the toolbox, as `model.described` tells of them."""
    async with pool.worker(WorkerLimits()) as worker:
        watch = Watch(worker, wall_s=timeout_s, cpu_s=timeout_s)
        with watch.on_the_clock():
            await worker.send(Kind.RUN, RunOrder({"tool": ""}, b"", b"").payload())
            _, payload = await worker.receive()
    told: list[dict[str, Any]] = msgspec.msgpack.decode(payload)
    return told


async def execute_in_jail(
    pool: WorkerPool,
    entry: Entry,
    arguments: Mapping[str, Any],
    *,
    tenant: str,
    folder: Opened,
    settings: Mapping[str, Any],
    wall_s: float,
    lines: Lines,
    slip: Slip | None = None,
    is_left: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Execute a tool in a process of its own.

    Args:
        pool: Of tools' processes.
        entry: The tool.
        arguments: Accepted ones.
        tenant: Whose turn it takes.
        folder: The tenant's folder.
        settings: What the operator allows tools.
        wall_s: Seconds on the clock.
        lines: Makes the connections that it asks for.
        slip: Where its process notes what came of it, this function's to close; None: nowhere.
        is_left: Whether it goes on by itself where the call is cancelled now.

    Raises:
        ServiceError: what the tool says; TOOL_TIME_LIMIT, TOOL_CPU_LIMIT, TOOL_MEMORY_LIMIT,
            TOOL_RESULT_LIMIT, TOOL_WORKER_LOST; RUN_QUEUE_FULL where too many wait.
    """
    header: dict[str, object] = {
        "tool": entry.name,
        "folder": folder.path,
        "room": folder.room,
        "settings": dict(settings),
    }
    if slip is not None:
        header |= {"receipt_bytes": FRAME_BYTES_MAX, "wall_s": wall_s}
    order = RunOrder(header, b"", msgspec.msgpack.encode(arguments)).payload()
    async with pool.worker(WorkerLimits(), tenant) as worker:
        if slip is not None:
            await worker.send_with_descriptor(Kind.RECEIPT, b"", slip.descriptor)
            slip.close()  # its lock is the process's from now on, as long as that lives
        execution = _Execution(worker, entry, lines, wall_s)
        with execution.watch.on_the_clock(), execution.guarding(folder):
            try:
                return await execution.follow(order)
            except asyncio.CancelledError:
                if slip is not None and is_left():
                    worker.leave()
                raise


class _Execution:
    """What is counted while one execution goes on."""

    def __init__(self, worker: Worker, entry: Entry, lines: Lines, wall_s: float) -> None:
        self.watch = Watch(worker, wall_s=wall_s, cpu_s=entry.limits.cpu_s)
        self._worker = worker
        self._entry = entry
        self._lines = lines
        self._wall_s = wall_s
        self._connections = 0
        self._is_overfull = False

    @contextlib.contextmanager
    def guarding(self, folder: Opened) -> Iterator[None]:
        """End the process where it fills the folder beyond what it was given."""
        guard = folder.is_overfull and asyncio.create_task(self._guard(folder.is_overfull))
        try:
            yield
        finally:
            if guard:
                guard.cancel()

    async def _guard(self, is_overfull: Callable[[], Awaitable[bool]]) -> None:
        while not self._is_overfull:
            await asyncio.sleep(_GUARD_SECONDS)
            self._is_overfull = await is_overfull()
        self._worker.kill()

    async def follow(self, order: bytes) -> Outcome:
        """Give the order and answer until the last word."""
        try:
            await self._worker.send(Kind.RUN, order)
            while True:
                kind, payload = await self._worker.receive()
                if kind is Kind.CALL:
                    await self._answer(payload)
                else:
                    return outcome_of(self._entry, kind, payload)
        except FrameTooLong:
            raise too_large(self._entry) from None
        except FrameError as error:
            log.warning("%s broke the protocol: %s", self._entry.name, error)
            self._worker.kill()
            raise await self._lost() from None
        except EOFError:
            raise await self._lost() from None

    async def _answer(self, payload: bytes) -> None:
        self._connections += 1
        try:
            wanted = msgspec.json.decode(payload, type=_Wanted)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise FrameError("a call that is not one") from None
        try:
            await self._give(wanted)
        except ServiceError as error:
            told = {
                "reason": reason_name(error.reason),
                "message": error.message,
                "metadata": error.metadata,
            }
            await self._worker.send(Kind.REPLY, json.dumps(told).encode())

    async def _give(self, wanted: _Wanted) -> None:
        if self._connections > TOOL_CONNECTIONS_MAX:
            text = f"More than {TOOL_CONNECTIONS_MAX} connections were asked for."
            raise ServiceError(
                Reason.LIMIT_EXCEEDED, text, field="connections", limit=TOOL_CONNECTIONS_MAX
            )
        # Not longer than the process that asks may live.
        left_s = self.watch.deadline - asyncio.get_running_loop().time()
        timeout_s = min(wanted.timeout_s, max(left_s, 0.001))
        if wanted.look_up:
            told = {"addresses": await self._lines.addresses(wanted.host, wanted.port, timeout_s)}
            await self._worker.send(Kind.REPLY, json.dumps(told).encode())
            return
        descriptor = await self._lines.connect(wanted.host, wanted.port, timeout_s)
        try:
            await self._worker.send_with_descriptor(Kind.REPLY, b"{}", descriptor)
        finally:
            os.close(descriptor)

    async def _lost(self) -> ServiceError:
        if self._is_overfull:
            what = "wrote more than the tenant's files may have, and was ended"
            return over(self._entry, Reason.FILES_FULL, what, TENANT_FILES)
        cause, status = await self.watch.cause()
        if cause is Cause.TIME:
            text = f"took longer than {self._wall_s:g} s and was ended"
            return over(self._entry, Reason.TOOL_TIME_LIMIT, text, self._wall_s)
        if cause is Cause.CPU:
            limit = self._entry.limits.cpu_s
            text = f"used more than {limit} s of processor time"
            return over(self._entry, Reason.TOOL_CPU_LIMIT, text, limit)
        name = self._entry.name
        hint = ""
        if status in (-signal.SIGABRT, -signal.SIGSEGV):
            # Libraries in C end so where they are refused memory, and say no more than that.
            limit = self._entry.limits.memory_bytes // MIB
            hint = f", as it does where it needs more than {limit} MiB of memory"
        return ServiceError(
            Reason.TOOL_WORKER_LOST,
            f"The process of the tool {name} ended unexpectedly{hint}.",
            tool=name,
            status=status,
        )
