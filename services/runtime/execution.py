"""One agent or workflow that goes on for a caller: its task, what it tells, what it asks back.

A caller hears of it in calls that end (see docs/adr/0019-executions.md), so whatever it tells is
kept here until it is fetched: events up to a size, callbacks until they are answered, the output.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llmspell.v1 import execution_pb2

from services.common.context import CallContext
from services.common.errors import Reason, ServiceError, reason_name, reason_named
from services.common.limits import (
    EXECUTION_EVENTS_BYTES_MAX,
    EXECUTION_NEWS_BYTES,
)
from services.common.values import fill_map, to_python
from services.runtime.money.model import Purse
from services.runtime.runs import Call, CallHandler, Reply

Output = execution_pb2.AgentOutput | execution_pb2.WorkflowOutput
FUNCTION = execution_pb2.CALLBACK_KIND_FUNCTION
TOOL = execution_pb2.CALLBACK_KIND_TOOL
_EVENT_BYTES = 64
"""What an event takes beside its content, about."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an execution is; for nobody else is it there."""

    tenant: str
    principal: str
    run_id: str = ""
    """Of the script run that began it; empty: a client did."""


class Calls(Protocol):
    """Answers calls through the host's hooks; `hooks.chain.Hooked` does."""

    async def __call__(self, call: Call) -> Reply:
        """The reply to a call of a method."""
        ...

    async def around(self, call: Call, inner: CallHandler) -> Reply:
        """The reply of what is no call of a method but passes the same hooks."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom an agent or workflow does what it does."""

    context: CallContext
    session_id: str
    """Session whose execution it is; empty: none."""
    run_id: str
    """Of the script run, as `Owner` has it."""
    call: Calls
    """Answers calls as the caller's own, through the host's hooks."""
    executes_tools: bool = False
    """Whether calls of tools come back as callbacks."""
    purses: tuple[Purse, ...] = ()
    """Limits of the script run, which all that it executes draws from."""


