"""What a process knows of itself: its counts, its metrics, and whether it is ready.

Live and ready are two things. A process is live from the moment it answers until it is to end:
starting it again would help nobody. It is ready while it has what its calls need: whoever spreads
calls should send it some. `grpc.health.v1` tells of the first under the empty name, of the second
under `llmspell.ready`, and of each service under its own: those that another process answers are
served only while that one is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc_health.v1 import health_pb2

from services.common.door import Door, Gate, Identify, Observer, Place
from services.common.metrics import Metrics
from services.common.pace import Pace
from services.common.telemetry import Counts
from services.common.tls import PLAINTEXT, ProcessTls

READY = "llmspell.ready"
"""The name under which `grpc.health.v1` tells whether a process is ready."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_EVERY_S = 1.0
_SOON_S = 0.1
"""Between two looks while something is missing."""
_MISSES = 2
"""A process is away when it has not answered so often: one that is busy is not."""

IsThere = Callable[[], Awaitable[bool]]
Why = Callable[[], str]
"""Why a part is not ready yet, in words; empty: it is."""


@dataclass
class Readiness:
    """Whether this process has what its calls need."""

    dependencies: Mapping[str, IsThere] = field(default_factory=dict)
    """The processes that it calls, by name, and whether they answer."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """Of services that it passes on: which of those answers."""
    parts: Sequence[Why] = ()
    """What else must be ready."""
    missing: list[str] = field(default_factory=lambda: ["it is starting"])
    """Why it is not ready, in words."""
    is_leaving: bool = False
    _misses: dict[str, int] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    def is_there(self, dependency: str) -> bool:
        """Whether a process that this one calls answers."""
        return self._misses.get(dependency, _MISSES) < _MISSES

    async def follow(self, health: Any, services: Sequence[str]) -> None:
        """Keep what health tells true, until cancelled."""
        while True:
            await self.look()
            await self.tell(health, services)
            await asyncio.sleep(_EVERY_S if self.is_ready else _SOON_S)

    async def look(self) -> None:
        """See what is missing."""
        await asyncio.gather(*(self._ask(*each) for each in self.dependencies.items()))
        missing = [why for part in self.parts if (why := part())]
        missing += [
            f"the {name} process does not answer"
            for name in self.dependencies
            if not self.is_there(name)
        ]
        if not self.is_leaving:
            self.missing = missing

    async def tell(self, health: Any, services: Sequence[str]) -> None:
        """Say it under the names of `grpc.health.v1`."""
        await health.set(READY, _SERVING if self.is_ready else _NOT_SERVING)
        for service in services:
            owner = self.owners.get(service)
            serves = not self.is_leaving and (owner is None or self.is_there(owner))
            await health.set(service, _SERVING if serves else _NOT_SERVING)

    async def leave(self, health: Any, services: Sequence[str]) -> None:
        """Say that no more calls should come; those that do are still served."""
        self.is_leaving, self.missing = True, ["it is stopping"]
        await health.set("", _NOT_SERVING)
        await self.tell(health, services)

    async def _ask(self, name: str, is_there: IsThere) -> None:
        known = self._misses.get(name, _MISSES)
        self._misses[name] = 0 if await is_there() else min(known + 1, _MISSES)


@dataclass
class Vitals:
    """Of one process."""

    name: str
    """`gateway`, `runtime`, `vector` or `state`."""
    counts: Counts = field(default_factory=Counts)
    readiness: Readiness = field(default_factory=Readiness)
    metrics: Metrics = field(init=False)
    tls: ProcessTls = PLAINTEXT
    """What its port shows, and what it shows to the processes that it calls."""
    gather: Callable[[], Awaitable[list[str]]] | None = None
    """Gives the metrics of this process and of those behind it; None: there are none."""

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.name, self.counts)
        self._tell_readiness()

    def door(
        self,
        identify: Identify,
        *,
        calls_at_once: int,
        gates: Sequence[Gate] = (),
        places: Sequence[Place] = (),
        observers: Sequence[Observer] = (),
        pace: Pace | None = None,
    ) -> Door:
        """A door whose calls are counted here."""
        return Door(
            identify,
            self.counts,
            calls_at_once=calls_at_once,
            gates=gates,
            places=places,
            observers=(self.metrics, *observers),
            pace=pace,
        )

    def _tell_readiness(self) -> None:
        readiness = self.readiness
        self.metrics.gauge("llmspell_ready", "1: ready for calls.", lambda: readiness.is_ready)
        self.metrics.gauge(
            "llmspell_dependency_up",
            "1: a process that this one calls answers.",
            lambda: {(name,): readiness.is_there(name) for name in readiness.dependencies},
            "dependency",
        )
