"""Which runs have not ended, and in which process each is, so that one that was lost is found.

The list is an item of the system tenant for each run, made before the run and removed after it. A
process gives a sign of life every few seconds; who gives none for half a minute is gone, and so is
at once one of this machine whose process there is no more. The run's own lease (`kept`) decides in
the end: it is changed by one process only, and every write of a run asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from llmspell.v1 import state_pb2

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.limits import WORKFLOW_LEASE_SECONDS, WORKFLOW_SIGN_SECONDS
from services.common.tenants import SystemItems

log = logging.getLogger(__name__)

RUNNING_SCOPE = "custom:workflow-running"
RUNTIMES_SCOPE = "custom:workflow-runtimes"
_PAGE_SIZE = 500


class RunningRecord(msgspec.Struct, frozen=True):
    """A run that has not ended."""

    tenant: str
    execution_id: str
    holder: str
    """Id of the process that it is in."""
    since_ns: int


class RuntimeRecord(msgspec.Struct, frozen=True):
    """A process that lives."""

    runtime_id: str
    machine: str
    """Boot and process namespace: where `pid` says something."""
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run in the list."""

    key: str
    record: RunningRecord


class Leases:
    """The list of all runs that have not ended, and this process's sign of life."""

    def __init__(self, items: SystemItems, clock: Clock) -> None:
        self._items = items
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self.runtime_id = secrets.token_hex(8)

    def start(self) -> None:
        """Give signs of life from now on."""
        self._task = asyncio.create_task(self._sign_for_ever())

    async def close(self) -> None:
        """Give no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(ServiceError):  # it ends by itself
            request = state_pb2.DeleteStateRequest(scope=RUNTIMES_SCOPE, key=self.runtime_id)
            await self._items.call("DeleteState", request)

    async def add(self, tenant: str, execution_id: str) -> None:
        """A run is in this process from now on."""
        record = RunningRecord(tenant, execution_id, self.runtime_id, self._clock.now_ns())
        await self._put(RUNNING_SCOPE, _key(tenant, execution_id), record)

    async def remove(self, tenant: str, execution_id: str) -> None:
        """It has ended."""
        key = _key(tenant, execution_id)
        request = state_pb2.DeleteStateRequest(scope=RUNNING_SCOPE, key=key)
        await self._items.call("DeleteState", request)

    async def lost(self, is_here: Callable[[RunningRecord], bool]) -> AsyncIterator[RunningRecord]:
        """Runs of processes that are gone, and of this one that are not here."""
        alive: dict[str, bool] = {}
        async for found in self._all():
            holder = found.record.holder
            if holder == self.runtime_id:
                if not is_here(found.record):
                    yield found.record
                continue
            if holder not in alive:
                alive[holder] = await self.is_alive(holder)
            if not alive[holder]:
                yield found.record

    async def is_alive(self, runtime_id: str) -> bool:
        """Whether a process lives: it has given a sign, and is not known to be gone."""
        if runtime_id == self.runtime_id:
            return True
        record, _ = await self._items.read(RUNTIMES_SCOPE, runtime_id, RuntimeRecord)
        if record is None:
            return False
        if record.machine != machine():
            return True
        return start_ticks(record.pid) == record.start_ticks

    async def _all(self) -> AsyncIterator[FoundRun]:
        token = ""
        while True:
            request = state_pb2.ListStateRequest(
                scope=RUNNING_SCOPE, page_size=_PAGE_SIZE, page_token=token
            )
            told = await self._items.call("ListState", request)
            answer = state_pb2.ListStateResponse.FromString(told)
            for item in answer.items:
                record = msgspec.json.decode(item.value.json, type=RunningRecord)
                yield FoundRun(item.key, record)
            token = answer.next_page_token
            if not token:
                return

    async def _sign_for_ever(self) -> None:
        while True:
            try:
                await self.sign()
            except ServiceError as error:
                log.warning("no sign of life was given", extra={"reason": error.message})
                await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(WORKFLOW_SIGN_SECONDS)

    async def sign(self) -> None:
        """Say that this process lives."""
        pid = os.getpid()
        record = RuntimeRecord(self.runtime_id, machine(), pid, start_ticks(pid))
        await self._put(RUNTIMES_SCOPE, self.runtime_id, record, ttl_s=WORKFLOW_LEASE_SECONDS)

    async def _put(
        self, scope: str, key: str, record: msgspec.Struct, *, ttl_s: float | None = None
    ) -> None:
        request = state_pb2.SetStateRequest(scope=scope, key=key)
        request.value.json = msgspec.json.encode(record).decode()
        if ttl_s is not None:
            request.ttl.FromMicroseconds(round(ttl_s * 1e6))
        await self._items.call("SetState", request)


def _key(tenant: str, execution_id: str) -> str:
    return f"{tenant}/{execution_id}"


def machine() -> str:
    """This boot of this machine, and the namespace in which its process ids count."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return secrets.token_hex(8)  # nothing can be said of another process then


def start_ticks(pid: int) -> int:
    """When a process began, in ticks since the boot; 0: there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0
    fields = told.rpartition(")")[2].split()
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])
