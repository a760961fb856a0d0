"""A hook with its guard: what it does wrong breaks no call, is counted, and opens its breaker."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from services.common.limits import HOOK_TENANTS_MAX
from services.common.telemetry import HookCount
from services.runtime.hooks.breaker import DEFAULT, Breaker, State, Thresholds
from services.runtime.hooks.model import HostCall, HostHook, Proceed, now_s
from services.runtime.runs import Reply

log = logging.getLogger(__name__)

_PAUSE_S_MAX = 0.25
"""How late it may be noticed that a hook is late."""

Told = Callable[[HostCall, str, str, str], None]
"""Told of what happened to a hook: the call, `hook.failed` or `hook.opened`, its name, why."""


class Guarded:
    """One of a process's hooks."""

    def __init__(
        self,
        name: str,
        hook: HostHook,
        count: HookCount,
        *,
        tell: Told = lambda *_: None,
        thresholds: Thresholds = DEFAULT,
        timeout_s: float = 5.0,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`timeout_s`: of its own time; what it waits for behind it does not count."""
        self.name = name
        self.count = count
        self.hook = hook
        self._tell = tell
        self._thresholds = thresholds
        self._now = now
        # What only computes is not slow because the machine is; what waits on purpose is not late.
        self._is_timed = bool(getattr(hook, "is_timed", True))
        self._watchdog = _Watchdog(timeout_s) if self._is_timed else None
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()
        count.open_now = self._open_count

    def state(self, tenant: str) -> State:
        """Of its breaker for a tenant."""
        return self._breaker(tenant).state

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """As the hook, or as if it were not there."""
        breaker = self._breaker(call.run.tenant)
        if not breaker.lets():
            self.count.left_out += 1
            return await proceed(call)
        passage = _Passage(proceed)
        self.count.calls += 1
        try:
            reply = await passage.through(self.hook, call, self._watchdog)
        except Exception as error:  # noqa: BLE001 - a hook breaks no call, whatever it does
            if passage.raised is not None:  # what lies behind has failed, not the hook
                raise passage.raised from None
            self._failed(call, breaker, error)
            return passage.reply if passage.reply is not None else await proceed(call)
        own_s = passage.own_s
        self.count.elapsed_s += own_s
        if breaker.succeeded(own_s if self._is_timed else 0.0):
            self._opened(call, "it was slow")
        return reply

    def _open_count(self) -> int:
        return sum(breaker.state is State.OPEN for breaker in self._breakers.values())

    def _failed(self, call: HostCall, breaker: Breaker, error: Exception) -> None:
        self.count.failures += 1
        known = {"hook": self.name, "method": call.method}
        log.warning("hook failed", exc_info=error, extra=known)
        self._tell(call, "hook.failed", self.name, type(error).__name__)
        if breaker.failed():
            self._opened(call, type(error).__name__)

    def _opened(self, call: HostCall, why: str) -> None:
        self.count.opened += 1
        log.warning("hook left out", extra={"hook": self.name, "why": why})
        self._tell(call, "hook.opened", self.name, why)

    def _breaker(self, tenant: str) -> Breaker:
        breaker = self._breakers.get(tenant)
        if breaker is None:
            breaker = self._breakers[tenant] = Breaker(self._thresholds, self._now)
            if len(self._breakers) > HOOK_TENANTS_MAX:
                self._breakers.popitem(last=False)
        return breaker


class _Watchdog:
    """Looks now and then for passages whose hook has had its time.

    A timer for each passage would cost more than most hooks do.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pause_s = min(timeout_s / 4, _PAUSE_S_MAX)
        self._passages: set[_Passage] = set()
        self._is_awake = False

    def enter(self, passage: _Passage) -> None:
        self._passages.add(passage)
        if not self._is_awake:
            self._is_awake = True
            asyncio.get_running_loop().call_later(self._pause_s, self._look)

    def leave(self, passage: _Passage) -> None:
        self._passages.discard(passage)

    def _look(self) -> None:
        for passage in list(self._passages):
            if passage.own_s_now() > self._timeout_s:
                self._passages.discard(passage)
                passage.expire()
        self._is_awake = bool(self._passages)
        if self._is_awake:
            asyncio.get_running_loop().call_later(self._pause_s, self._look)


class _Passage:
    """One call's way through one hook: what lies behind it, and how long it took itself."""

    __slots__ = ("_begin", "_is_behind", "_proceed", "_task", "is_late", "own_s", "raised", "reply")

    def __init__(self, proceed: Proceed) -> None:
        self._proceed = proceed
        self._task = asyncio.current_task()
        self._begin = now_s()
        self._is_behind = False
        self.is_late = False
        self.own_s = 0.0
        self.reply: Reply | None = None
        self.raised: BaseException | None = None

    async def through(self, hook: HostHook, call: HostCall, watchdog: _Watchdog | None) -> Reply:
        """The hook's reply; TimeoutError where its own time is over."""
        if watchdog is not None:
            watchdog.enter(self)
        try:
            return await hook(call, self._behind)
        except asyncio.CancelledError:
            if not self.is_late or self._task is None or self._task.uncancel() > 0:
                raise
            raise TimeoutError from None
        finally:
            self.own_s = self.own_s_now()
            if watchdog is not None:
                watchdog.leave(self)

    def own_s_now(self) -> float:
        """How long the hook has had, without what lies behind it."""
        return self.own_s if self._is_behind else self.own_s + now_s() - self._begin

    def expire(self) -> None:
        """Its time is over."""
        self.is_late = True
        if self._task is not None:
            self._task.cancel()

    async def _behind(self, call: HostCall) -> Reply:
        if self.is_late:
            await asyncio.sleep(0)  # here the cancellation arrives, and not behind the hook
        self.own_s = self.own_s_now()
        self._is_behind = True
        try:
            self.reply = await self._proceed(call)
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self._is_behind = False
            self._begin = now_s()
        return self.reply
