"""What a process says of its health; nobody who listens holds up its end."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2


class Health(health.aio.HealthServicer):  # type: ignore[misc]  # it has no types
    """`grpc.health.v1`, whose streams end when the process stops.

    Whoever watches would else be waited for until `drain_s` is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watching: set[asyncio.Task[Any]] = set()

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> None:
        """Tell each change, until the caller goes or the process stops."""
        task = asyncio.current_task()
        assert task is not None
        self._watching.add(task)
        try:
            await super().Watch(request, context)
        except asyncio.CancelledError:
            if task in self._watching:
                raise
        finally:
            self._watching.discard(task)

    def end_watches(self) -> None:
        """End every stream."""
        watching, self._watching = self._watching, set()
        for task in watching:
            task.cancel()