class Execution:
    """What goes on, and what its caller does not know of yet."""

    def __init__(self, execution_id: str, owner: Owner, *, request_id: str = "") -> None:
        """`request_id`: by which its owner finds it again; empty: only by its own id."""
        self.execution_id = execution_id
        self.owner = owner
        self.request_id = request_id
        self.task: asyncio.Task[Output] | None = None
        self._told: bytes | None = None
        """Its output as it is told, once there is one: a message takes ten times as much."""
        self.error: BaseException | None = None
        self.is_cancelled = False
        """Whether somebody has asked for its end."""
        self.is_let_go = False
        """Whether it is being ended since nobody wants it any more."""
        self.stays = False
        """Whether it goes on though nobody asks for it, unless it waits for its caller."""
        self.has_begun = False
        """Whether anything may have been done in it: until then a failure has cost nothing."""
        self.keeps_events = False
        """Whether somebody wants events; until then none are kept."""
        self.hearers = 0
        """Calls that wait for its news."""
        self._events: list[execution_pb2.ExecutionEvent] = []
        self._events_bytes = 0
        self._events_count = 0
        self._callbacks: dict[str, _Open] = {}
        self._callbacks_count = 0
        self._changed = asyncio.Event()

    @property
    def is_done(self) -> bool:
        """Whether it has ended, however."""
        return self._told is not None or self.error is not None

    @property
    def waits(self) -> bool:
        """Whether its caller must do something before it goes on."""
        return bool(self._callbacks)

    # What happens in it

    def tell(self, event: execution_pb2.ExecutionEvent) -> None:
        """Keep an event for who wants to hear; number and time are set here.

        Pieces of text that nobody fetched in between become one. Beyond a size events are let go;
        a gap in their numbers tells.
        """
        if not self.keeps_events or self.is_done:
            return
        last = self._events[-1] if self._events else None
        if last is not None and _continues(last, event) and self._has_room(len(event.text)):
            last.text += event.text
            self._events_bytes += len(event.text)
        else:
            self._events_count += 1
            size = event.ByteSize() + _EVENT_BYTES
            if self._has_room(size):
                event.number = self._events_count
                event.time.GetCurrentTime()
                self._events.append(event)
                self._events_bytes += size
        self._wake()

    async def ask(
        self, kind: execution_pb2.CallbackKind, name: str, arguments: Mapping[str, Any], path: str
    ) -> Any:
        """Have the caller do something, and wait for what comes of it.

        Args:
            kind: `FUNCTION` or `TOOL`.
            name: Of the function or tool.
            arguments: Plain values.
            path: Who needs it.

        Raises:
            ServiceError: The caller's failure; SCRIPT_FAILED where that names no reason of ours.
                FIELD_INVALID where the arguments cannot be told.
        """
        self._callbacks_count += 1
        callback = execution_pb2.Callback(
            callback_id=f"c{self._callbacks_count}", kind=kind, name=name, path=path
        )
        fill_map(callback.arguments.fields, arguments)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._callbacks[callback.callback_id] = _Open(callback, answer)
        self._wake()
        try:
            return await answer
        finally:
            self._callbacks.pop(callback.callback_id, None)

    def end(self, *, output: Output | None = None, error: BaseException | None = None) -> None:
        """It has ended; the first end counts."""
        if not self.is_done:
            self._told, self.error = _told(output), error
            self._callbacks.clear()
            self._wake()

    # What its caller does

    def answer(self, results: Iterable[execution_pb2.CallbackResult]) -> None:
        """Take what came of callbacks; of one that was answered before nothing more is taken.

        Raises:
            ServiceError: CALLBACK_NOT_FOUND, FIELD_INVALID; then none of them is taken.
        """
        taken = [(self._open(result.callback_id), _outcome(result)) for result in results]
        for waiting, outcome in taken:
            if waiting is None or waiting.answer.done():
                continue
            if isinstance(outcome, _Failed):
                waiting.answer.set_exception(outcome.error)
            else:
                waiting.answer.set_result(outcome)

    async def news(
        self, *, wait_s: float, with_events: bool, gather_s: float = 0.0
    ) -> execution_pb2.ExecutionProgress:
        """What the caller does not know yet; after `wait_s` whatever there is.

        Callbacks are told once; where nothing else is new, all that are open are told again.

        Args:
            wait_s: How long to wait for news.
            with_events: Whether events are news.
            gather_s: How long to wait for more, where there is nothing but events.

        Raises:
            ServiceError: It has failed so.
        """
        self.keeps_events = self.keeps_events or with_events
        try:
            async with asyncio.timeout(wait_s):
                while not self._has_news(with_events=with_events):
                    await self._changed.wait()
        except TimeoutError:
            return self._progress(list(self._callbacks.values()), with_events=with_events)
        if gather_s:
            await self._gather(gather_s)
        untold = [one for one in self._callbacks.values() if not one.is_told]
        return self._progress(untold, with_events=with_events)

    async def _gather(self, seconds: float) -> None:
        """Wait for more events, unless something else is new or they are many already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._has_news(with_events=False):
                    if self._events_bytes >= EXECUTION_NEWS_BYTES:
                        return
                    await self._changed.wait()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """While somebody waits for its news."""
        self.hearers += 1
        try:
            yield
        finally:
            self.hearers -= 1

    def _progress(
        self, callbacks: list[_Open], *, with_events: bool
    ) -> execution_pb2.ExecutionProgress:
        progress = execution_pb2.ExecutionProgress(execution_id=self.execution_id)
        if with_events:
            progress.events.extend(self._take_events())
        for one in callbacks:
            one.is_told = True
            progress.callbacks.append(one.callback)
        if not (with_events and self._events):  # the end comes after all else
            self._tell_end(progress)
        return progress

    def _tell_end(self, progress: execution_pb2.ExecutionProgress) -> None:
        if self.error is not None and not progress.events:
            raise self.error
        if self._told is not None:
            progress.MergeFromString(self._told)

    def _take_events(self) -> list[execution_pb2.ExecutionEvent]:
        """The oldest events, as many as one answer takes well."""
        size = count = 0
        for event in self._events:
            size += event.ByteSize()
            if count and size > EXECUTION_NEWS_BYTES:
                break
            count += 1
        taken, self._events = self._events[:count], self._events[count:]
        self._events_bytes = sum(event.ByteSize() + _EVENT_BYTES for event in self._events)
        return taken

    def _has_news(self, *, with_events: bool) -> bool:
        if self.is_done or (with_events and self._events):
            return True
        return any(not one.is_told for one in self._callbacks.values())

    def _has_room(self, size: int) -> bool:
        return self._events_bytes + size <= EXECUTION_EVENTS_BYTES_MAX

    def _open(self, callback_id: str) -> _Open | None:
        """What waits for this answer; None: it has been answered."""
        waiting = self._callbacks.get(callback_id)
        number = callback_id.removeprefix("c")
        was_told = number.isdecimal() and 0 < int(number[:9]) <= self._callbacks_count
        if waiting is None and not was_told:
            raise ServiceError(
                Reason.CALLBACK_NOT_FOUND,
                f"The execution waits for no callback {callback_id[:100]!r}.",
                callback_id=callback_id[:100],
            )
        return waiting

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(slots=True, eq=False)
class _Open:
    """A callback that waits."""

    callback: execution_pb2.Callback
    answer: asyncio.Future[Any]
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class _Failed:
    error: ServiceError


def _told(output: Output | None) -> bytes | None:
    if output is None:
        return None
    progress = execution_pb2.ExecutionProgress(done=True)
    if isinstance(output, execution_pb2.AgentOutput):
        progress.agent.CopyFrom(output)
    else:
        progress.workflow.CopyFrom(output)
    return progress.SerializeToString()


def _continues(last: execution_pb2.ExecutionEvent, event: execution_pb2.ExecutionEvent) -> bool:
    is_text = last.WhichOneof("event") == event.WhichOneof("event") == "text"
    return is_text and last.path == event.path


def _outcome(result: execution_pb2.CallbackResult) -> Any:
    if result.WhichOneof("outcome") == "failure":
        return _Failed(error_of(result.failure))
    return to_python(result.value, "results.value")


def error_of(failure: execution_pb2.ExecutionFailure) -> ServiceError:
    """A failure as an error; SCRIPT_FAILED where it names no reason of the contract."""
    reason = reason_named(failure.reason, Reason.SCRIPT_FAILED)
    return ServiceError(reason, failure.message or "It failed.", **dict(failure.metadata))


def failure_of(error: ServiceError) -> execution_pb2.ExecutionFailure:
    """An error as a failure."""
    return execution_pb2.ExecutionFailure(
        reason=reason_name(error.reason), message=error.message, metadata=error.metadata
    )
