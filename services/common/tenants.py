"""Tenants as they are kept: items of a system tenant in state, looked up by gateway and runtime.

What is looked up for each call is remembered for a second, hits and misses alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

import msgspec
from llmspell.v1 import state_pb2

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import CallContext, is_tenant_id
from services.common.errors import Reason, ServiceError
from services.common.freshness import Freshness
from services.common.relay import Relay
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE

CACHE_S = 1.0
CACHE_ENTRIES_MAX = 20_000
"""Of each kind; then the oldest goes."""
_TIMEOUT_S = 5.0

Status = Literal["active", "suspended", "frozen"]
"""Whether a tenant takes calls."""

M = TypeVar("M")
R = TypeVar("R")


class TenantLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a tenant may have and do; 0 means what the deployment gives to every tenant."""

    vectors: int = 0
    """Records of vectors, chunks of documents among them."""
    bytes: int = 0
    """Of its vectors, with text, metadata and history."""
    dimensions: int = 0
    """Of a vector of a collection that is made from now on."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent_calls: int = 0
    concurrent_runs: int = 0
    monthly_cost_usd: float = 0.0
    weight: float = 1.0
    """Its share where calls queue, against 1 of every other tenant."""


class TenantRetention(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long a tenant's things are kept, in seconds; 0: as long as the deployment says.

    The deployment's own figure is the most that counts.
    """

    events_s: float = 0.0
    """Published events."""
    backups_s: float = 0.0
    """Backups; the newest one stays."""
    runs_s: float = 0.0
    """Journals of runs that belong to no session."""


class TenantRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tenant as it is kept. Fields that came later have defaults: old records are read too."""

    tenant_id: str
    display_name: str
    create_ns: int
    deleting: bool = False
    """Set while it is emptied at its end: nothing new arrives."""
    making: bool = False
    """Set until it has been emptied before its first day: a namesake may have left something."""
    isolation: str = "namespace"
    """How its vectors are kept apart: the contract's Isolation in lower case."""
    status: Status = "active"
    status_note: str = ""
    """Why it is not active, in the operator's words; its callers are told."""
    limits: TenantLimits = TenantLimits()
    retention: TenantRetention = TenantRetention()
    default_provider: str = ""
    """As `provider/model`: asked where an agent names no model."""
    metadata: dict[str, str] = {}
    """What the operator wants to remember of it."""

    @property
    def open(self) -> bool:
        """Whether it takes calls."""
        return not (self.making or self.deleting)


class SystemItems:
    """The system tenant's items, through the state process."""

    def __init__(self, relay: Relay, *, principal: str) -> None:
        """`principal`: the process that asks, for the log."""
        self._relay = relay
        self._context = CallContext(
            tenant=SYSTEM_TENANT, principal=principal, permissions=("state.read", "state.write")
        )

    async def read(self, scope: str, key: str, kind: type[M]) -> tuple[M | None, int]:
        """A record and its revision; None and 0 where there is none."""
        request = state_pb2.GetStateRequest(scope=scope, key=key)
        try:
            answer = await self.call("GetState", request)
        except ServiceError as error:
            if error.reason == Reason.ITEM_NOT_FOUND:
                return None, 0
            raise
        item = state_pb2.GetStateResponse.FromString(answer).item
        return msgspec.json.decode(item.value.json, type=kind), item.revision

    async def call(self, name: str, request: Any) -> bytes:
        """Call a method of StateService as the system tenant."""
        method = METHODS[f"/llmspell.v1.StateService/{name}"]
        return await self._relay.call(
            method, request.SerializeToString(), self._context, timeout_s=_TIMEOUT_S
        )


class Tenants:
    """Which tenants there are; at most a second old."""

    def __init__(
        self, items: SystemItems, clock: Clock, *, freshness: Freshness | None = None
    ) -> None:
        """`freshness`: tells of changes; None: each is read again after a second."""
        self._items = items
        if freshness is None:
            self._remembered = Remembered[TenantRecord](clock)
            return
        self._remembered = Remembered[TenantRecord](clock, covers=freshness.covers)
        freshness.tell(TENANTS_SCOPE, self._remembered.forget)

    async def get(self, tenant_id: str) -> TenantRecord | None:
        """A tenant that is neither being made nor being deleted.

        Whatever is not a tenant's id, the system's own among them, is not even looked up.
        """
        if not is_tenant_id(tenant_id):
            return None
        record = await self._remembered.get(tenant_id, lambda: self._read(tenant_id))
        return record if record is not None and record.open else None

    def known(self, tenant_id: str) -> TenantRecord | None:
        """As it was looked up last, however long ago; for who asks within a call, which looked."""
        return self._remembered.last(tenant_id)

    def forget(self, tenant_id: str) -> None:
        """Look this one up again next time."""
        self._remembered.forget(tenant_id)

    async def _read(self, tenant_id: str) -> TenantRecord | None:
        return (await self._items.read(TENANTS_SCOPE, tenant_id, TenantRecord))[0]


class Remembered(Generic[R]):
    """Look-ups of the last second, hits and misses alike; longer where changes are told of."""

    def __init__(
        self, clock: Clock, *, covers: Callable[[float, float], bool] = lambda *_: False
    ) -> None:
        """`covers`: whether what was read then holds now, unless it was forgotten since."""
        self._clock = clock
        self._covers = covers
        self._entries: dict[str, tuple[float, R | None]] = {}
        self._reading: dict[str, asyncio.Task[R | None]] = {}

    async def get(self, key: str, read: Callable[[], Coroutine[Any, Any, R | None]]) -> R | None:
        """What `read` gave within the last second, or gives now; all who ask meanwhile share it."""
        now = self._clock.monotonic()
        entry = self._entries.get(key)
        if entry is not None:
            read_s, record = entry
            if now - read_s < CACHE_S or self._covers(read_s, now):
                return record
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(key, read))
            reading.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(reading)

    def last(self, key: str) -> R | None:
        """What was read last; None where nothing was, or it is not remembered."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def forget(self, key: str) -> None:
        """Read it again next time."""
        self._entries.pop(key, None)
        self._reading.pop(key, None)

    async def _read(self, key: str, read: Callable[[], Coroutine[Any, Any, R | None]]) -> R | None:
        # The time before the read: what was read may have been changed since.
        begin_s = self._clock.monotonic()
        record = await read()
        if self._reading.get(key) is not asyncio.current_task():
            return record  # it has been forgotten meanwhile
        self._entries.pop(key, None)
        while len(self._entries) >= CACHE_ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (begin_s, record)
        return record

    def _end(self, key: str, reading: asyncio.Task[R | None]) -> None:
        if self._reading.get(key) is reading:
            del self._reading[key]
        if not reading.cancelled():
            reading.exception()  # whoever waits has it; else nobody wants it


def tenant_not_found(tenant_id: str) -> ServiceError:
    """What is said of a tenant that is not there, to whoever may know."""
    return ServiceError(
        Reason.TENANT_NOT_FOUND, f"There is no tenant {tenant_id}.", tenant_id=tenant_id
    )
