"""Whether what was read of the system's items is still so, without reading it again.

Keys and tenants are looked up for every call. With many tenants, each calling now and then, what
was read a second ago is read anew for nearly every call, and costs more than the call. So the
changes of these items are watched: what was read while the watch was there holds until a change is
told of it. That the watch is alive is asked for more than twice a second; where no answer comes,
within a second all is as without it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import aclosing

from llmspell.v1 import state_pb2

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import DEADLINE_SECONDS_MAX
from services.common.relay import Relay
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE

log = logging.getLogger(__name__)

HOLDS_S = 1.0
"""How long an answer says that the watch is alive."""
_ASK_S = 0.4
_ANSWER_S = 0.5
_AGAIN_S = 0.2
_NO_KEY = "-"
"""No tenant's id."""
_WATCH = METHODS["/llmspell.v1.StateService/WatchState"]
_GET = METHODS["/llmspell.v1.StateService/GetState"]

Forget = Callable[[str], None]


class Freshness:
    """Follows the changes of the system's items."""

    def __init__(self, relay: Relay, clock: Clock, *, principal: str) -> None:
        """`principal`: the process that asks, for the log."""
        self._relay = relay
        self._clock = clock
        self._context = CallContext(
            tenant=SYSTEM_TENANT, principal=principal, permissions=("state.read",)
        )
        self._forget: dict[str, list[Forget]] = {}
        self._since_s = math.inf
        self._alive_s = -math.inf

    def tell(self, scope: str, forget: Forget) -> None:
        """Call `forget` with each key of the scope that changes."""
        self._forget.setdefault(scope, []).append(forget)

    def covers(self, read_s: float, now_s: float) -> bool:
        """Whether all changes since then have been told, but for those of the last second.

        Args:
            read_s: When something was read, on the monotonic clock.
            now_s: Likewise.
        """
        return self._since_s < read_s and now_s - self._alive_s < HOLDS_S

    async def run(self) -> None:
        """Follow until cancelled; where state is away, try again."""
        while True:
            try:
                await self._follow()
            except ServiceError as error:
                log.debug("the watch ended", extra={"why": error.message})
            finally:
                self._since_s = math.inf
            await asyncio.sleep(_AGAIN_S)

    async def _follow(self) -> None:
        request = state_pb2.WatchStateRequest().SerializeToString()
        changes = self._relay.stream(_WATCH, request, self._context, timeout_s=DEADLINE_SECONDS_MAX)
        asking: asyncio.Task[None] | None = None
        try:
            async with aclosing(changes):
                async for message in changes:
                    if asking is None:  # the first message says that it has begun
                        self._since_s = self._alive_s = self._clock.monotonic()
                        asking = asyncio.create_task(self._ask())
                    self._take(state_pb2.WatchStateResponse.FromString(message))
        finally:
            if asking is not None:
                asking.cancel()

    def _take(self, message: state_pb2.WatchStateResponse) -> None:
        for change in message.changes:
            for forget in self._forget.get(change.scope, ()):
                forget(change.key)

    async def _ask(self) -> None:
        """On the connection of the watch: what was sent before the answer has come before it."""
        request = state_pb2.GetStateRequest(scope=TENANTS_SCOPE, key=_NO_KEY).SerializeToString()
        while True:
            begin_s = self._clock.monotonic()
            try:
                await self._relay.call(_GET, request, self._context, timeout_s=_ANSWER_S)
            except ServiceError as error:
                if error.reason == Reason.ITEM_NOT_FOUND:
                    self._alive_s = begin_s
            await asyncio.sleep(_ASK_S)
