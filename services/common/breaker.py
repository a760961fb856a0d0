"""Whether a process that is called still answers: a circuit breaker.

A process that was killed refuses connections, and calls fail at once. One that hangs, or is behind
a network that swallows what is sent, does neither: each call waits until its deadline, takes room
from those that go elsewhere, and learns nothing. So calls that ended unanswered are counted. After
some in a row the process is asked for its health, over a new connection; where that is not answered
either, the breaker opens: calls are refused at once, and the process is asked again until it does.

A deadline that was merely short opens nothing: any answer, be it an error, begins the count anew,
and a process that tells its health is not refused however many calls it lets wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from services.common.errors import Reason, ServiceError
from services.common.limits import BREAKER_PROBE_SECONDS, BREAKER_UNANSWERED_MAX

log = logging.getLogger(__name__)


class Breaker:
    """Of one process."""

    def __init__(self, name: str, probe: Callable[[], Awaitable[bool]]) -> None:
        """`probe`: asks whether the process answers; takes a second at most."""
        self._name = name
        self._probe = probe
        self._unanswered = 0
        self._looking: asyncio.Task[None] | None = None
        self.is_open = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around a call.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE at once while it is open.
        """
        self.check()
        try:
            yield
        except ServiceError as error:
            self._note(answered=error.is_passed_on or error.reason != Reason.DEADLINE_EXCEEDED)
            raise
        except asyncio.CancelledError:  # its caller's own clock was the first to end it
            self._note(answered=False)
            raise
        else:
            self._unanswered = 0

    def check(self) -> None:
        """Before a call whose end tells nothing, such as a stream.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE at once while it is open.
        """
        if self.is_open:
            raise ServiceError(
                Reason.SERVICE_UNAVAILABLE,
                f"The {self._name} process does not answer; try again shortly.",
                service=self._name,
            )

    async def close(self) -> None:
        """Ask no more."""
        if self._looking is not None:
            self._looking.cancel()

    def _note(self, *, answered: bool) -> None:
        self._unanswered = 0 if answered else self._unanswered + 1
        if self._unanswered >= BREAKER_UNANSWERED_MAX and not self._is_looking():
            self._looking = asyncio.create_task(self._look())

    def _is_looking(self) -> bool:
        return self._looking is not None and not self._looking.done()

    async def _look(self) -> None:
        """Open where the process does not answer, until it does."""
        if not await self._probe():
            self.is_open = True
            log.error("a process does not answer", extra={"service": self._name})
            while not await self._probe():  # noqa: ASYNC110  (nobody else tells)
                await asyncio.sleep(BREAKER_PROBE_SECONDS)
            log.info("a process answers again", extra={"service": self._name})
        self.is_open, self._unanswered = False, 0
