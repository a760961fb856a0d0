"""Tenants as they are kept: items of a system tenant in state, looked up by gateway and runtime.

What is looked up for each call is remembered for a second, hits and misses alike.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import msgspec
from llmspell.v1 import state_pb2

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import CallContext, is_tenant_id
from services.common.errors import Reason, ServiceError
from services.common.relay import Relay
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE

CACHE_S = 1.0
CACHE_ENTRIES_MAX = 10_000
_TIMEOUT_S = 5.0

M = TypeVar("M")
R = TypeVar("R")


class TenantRecord(msgspec.Struct, frozen=True):
    """A tenant as it is kept."""

    tenant_id: str
    display_name: str
    create_ns: int
    deleting: bool = False
    """Set while it is emptied at its end: nothing new arrives."""
    making: bool = False
    """Set until it has been emptied before its first day: a namesake may have left something."""
    isolation: str = "namespace"
    """How its vectors are kept apart: the contract's Isolation in lower case."""

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

    def __init__(self, items: SystemItems, clock: Clock) -> None:
        self._items = items
        self._remembered = Remembered[TenantRecord](clock)

    async def get(self, tenant_id: str) -> TenantRecord | None:
        """A tenant that is neither being made nor being deleted.

        Whatever is not a tenant's id, the system's own among them, is not even looked up.
        """
        if not is_tenant_id(tenant_id):
            return None
        record = await self._remembered.get(tenant_id, lambda: self._read(tenant_id))
        return record if record is not None and record.open else None

    def forget(self, tenant_id: str) -> None:
        """Look this one up again next time."""
        self._remembered.forget(tenant_id)

    async def _read(self, tenant_id: str) -> TenantRecord | None:
        return (await self._items.read(TENANTS_SCOPE, tenant_id, TenantRecord))[0]


class Remembered(Generic[R]):
    """Look-ups of the last second, hits and misses alike."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[float, R | None]] = {}

    async def get(self, key: str, read: Callable[[], Coroutine[Any, Any, R | None]]) -> R | None:
        """What `read` gave within the last second, or gives now."""
        now = self._clock.monotonic()
        entry = self._entries.get(key)
        if entry is not None and now - entry[0] < CACHE_S:
            return entry[1]
        record = await read()
        if len(self._entries) >= CACHE_ENTRIES_MAX:
            self._entries.clear()
        # The time before the read: what was read may have been changed since.
        self._entries[key] = (now, record)
        return record

    def forget(self, key: str) -> None:
        """Read it again next time."""
        self._entries.pop(key, None)


def tenant_not_found(tenant_id: str) -> ServiceError:
    """What is said of a tenant that is not there, to whoever may know."""
    return ServiceError(
        Reason.TENANT_NOT_FOUND, f"There is no tenant {tenant_id}.", tenant_id=tenant_id
    )
