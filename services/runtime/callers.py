"""For whom a servicer begins an execution: whose it will be, and through what its calls go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.common.context import CallContext, current_context
from services.common.errors import field_invalid, limit_exceeded
from services.common.limits import (
    DEADLINE_SECONDS_MAX,
    EXECUTION_WAIT_SECONDS_MAX,
    REQUEST_ID_BYTES_MAX,
)
from services.common.relay import remaining_s
from services.runtime.execution import Caller, Owner
from services.runtime.handling import Handling, RunPlace, current_run

CheckSession = Callable[[str], Awaitable[None]]
"""Refuses a session that is not there or has ended."""
_MARGIN_S = 1.0
"""How long before a call's deadline it is answered."""
_SCRIPT_WAIT_S = DEADLINE_SECONDS_MAX - 10


class Callers:
    """Makes the callers of executions."""

    def __init__(self, handling: Handling, check_session: CheckSession) -> None:
        self._handling = handling
        self._check_session = check_session

    def owner(self) -> Owner:
        """Whose an execution is that the call begins which is being served."""
        context, run = current_context(), current_run()
        return Owner(context.tenant, context.principal, run.run_id if run else "")

    async def check(self, session_id: str) -> None:
        """Refuse a session that is not there, that the caller may not see, or that has ended.

        The current session of a script was looked at when its run began.
        """
        run = current_run()
        if session_id and not (run is not None and run.session_id == session_id):
            await self._check_session(session_id)

    @asynccontextmanager
    async def caller(
        self, *, session_id: str = "", executes_tools: bool = False
    ) -> AsyncIterator[Caller]:
        """The caller of the call that is being served, for as long as its execution goes on."""
        context, run = current_context(), current_run()
        if run is not None and _is_of(run, context):
            yield Caller(
                context, session_id, run.run_id, run.calls, executes_tools, purses=run.purses
            )
            return
        async with self._handling.beside_runs(context, session_id, is_long=True) as hooked:
            yield Caller(context, session_id, "", hooked, executes_tools)


def _is_of(run: RunPlace, context: CallContext) -> bool:
    """Whether calls of the run are calls of this tenant: a script may act for another."""
    return run.tenant == context.tenant


def check_request_id(request_id: str) -> None:
    """Refuse an id that is longer than those that are remembered.

    Raises:
        ServiceError: LIMIT_EXCEEDED.
    """
    if (size := len(request_id.encode())) > REQUEST_ID_BYTES_MAX:
        raise limit_exceeded("request_id", size, REQUEST_ID_BYTES_MAX, "bytes")


def wait_of(asked: Duration | None, servicer_context: Any) -> float:
    """How long a call waits for news, in seconds: as asked, and until shortly before its deadline.

    Args:
        asked: None: it does not say.
        servicer_context: Of the call; None where a script makes it, whose run ends it in time.

    Raises:
        ServiceError: FIELD_INVALID where it is negative.
    """
    remaining = remaining_s(servicer_context) if servicer_context is not None else None
    most_s = _SCRIPT_WAIT_S if remaining is None else max(remaining - _MARGIN_S, remaining / 2)
    if asked is None:
        return most_s
    wait_s = asked.ToMicroseconds() / 1e6
    if wait_s < 0:
        raise field_invalid("wait", "must not be negative")
    return min(wait_s, most_s)


def wait_for_news(asked: Duration | None, servicer_context: Any) -> float:
    """As `wait_of`, and at most a minute."""
    return min(wait_of(asked, servicer_context), EXECUTION_WAIT_SECONDS_MAX)
