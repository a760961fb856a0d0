"""Every agent and workflow that goes on in this process, and the outputs of those that ended.

An execution lives in a task of its own, so it does not end with the call that began it where that
call only wanted to wait for a while. It ends with its script run, when its caller goes away, or
when nobody has asked for it for a minute.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context

from llmspell.v1 import execution_pb2

from services.common.errors import Reason, ServiceError
from services.common.limits import (
    EXECUTION_CALLBACK_SECONDS,
    EXECUTION_GRACE_SECONDS,
    EXECUTION_IDLE_SECONDS,
    EXECUTIONS_HEARD_PER_TENANT_MAX,
    EXECUTIONS_KEPT_BYTES_MAX,
    EXECUTIONS_PER_TENANT_MAX,
    REQUEST_REMEMBERED_SECONDS,
)
from services.runtime.execution import Execution, Output, Owner

log = logging.getLogger(__name__)

Body = Callable[[Execution], Awaitable[Output]]
"""What an execution does; what it raises is the execution's failure."""
_STREAM_WAIT_S = 20.0
_AWAY = {Reason.SERVICE_UNAVAILABLE, Reason.DEADLINE_EXCEEDED}
_KEPT_BYTES = 1024
"""What one takes beside its output, about."""
_Key = tuple[Owner, str]


