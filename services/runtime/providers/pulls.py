"""Models that providers fetch: that goes on when nobody waits, and whoever asks again joins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.common.errors import limit_exceeded
from services.common.limits import PROVIDER_PULLS_MAX
from services.runtime.providers.model import ChatProvider


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a model has been fetched."""

    status: str
    """As Ollama says it, such as `pulling manifest`, `success`."""
    completed_bytes: int = 0
    total_bytes: int = 0
    error: str = ""


class Pulling(ChatProvider, Protocol):
    """A provider that can fetch a model."""

    async def pull(self, model: str, tell: Callable[[Progress], None]) -> None:
        """Fetch it, and tell how far that is."""


@dataclass(slots=True)
class _Pull:
    task: asyncio.Task[None]
    latest: list[Progress]


class Pulls:
    """The models that are being fetched."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str], _Pull] = {}

    async def pull(self, provider: Pulling, model: str, *, wait_s: float) -> Progress:
        """How far a model has been fetched after waiting for at most so long.

        Raises:
            ServiceError: LIMIT_EXCEEDED; what the provider raises where it is over already.
        """
        key = (provider.name, model)
        pull = self._under_way.get(key)
        if pull is None:
            pull = self._begun(provider, model)
        await asyncio.wait({pull.task}, timeout=wait_s)
        if not pull.task.done():
            return pull.latest[0]
        if self._under_way.get(key) is pull:
            del self._under_way[key]
        pull.task.result()  # raises what it raised
        return pull.latest[0]

    async def close(self) -> None:
        """Break off what is under way."""
        tasks = [pull.task for pull in self._under_way.values()]
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begun(self, provider: Pulling, model: str) -> _Pull:
        self._forget_ended()
        if len(self._under_way) >= PROVIDER_PULLS_MAX:
            raise limit_exceeded("pulls", len(self._under_way) + 1, PROVIDER_PULLS_MAX)
        latest: list[Progress] = [Progress("begun")]

        def tell(progress: Progress) -> None:
            latest[0] = progress

        task = asyncio.create_task(provider.pull(model, tell))
        pull = self._under_way[provider.name, model] = _Pull(task, latest)
        return pull

    def _forget_ended(self) -> None:
        """Those that ended when nobody waited; what went wrong with them nobody asked for."""
        for key, pull in list(self._under_way.items()):
            if pull.task.done():
                del self._under_way[key]
                if not pull.task.cancelled():
                    pull.task.exception()
