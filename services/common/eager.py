"""A task that begins at once: `asyncio.create_task` waits for the loop's next turn.

Python 3.12 has eager tasks of its own. A turn of the loop is short, and for a call that is alone
there are several of them in a row.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any


def begin(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run it until it first waits, and the rest as a task; None where there is no rest.

    What it does until then may not depend on the task that it runs in, such as a timeout.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None

    async def rest() -> None:
        await _resumed(coroutine, waits_for)

    return asyncio.create_task(rest())


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        step: Callable[[], Any]
        try:
            value = yield waits_for
        except BaseException as error:  # noqa: BLE001  (a cancellation too is the coroutine's)
            step = partial(coroutine.throw, error)
        else:
            step = partial(coroutine.send, value)
        try:
            waits_for = step()
        except StopIteration:
            return
