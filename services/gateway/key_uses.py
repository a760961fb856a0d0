"""When each key was last used: kept at most once a minute, beside the call and not in it."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from llmspell.v1 import state_pb2

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.limits import KEY_USE_SECONDS, KEY_USES_MAX
from services.common.scopes import KEY_USES_SCOPE, KEYS_SCOPE
from services.common.tenants import SystemItems

log = logging.getLogger(__name__)

_WRITE_S = 2.0
"""How long a use waits before it is kept."""
_AT_ONCE = 100
"""Uses kept in one transaction's time; the rest follow."""


class KeyUse(msgspec.Struct, frozen=True):
    """As it is kept."""

    time_ns: int
    """Nanoseconds since the epoch."""


class KeyUses:
    """Notes uses, and keeps them in state by and by."""

    def __init__(self, items: SystemItems, clock: Clock) -> None:
        self._items = items
        self._clock = clock
        self._noted: dict[str, int] = {}
        """Key → the last use that is kept or waits to be."""
        self._waiting: dict[str, int] = {}

    def note(self, key_id: str) -> None:
        """A key was used just now."""
        now_ns = self._clock.now_ns()
        if abs(now_ns - self._noted.get(key_id, 0)) < KEY_USE_SECONDS * 1e9:
            return
        if len(self._noted) >= KEY_USES_MAX:
            self._noted.clear()
        if len(self._waiting) < KEY_USES_MAX:
            self._noted[key_id] = self._waiting[key_id] = now_ns

    async def last(self, key_id: str) -> int:
        """When it was last used, nanoseconds since the epoch; 0: not yet."""
        kept, _ = await self._items.read(KEY_USES_SCOPE, key_id, KeyUse)
        return max(kept.time_ns if kept else 0, self._waiting.get(key_id, 0))

    async def run(self) -> None:
        """Keep what waits, for ever."""
        while True:
            await asyncio.sleep(_WRITE_S)
            await self.keep()

    async def keep(self) -> None:
        """Keep what waits; what cannot be kept now is tried again."""
        for key_id, time_ns in [*self._waiting.items()][:_AT_ONCE]:
            try:
                await self._keep(key_id, time_ns)
            except ServiceError as error:
                if error.reason != Reason.REVISION_MISMATCH:  # state is away, or busy
                    log.debug("uses of keys are not kept yet", extra={"why": error.message})
                    return
            if self._waiting.get(key_id) == time_ns:
                del self._waiting[key_id]

    async def _keep(self, key_id: str, time_ns: int) -> None:
        """Where the key is still there: one that was revoked must leave nothing behind."""
        value = state_pb2.Payload(json=msgspec.json.encode(KeyUse(time_ns)).decode())
        present = state_pb2.Precondition(present=True)
        request = state_pb2.BatchStateRequest(
            checks=[state_pb2.StateCheck(scope=KEYS_SCOPE, key=key_id, precondition=present)],
            writes=[state_pb2.StateWrite(scope=KEY_USES_SCOPE, key=key_id, set=value)],
        )
        await self._items.call("BatchState", request)
