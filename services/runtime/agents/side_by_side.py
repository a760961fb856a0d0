"""Several things at the same time, so many at once; the first failure ends the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def side_by_side(makes: Sequence[Callable[[], Awaitable[T]]], *, most: int) -> list[T]:
    """What each gives, in order.

    Raises:
        Exception: what the first that fails raises; the others are cancelled by then.
    """
    if len(makes) == 1:
        return [await makes[0]()]
    turns = asyncio.Semaphore(most)

    async def one(make: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await make()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(make)) for make in makes]
    except ExceptionGroup as failed:
        raise _first(failed) from None
    return [task.result() for task in tasks]


def _first(failed: BaseException) -> BaseException:
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    return failed
