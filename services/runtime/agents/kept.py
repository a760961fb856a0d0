"""Items that agents keep in the state service, as their caller's tenant.

Whoever may execute agents need not have the permissions of state: these keys are the runtime's own
business. What it keeps is of the caller's tenant and nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message
from llmspell.v1 import state_pb2

from services.common.access import METHODS, Method
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import DEADLINE_SECONDS_DEFAULT
from services.common.standing import LooksUp
from services.common.tenants import tenant_not_found

_ATTEMPTS = 8
_PERMISSIONS = ("state.read", "state.write")

M = TypeVar("M", bound=Message)


class Asks(Protocol):
    """Passes a call on to the process that owns it; `common.relay.Relay` does."""

    async def call(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> bytes:
        """One unary call."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is."""

    scope: str
    key: str


class KeptItems:
    """Messages as items."""

    def __init__(self, relay: Asks, tenants: LooksUp) -> None:
        """`tenants`: which there are; nothing is written for one that has gone meanwhile."""
        self._relay = relay
        self._tenants = tenants

    async def read(self, context: CallContext, place: Place, kind: type[M]) -> tuple[M | None, int]:
        """An item and its revision; None and 0 where there is none.

        Raises:
            ServiceError: RECORD_CORRUPT where somebody has put something else there.
        """
        request = state_pb2.GetStateRequest(scope=place.scope, key=place.key)
        try:
            answer = await self._call("GetState", request, context)
        except ServiceError as error:
            if error.reason == Reason.ITEM_NOT_FOUND:
                return None, 0
            raise
        item = state_pb2.GetStateResponse.FromString(answer).item
        return _message(item, kind, place.scope), item.revision

    async def write(
        self,
        context: CallContext,
        place: Place,
        message: Message,
        *,
        revision: int,
        ttl_s: int = 0,
    ) -> None:
        """Put an item where it has this revision still; 0: where there is none.

        Args:
            context: Whose item.
            place: Where it is.
            message: The item.
            revision: What is there.
            ttl_s: Seconds that it is kept; 0: until it is removed.

        Raises:
            ServiceError: REVISION_MISMATCH, TENANT_NOT_FOUND.
        """
        if await self._tenants.get(context.tenant) is None:
            raise tenant_not_found(context.tenant)
        request = state_pb2.SetStateRequest(scope=place.scope, key=place.key)
        request.value.raw = message.SerializeToString(deterministic=True)
        if ttl_s:
            request.ttl.FromSeconds(ttl_s)
        if revision:
            request.precondition.revision = revision
        else:
            request.precondition.absent = True
        await self._call("SetState", request, context)

    async def change(
        self,
        context: CallContext,
        place: Place,
        kind: type[M],
        change: Callable[[M | None], M | None],
        *,
        ttl_s: int = 0,
    ) -> M | None:
        """Put what `change` makes of an item, anew where somebody else was quicker.

        Args:
            context: Whose item.
            place: Where it is.
            kind: What it is.
            change: Gives the new one, or None to leave it; may be asked more than once.
            ttl_s: Seconds that it is kept from then on; 0: until it is removed.
        """
        for attempt in range(_ATTEMPTS):
            known, revision = await self.read(context, place, kind)
            changed = change(known)
            if changed is None:
                return known
            try:
                await self.write(context, place, changed, revision=revision, ttl_s=ttl_s)
            except ServiceError as error:
                if error.reason != Reason.REVISION_MISMATCH or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return changed
        raise AssertionError

    async def delete(self, context: CallContext, place: Place) -> bool:
        """Remove an item; whether it was there."""
        request = state_pb2.DeleteStateRequest(scope=place.scope, key=place.key)
        answer = await self._call("DeleteState", request, context)
        return state_pb2.DeleteStateResponse.FromString(answer).deleted_count > 0

    async def clear(self, context: CallContext, scope: str, prefix: str) -> None:
        """Remove all items of a scope whose keys begin so."""
        request = state_pb2.ClearStateRequest(scope=scope, prefix=prefix, in_parts=True)
        more = True
        while more:
            answer = await self._call("ClearState", request, context)
            more = state_pb2.ClearStateResponse.FromString(answer).more

    async def page(
        self, context: CallContext, scope: str, kind: type[M], *, size: int, token: str
    ) -> tuple[Sequence[M], str]:
        """Items of a scope in order of their keys, and where the next page begins."""
        request = state_pb2.ListStateRequest(scope=scope, page_size=size, page_token=token)
        answer = state_pb2.ListStateResponse.FromString(
            await self._call("ListState", request, context)
        )
        found = [_message(item, kind, scope) for item in answer.items]
        return found, answer.next_page_token

    async def _call(self, name: str, request: Message, context: CallContext) -> bytes:
        method = METHODS[f"/llmspell.v1.StateService/{name}"]
        acting = context.housekeeping(*_PERMISSIONS)
        return await self._relay.call(
            method, request.SerializeToString(), acting, timeout_s=DEADLINE_SECONDS_DEFAULT
        )


def _message(item: Any, kind: type[M], scope: str) -> M:
    try:
        if item.value.WhichOneof("encoding") == "raw":
            return kind.FromString(item.value.raw)
    except DecodeError:
        pass
    raise ServiceError(
        Reason.RECORD_CORRUPT,
        f"The item {item.key} of {scope} is not what agents keep there; delete it.",
        scope=scope,
        key=item.key,
    )
