"""Publishes events of operations through the state process, as the runtime itself."""

from __future__ import annotations

from collections.abc import Sequence

from llmspell.v1 import event_pb2

from services.common.access import METHODS
from services.common.context import CallContext
from services.common.relay import Relay
from services.common.standing import LooksUp
from services.runtime.hooks.announcing import OperationEvent

SOURCE = "runtime"
_PUBLISH = METHODS["/llmspell.v1.EventService/PublishEvents"]
_TIMEOUT_S = 5.0


class Publisher:
    """Publishes to the tenants that there are; what concerns one that is gone is gone too."""

    def __init__(self, relay: Relay, tenants: LooksUp) -> None:
        self._relay = relay
        self._tenants = tenants

    async def __call__(self, tenant: str, events: Sequence[OperationEvent]) -> None:
        """Publish events of one tenant.

        Raises:
            ServiceError: what the state process answered.
        """
        if await self._tenants.get(tenant) is None:
            return
        request = event_pb2.PublishEventsRequest(
            events=[
                event_pb2.NewEvent(
                    type=event.type,
                    json=event.data,
                    correlation_id=event.correlation_id,
                    source=SOURCE,
                )
                for event in events
            ]
        )
        context = CallContext(
            tenant=tenant,
            principal=SOURCE,
            permissions=(_PUBLISH.permission,),
            request_id=events[0].correlation_id,
        )
        await self._relay.call(_PUBLISH, request.SerializeToString(), context, timeout_s=_TIMEOUT_S)
