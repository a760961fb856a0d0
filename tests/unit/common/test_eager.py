"""A task that begins at once is otherwise a task."""

import asyncio

import pytest

from services.common.eager import begin


async def test_it_begins_before_the_loop_turns():
    """What it does before it first waits is done when `begin` returns; the rest comes later."""
    done = []

    async def work():
        done.append("begun")
        await asyncio.sleep(0)
        done.append("ended")

    task = begin(work())
    assert done == ["begun"]
    await task
    assert done == ["begun", "ended"]


async def test_what_waits_for_nothing_is_no_task():
    """It is over."""

    async def work():
        pass

    assert begin(work()) is None


async def test_a_future_that_is_done_meanwhile_is_not_missed():
    """It was waited for before there was a task, and ended before the loop's turn."""
    future = asyncio.get_running_loop().create_future()
    seen = []

    async def work():
        seen.append(await future)
        seen.append(await asyncio.sleep(0, "later"))

    task = begin(work())
    future.set_result("value")
    await task
    assert seen == ["value", "later"]


async def test_its_error_is_the_tasks():
    """Raised where the task is awaited; one before the first wait is raised at once."""

    async def later():
        await asyncio.sleep(0)
        raise ValueError("later")

    async def now():
        raise ValueError("now")

    with pytest.raises(ValueError, match="later"):
        await begin(later())
    with pytest.raises(ValueError, match="now"):
        begin(now())


async def test_it_can_be_cancelled():
    """The coroutine sees it where it waits, and may clean up in the same way."""
    cleaned = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    task = begin(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]