class Executions:
    """Executions of all tenants in this process."""

    def __init__(self, *, idle_s: float = EXECUTION_IDLE_SECONDS) -> None:
        """`idle_s`: how long one goes on, or is kept, that nobody asks for."""
        self._idle_s = idle_s
        self._all: dict[str, Execution] = {}
        self._by_request: dict[_Key, Execution] = {}
        self._going: Counter[str] = Counter()
        """Of each tenant, how many have not ended."""
        self._of_runs: defaultdict[str, set[Execution]] = defaultdict(set)
        """Of each script run those that have not ended; of clients under no name."""
        self._waiting: Counter[str] = Counter()
        """Of each tenant, how many calls wait for news."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._kept: dict[str, int] = {}
        """Ended ones, the oldest first, and how many bytes each takes."""
        self._kept_bytes = 0

    def begin(
        self,
        owner: Owner,
        body: Body,
        *,
        request_id: str = "",
        execution_id: str = "",
        stays: bool = False,
    ) -> Execution:
        """Begin one, or find the one that this request has begun.

        Args:
            owner: Whose it is.
            body: What it does, in a task of its own.
            request_id: Finds it again; empty: nothing does.
            execution_id: Its id, where it had one before; empty: a new one.
            stays: Whether it goes on though nobody asks for it, unless it waits for its caller.
                What it leaves is kept elsewhere: where it fails, its request begins it anew.

        Raises:
            ServiceError: TENANT_LIMIT_REACHED where the tenant has too many that go on.
        """
        known = self._by_request.get((owner, request_id))
        if request_id and known is not None:
            return known
        self._check_room(owner.tenant)
        before = self._all.get(execution_id)
        if before is not None:  # it failed or was cancelled; its timer must not end this one
            self._forget(before)
        execution_id = execution_id or f"exec_{secrets.token_hex(12)}"
        execution = Execution(execution_id, owner, request_id=request_id)
        execution.stays = stays
        self._all[execution.execution_id] = execution
        self._going[owner.tenant] += 1
        self._of_runs[owner.run_id].add(execution)
        if request_id:
            self._by_request[owner, request_id] = execution
        execution.task = asyncio.create_task(_live(execution, body))
        execution.task.add_done_callback(lambda task: self._ended(execution, task))
        self._let_go_after(execution, self._idle_s)
        return execution

    async def progress(
        self,
        execution_id: str,
        owner: Owner,
        *,
        wait_s: float,
        with_events: bool = False,
        gather_s: float = 0.0,
        ends_with_caller: bool = False,
    ) -> execution_pb2.ExecutionProgress:
        """The news of one.

        Args:
            execution_id: Which.
            owner: Who asks.
            wait_s: How long to wait for news.
            with_events: Whether events are news.
            gather_s: How long to wait for more, where there is nothing but events.
            ends_with_caller: Whether it ends where this call is cancelled; one that a request id
                finds again has a moment for that.

        Raises:
            ServiceError: EXECUTION_NOT_FOUND, or what it failed with.
        """
        execution = self.find(execution_id, owner)
        self._stay(execution)
        try:
            with execution.heard(), self._waits(owner.tenant):
                return await execution.news(
                    wait_s=wait_s, with_events=with_events, gather_s=gather_s
                )
        except (asyncio.CancelledError, ServiceError):
            if ends_with_caller and not execution.hearers:
                self._leave(execution)
            raise
        finally:
            if not execution.hearers and execution_id not in self._timers:
                waits = execution.waits and not execution.is_done
                self._let_go_after(execution, EXECUTION_CALLBACK_SECONDS if waits else self._idle_s)

    async def stream(
        self, execution_id: str, owner: Owner
    ) -> AsyncGenerator[execution_pb2.ExecutionProgress, None]:
        """Its news until it ends; ending the iteration before ends it.

        Raises:
            ServiceError: as `progress`.
        """
        is_done = False
        try:
            while not is_done:
                progress = await self.progress(
                    execution_id, owner, wait_s=_STREAM_WAIT_S, with_events=True
                )
                is_done = progress.done
                if is_done or progress.events or progress.callbacks:
                    yield progress
        finally:
            if not is_done:
                with suppress(ServiceError):  # it has gone by itself
                    self.cancel(execution_id, owner)

    def answer(
        self, execution_id: str, owner: Owner, results: Iterable[execution_pb2.CallbackResult]
    ) -> None:
        """Give one what came of its callbacks.

        Raises:
            ServiceError: EXECUTION_NOT_FOUND, CALLBACK_NOT_FOUND, FIELD_INVALID.
        """
        self.find(execution_id, owner).answer(results)

    def cancel(self, execution_id: str, owner: Owner) -> bool:
        """End one; whether it went on until now. One that is not there is no error."""
        execution = self._all.get(execution_id)
        if execution is None or execution.owner != owner or execution.is_done:
            return False
        execution.is_cancelled = True
        _end(execution)
        return True

    def end_run(self, run_id: str) -> None:
        """A script run is over, and so is what it has begun."""
        for execution in self._of_runs.get(run_id, ()):
            _end(execution)

    def end_tenant(self, tenant: str) -> None:
        """A tenant is emptied: nothing of it goes on, and nothing is kept."""
        for execution in list(self._all.values()):
            if execution.owner.tenant == tenant:
                if execution.is_done:
                    self._forget(execution)
                else:
                    _end(execution)

    async def close(self) -> None:
        """End all."""
        tasks = [execution.task for execution in self._all.values() if execution.task is not None]
        for timer in self._timers.values():
            timer.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def find(self, execution_id: str, owner: Owner) -> Execution:
        """One of this owner.

        Raises:
            ServiceError: EXECUTION_NOT_FOUND.
        """
        execution = self._all.get(execution_id)
        if execution is None or execution.owner != owner:
            raise ServiceError(
                Reason.EXECUTION_NOT_FOUND,
                f"There is no execution {execution_id[:100]!r}: it has ended and was told, was let "
                "go since nobody asked for it, or never was.",
                execution_id=execution_id[:100],
            )
        return execution

    def _ended(self, execution: Execution, task: asyncio.Task[Output]) -> None:
        """Keep what came of it for who asks again; some may be begun anew."""
        tenant, run_id, size = execution.owner.tenant, execution.owner.run_id, _KEPT_BYTES
        self._going[tenant] -= 1
        if not self._going[tenant]:
            del self._going[tenant]
        self._of_runs[run_id].discard(execution)
        if not self._of_runs[run_id]:
            del self._of_runs[run_id]
        if task.cancelled():
            execution.end(error=ServiceError(Reason.CANCELLED, "The execution was cancelled."))
        elif (error := task.exception()) is not None:
            execution.end(error=error)
        else:
            execution.end(output=task.result())
            size += task.result().ByteSize()
        execution.task = None  # it holds all that was there when it ran
        if _may_begin_anew(execution):
            self._forget_request(execution)
        self._kept[execution.execution_id] = size
        self._kept_bytes += size
        self._let_go_after(
            execution, REQUEST_REMEMBERED_SECONDS if execution.request_id else self._idle_s
        )
        while self._kept_bytes > EXECUTIONS_KEPT_BYTES_MAX and len(self._kept) > 1:
            self._forget(self._all[next(iter(self._kept))])

    @contextmanager
    def _waits(self, tenant: str) -> Iterator[None]:
        """While a call of a tenant waits; one tenant's must not take every place of the process."""
        if self._waiting[tenant] >= EXECUTIONS_HEARD_PER_TENANT_MAX:
            raise _too_many("calls that wait", EXECUTIONS_HEARD_PER_TENANT_MAX)
        self._waiting[tenant] += 1
        try:
            yield
        finally:
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant]

    def _check_room(self, tenant: str) -> None:
        if self._going[tenant] >= EXECUTIONS_PER_TENANT_MAX:
            raise _too_many("executions", EXECUTIONS_PER_TENANT_MAX)

    def _leave(self, execution: Execution) -> None:
        """Its caller has gone; one that can be found again is given a moment."""
        if execution.stays or execution.is_done:
            return
        if execution.request_id:
            self._let_go_after(execution, EXECUTION_GRACE_SECONDS)
        else:
            _end(execution)

    def _stay(self, execution: Execution) -> None:
        """Somebody asks for it."""
        if not execution.is_done:
            self._stop_timer(execution)

    def _let_go_after(self, execution: Execution, seconds: float) -> None:
        self._stop_timer(execution)
        if execution.owner.run_id and not execution.is_done:
            return  # a script may do its part for as long as it likes; the run's end is its end
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self._let_go, execution, context=Context())
        self._timers[execution.execution_id] = timer

    def _stop_timer(self, execution: Execution) -> None:
        timer = self._timers.pop(execution.execution_id, None)
        if timer is not None:
            timer.cancel()

    def _let_go(self, execution: Execution) -> None:
        self._timers.pop(execution.execution_id, None)
        if execution.hearers:
            return
        if execution.is_done:
            self._forget(execution)
        elif execution.stays and not execution.waits:
            self._let_go_after(execution, self._idle_s)
        else:
            _end(execution)

    def _forget(self, execution: Execution) -> None:
        self._stop_timer(execution)
        self._forget_request(execution)
        if self._all.get(execution.execution_id) is execution:
            del self._all[execution.execution_id]
        self._kept_bytes -= self._kept.pop(execution.execution_id, 0)

    def _forget_request(self, execution: Execution) -> None:
        key = (execution.owner, execution.request_id)
        if self._by_request.get(key) is execution:
            del self._by_request[key]
        execution.request_id = ""


async def _live(execution: Execution, body: Body) -> Output:
    try:
        return await body(execution)
    except (ServiceError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("an execution broke")
        raise


def _end(execution: Execution) -> None:
    execution.is_let_go = not execution.is_cancelled
    if execution.task is not None:
        execution.task.cancel()


def _too_many(what: str, limit: int) -> ServiceError:
    return ServiceError(
        Reason.TENANT_LIMIT_REACHED,
        f"The tenant has {limit} {what} of agents and workflows already, as many as it may.",
        field=what,
        got=limit + 1,
        limit=limit,
    )


def _may_begin_anew(execution: Execution) -> bool:
    """Whether its failure is not the last word.

    It was cancelled, what it has done is kept, or it found nobody to begin with.
    """
    error = execution.error
    if not isinstance(error, ServiceError):
        return error is not None and execution.stays
    is_away = error.reason in _AWAY and not execution.has_begun
    return execution.stays or is_away or error.reason == Reason.CANCELLED
