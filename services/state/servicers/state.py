"""StateService: messages to values, one call of the engine, values to messages.

The tenant is the call's. Errors leave as ServiceError; the door makes a status of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.context import current_context
from services.common.errors import Reason, ServiceError
from services.common.paging import PageTokens, page_size
from services.state import rules
from services.state.items import Items
from services.state.servicers import messages
from services.state.watch import Watches

Purge = Callable[[str], Awaitable[object]]
"""Erases what a tenant has of one kind."""


class StateServicer(state_pb2_grpc.StateServiceServicer):
    """Answers from one engine."""

    def __init__(
        self,
        items: Items,
        watches: Watches,
        page_tokens: PageTokens,
        *,
        purges: Sequence[Purge] = (),
        destroy_keys: Purge | None = None,
    ) -> None:
        """`purges`: erase what a tenant has beside items, before those; its keys come last."""
        self._purges = purges
        self._destroy_keys = destroy_keys
        self._items = items
        self._watches = watches
        self._page_tokens = page_tokens

    async def GetState(  # noqa: N802  (the contract's name)
        self, request: state_pb2.GetStateRequest, context: object
    ) -> state_pb2.GetStateResponse:
        """One item.

        Raises:
            ServiceError: ITEM_NOT_FOUND.
        """
        del context
        scope = messages.read_scope(request.scope)
        found = await self._items.get(_tenant(), scope, request.key)
        if found.item is None:
            raise ServiceError(
                Reason.ITEM_NOT_FOUND,
                f"There is no item {request.key!r} in scope {scope}.",
                key=request.key,
                scope=scope,
            )
        return state_pb2.GetStateResponse(
            item=messages.write_item(found.item), revision=found.revision
        )

    async def SetState(  # noqa: N802
        self, request: state_pb2.SetStateRequest, context: object
    ) -> state_pb2.SetStateResponse:
        """Write one item."""
        del context
        changed = await self._items.set(
            _tenant(),
            messages.read_scope(request.scope),
            request.key,
            messages.read_value(request.value),
            ttl_ns=messages.read_ttl(request),
            precondition=messages.read_precondition(request),
        )
        return state_pb2.SetStateResponse(revision=changed.revision)

    async def DeleteState(  # noqa: N802
        self, request: state_pb2.DeleteStateRequest, context: object
    ) -> state_pb2.DeleteStateResponse:
        """Remove one item."""
        del context
        changed = await self._items.delete(
            _tenant(),
            messages.read_scope(request.scope),
            request.key,
            precondition=messages.read_precondition(request),
        )
        return state_pb2.DeleteStateResponse(
            deleted_count=changed.deleted_count, revision=changed.revision
        )

    async def IncrementState(  # noqa: N802
        self, request: state_pb2.IncrementStateRequest, context: object
    ) -> state_pb2.IncrementStateResponse:
        """Add to a number."""
        del context
        counted = await self._items.increment(
            _tenant(),
            messages.read_scope(request.scope),
            request.key,
            messages.read_delta(request),
        )
        answer = state_pb2.IncrementStateResponse(revision=counted.revision)
        if isinstance(counted.number, int):
            answer.int_value = counted.number
        else:
            answer.double_value = counted.number
        return answer

    async def ListState(  # noqa: N802
        self, request: state_pb2.ListStateRequest, context: object
    ) -> state_pb2.ListStateResponse:
        """A page of items."""
        del context
        tenant, scope = _tenant(), messages.read_scope(request.scope)
        limit = page_size(request.page_size)
        rules.check_prefix(request.prefix)
        bound_to = f"ListState\0{tenant}\0{scope}\0{request.prefix}"
        after = ""
        if request.page_token:
            after = self._page_tokens.open(request.page_token, bound_to).decode()
        page = await self._items.list(
            tenant,
            scope,
            limit=limit,
            prefix=request.prefix,
            after=after,
            keys_only=request.keys_only,
        )
        answer = state_pb2.ListStateResponse(
            items=map(messages.write_item, page.items), revision=page.revision
        )
        if page.after is not None:
            answer.next_page_token = self._page_tokens.seal(bound_to, page.after.encode())
        return answer

    async def BatchState(  # noqa: N802
        self, request: state_pb2.BatchStateRequest, context: object
    ) -> state_pb2.BatchStateResponse:
        """Checks and writes, all or nothing."""
        del context
        rules.check_batch_length(len(request.checks) + len(request.writes))
        changed = await self._items.batch(
            _tenant(),
            [messages.read_check(check, number) for number, check in enumerate(request.checks)],
            [messages.read_write(write, number) for number, write in enumerate(request.writes)],
        )
        return state_pb2.BatchStateResponse(
            revision=changed.revision, deleted_count=changed.deleted_count
        )

    async def WatchState(  # noqa: N802
        self, request: state_pb2.WatchStateRequest, context: object
    ) -> AsyncGenerator[state_pb2.WatchStateResponse, None]:
        """Changes as they happen."""
        del context
        watch = self._watches.follow(
            _tenant(),
            messages.read_selection(request),
            caller=current_context().principal,
            after=request.after_revision if request.HasField("after_revision") else None,
        )
        async with aclosing(watch):
            async for advance in watch:
                yield messages.write_advance(advance)

    async def PurgeState(  # noqa: N802
        self, request: state_pb2.PurgeStateRequest, context: object
    ) -> state_pb2.PurgeStateResponse:
        """Erase what the tenant has."""
        del request, context
        for purge in self._purges:
            await purge(_tenant())
        changed = await self._items.purge(_tenant())
        if self._destroy_keys is not None:
            await self._destroy_keys(_tenant())
        return state_pb2.PurgeStateResponse(
            deleted_count=changed.deleted_count, revision=changed.revision
        )


def _tenant() -> str:
    """The call's tenant; the door has refused a call that has none."""
    return current_context().tenant
