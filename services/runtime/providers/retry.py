"""Asks a provider again where that may help, in one place and within the time of the call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from services.common.errors import Reason, ServiceError
from services.common.limits import (
    PROVIDER_ATTEMPTS_MAX,
    PROVIDER_PAUSE_SECONDS_MAX,
    PROVIDER_PAUSE_SECONDS_MIN,
    PROVIDER_RETRY_AFTER_SECONDS_MAX,
)
from services.runtime.providers.failures import AttemptError
from services.runtime.providers.model import Hears

T = TypeVar("T")

Pauses = Callable[[float], Awaitable[None]]
"""Waits so many seconds."""


@dataclass(slots=True)
class Tries:
    """What became of a call's attempts."""

    provider: str
    timeout_s: float
    """For all of them, pauses included."""
    attempts_max: int = PROVIDER_ATTEMPTS_MAX
    pause: Pauses = asyncio.sleep
    count: int = 0
    """Attempts so far, the one under way included."""
    tokens: int = 0
    """What attempts that broke off had taken, as far as that is known."""

    async def run(self, attempt: Callable[[], Awaitable[T]], hears: Hears | None = None) -> T:
        """What an attempt gives in the end.

        Raises:
            ServiceError: That of the last attempt, or PROVIDER_TIME_LIMIT; `tokens` in its metadata
                where some were taken.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.timeout_s
        try:
            async with asyncio.timeout_at(end):
                while True:
                    self.count += 1
                    try:
                        return await attempt()
                    except AttemptError as failure:
                        pause_s, why = self._pause_s(failure, end - loop.time()), str(failure)
                    if hears is not None:
                        hears.again(why)
                    await self.pause(pause_s)
        except TimeoutError:
            raise self._told(_time_limit(self.provider, self.timeout_s)) from None

    def _pause_s(self, failure: AttemptError, left_s: float) -> float:
        """How long to wait.

        Raises:
            ServiceError: There is no use in it, or no time for it.
        """
        self.tokens += failure.tokens
        if not failure.transient or self.count >= self.attempts_max:
            raise self._told(failure.error) from None
        grown_s: float = PROVIDER_PAUSE_SECONDS_MIN * 2 ** (self.count - 1)
        # Half of it by chance, so that those who failed together do not come back together.
        pause_s = min(grown_s, PROVIDER_PAUSE_SECONDS_MAX) * random.uniform(0.5, 1.0)  # noqa: S311
        if failure.retry_after_s is not None:
            pause_s = max(failure.retry_after_s, pause_s)
        if pause_s > min(left_s, PROVIDER_RETRY_AFTER_SECONDS_MAX):
            raise self._told(failure.error) from None
        return pause_s

    def _told(self, error: ServiceError) -> ServiceError:
        error.metadata["attempts"] = str(self.count)
        if self.tokens:
            error.metadata["tokens"] = str(self.tokens)
        return error


def _time_limit(provider: str, timeout_s: float) -> ServiceError:
    text = f"The provider {provider} took longer than {timeout_s:g} s."
    return ServiceError(
        Reason.PROVIDER_TIME_LIMIT, text, provider=provider, limit=f"{timeout_s:g}", unit="s"
    )
