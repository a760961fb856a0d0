"""Executions of the asyncio client; `_blocking_executions` says more."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from llmspell import _executions
from llmspell import types as t
from llmspell._awaiting import AsyncCaller
from llmspell._contract import Call
from llmspell._executions import Functions, Progress
from llmspell.errors import LLMSpellError, NotFound, Unavailable
from llmspell.v1 import execution_pb2

T = TypeVar("T")


class AsyncExecutionCalls(AsyncCaller):
    """What agents and workflows have in common."""

    async def cancel_execution(self, execution_id: str) -> bool:
        """End an execution of an agent or workflow that this key began; whether it went on."""
        return await self._unary(_executions.cancel(execution_id))

    async def _ended(
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
        following = self._followed(progress, functions, read, with_events=with_events, again=again)
        async with aclosing(following) as all_news:
            async for news in all_news:
                _executions.tell(news.events, on_event)
                progress = news
        assert progress.output is not None
        return progress.output

    async def _followed(
        self,
        progress: Progress[T],
        functions: Functions,
        read: Callable[[execution_pb2.ExecutionProgress], Progress[T]],
        *,
        with_events: bool,
        again: Call[Progress[T]] | None = None,
    ) -> AsyncGenerator[Progress[T], None]:
        """All news from these on; leaving it early ends the execution."""
        try:
            while True:
                yield progress
                if progress.output is not None:
                    return
                results = await asyncio.gather(
                    *(_perform(callback, functions) for callback in progress.callbacks)
                )
                call = _executions.go_on(
                    progress.execution_id, results, read, with_events=with_events
                )
                progress = await self._next(call, again)
        finally:
            if progress.output is None:
                with suppress(LLMSpellError):  # what went wrong before is what counts
                    await self._unary(_executions.cancel(progress.execution_id))

    async def _begun(self, first: Call[Progress[T]]) -> Progress[T]:
        """The first news, from a process that is started again where it goes away meanwhile."""
        try:
            return await self._unary(first)
        except Unavailable as error:
            if not _executions.may_come_back(error):
                raise
        return await self._once_more(first)

    async def _next(self, call: Call[Progress[T]], again: Call[Progress[T]] | None) -> Progress[T]:
        try:
            return await self._unary(call)
        except (NotFound, Unavailable) as error:
            if again is None or not _executions.is_lost(error):
                raise
        return await self._once_more(again)

    async def _once_more(self, first: Call[Progress[T]]) -> Progress[T]:
        """Begins what was begun before, which its request id finds."""
        for pause_s in _executions.PAUSES_S:
            try:
                return await self._unary(first)
            except Unavailable:
                await asyncio.sleep(pause_s)
        return await self._unary(first)


async def _perform(
    callback: t.ExecutionCallback, functions: Functions
) -> execution_pb2.CallbackResult:
    try:
        value = functions.call(callback)
        if inspect.isawaitable(value):
            value = await value
    except Exception as error:  # noqa: BLE001  (whatever a function raises is its failure)
        return _executions.failed(callback, error)
    return _executions.succeeded(callback, value)
