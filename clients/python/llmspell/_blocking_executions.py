"""Executions of the blocking client: it stays with one to its end, and does its part of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from llmspell import _executions
from llmspell import types as t
from llmspell._blocking import BlockingCaller
from llmspell._contract import Call
from llmspell._executions import Functions, Progress
from llmspell.errors import LLMSpellError, NotFound, Unavailable
from llmspell.v1 import execution_pb2

T = TypeVar("T")

_Result = execution_pb2.CallbackResult


class ExecutionCalls(BlockingCaller):
    """What agents and workflows have in common."""

    def cancel_execution(self, execution_id: str) -> bool:
        """End an execution of an agent or workflow that this key began; whether it went on."""
        return self._unary(_executions.cancel(execution_id))

    def _ended(
        self,
        progress: Progress[T],
        functions: Functions,
        read: Callable[[execution_pb2.ExecutionProgress], Progress[T]],
        on_event: Callable[[t.ExecutionEvent], object] | None,
        *,
        again: Call[Progress[T]] | None = None,
    ) -> T:
        """What comes of an execution; `again` finds one that was lost with its process."""
        with_events = on_event is not None
        followed = self._followed(progress, functions, read, with_events=with_events, again=again)
        for news in followed:
            _executions.tell(news.events, on_event)
            progress = news
        assert progress.output is not None
        return progress.output

    def _followed(
        self,
        progress: Progress[T],
        functions: Functions,
        read: Callable[[execution_pb2.ExecutionProgress], Progress[T]],
        *,
        with_events: bool,
        again: Call[Progress[T]] | None = None,
    ) -> Generator[Progress[T], None, None]:
        """All news from these on; leaving it early ends the execution."""
        try:
            while True:
                yield progress
                if progress.output is not None:
                    return
                results = _performed(progress.callbacks, functions)
                call = _executions.go_on(
                    progress.execution_id, results, read, with_events=with_events
                )
                progress = self._next(call, again)
        finally:
            if progress.output is None:
                with suppress(LLMSpellError):  # what went wrong before is what counts
                    self._unary(_executions.cancel(progress.execution_id))

    def _begun(self, first: Call[Progress[T]]) -> Progress[T]:
        """The first news, from a process that is started again where it goes away meanwhile."""
        try:
            return self._unary(first)
        except Unavailable as error:
            if not _executions.may_come_back(error):
                raise
        return self._once_more(first)

    def _next(self, call: Call[Progress[T]], again: Call[Progress[T]] | None) -> Progress[T]:
        try:
            return self._unary(call)
        except (NotFound, Unavailable) as error:
            if again is None or not _executions.is_lost(error):
                raise
        return self._once_more(again)

    def _once_more(self, first: Call[Progress[T]]) -> Progress[T]:
        """Begins what was begun before, which its request id finds."""
        for pause_s in _executions.PAUSES_S:
            try:
                return self._unary(first)
            except Unavailable:
                time.sleep(pause_s)
        return self._unary(first)


def _performed(callbacks: list[t.ExecutionCallback], functions: Functions) -> list[_Result]:
    """Several run in threads, for one may wait for another."""
    if len(callbacks) <= 1:
        return [_perform(callback, functions) for callback in callbacks]
    with ThreadPoolExecutor(max_workers=len(callbacks)) as pool:
        return list(pool.map(lambda callback: _perform(callback, functions), callbacks))


def _perform(callback: t.ExecutionCallback, functions: Functions) -> _Result:
    try:
        value: Any = functions.call(callback)
    except Exception as error:  # noqa: BLE001  (whatever a function raises is its failure)
        return _executions.failed(callback, error)
    return _executions.succeeded(callback, value)
