"""StateService: messages to values, one call of the engine, values to messages.

The tenant is the call's. Errors leave as ServiceError; the door makes a status of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.context import current_context, current_tenant
from services.common.erasure import erasure_messages
from services.common.paging import PageTokens, page_size
from services.state import rules
from services.state.erasing import Eraser
from services.state.erasing import Parts as ErasedParts
from services.state.items import Items
from services.state.requests import Requests
from services.state.servicers import messages
from services.state.step import Keeper
from services.state.transfers import Transfers, item_not_found
from services.state.watch import Watches


@dataclass(frozen=True, slots=True)
class StateParts:
    """What answers calls about items."""

    keeper: Keeper
    items: Items
    transfers: Transfers
    requests: Requests
    watches: Watches

    @classmethod
    def over(cls, keeper: Keeper) -> StateParts:
        """All of them over one keeper."""
        requests, watches = Requests(keeper), Watches(keeper)
        return cls(keeper, Items(keeper), Transfers(keeper), requests, watches)

    def eraser(self, parts: ErasedParts | None = None) -> Eraser:
        """What erases a tenant; `parts`: what it has beside items."""
        items, requests = self.items.purge, self.requests.purge
        return Eraser(self.keeper, items=items, requests=requests, parts=parts)


class StateServicer(state_pb2_grpc.StateServiceServicer):
    """Answers from one engine."""

    def __init__(
        self,
        parts: StateParts,
        page_tokens: PageTokens,
        eraser: Eraser | None = None,
    ) -> None:
        """`eraser`: knows what else a tenant has; None: there are items only."""
        self._eraser = eraser or parts.eraser()
        self._items = parts.items
        self._transfers = parts.transfers
        self._requests = parts.requests
        self._watches = parts.watches
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
        found = await self._items.get(current_tenant(), scope, request.key)
        if found.item is None:
            raise item_not_found(request.key, scope)
        return state_pb2.GetStateResponse(
            item=messages.write_item(found.item), revision=found.revision
        )

    async def SetState(  # noqa: N802
        self, request: state_pb2.SetStateRequest, context: object
    ) -> state_pb2.SetStateResponse:
        """Write one item."""
        del context
        changed = await self._items.set(
            current_tenant(),
            messages.read_scope(request.scope),
            request.key,
            messages.read_value(request.value),
            ttl_ns=messages.read_ttl(request),
            precondition=messages.read_precondition(request),
            once=messages.read_once(request),
        )
        return state_pb2.SetStateResponse(revision=changed.revision)

    async def DeleteState(  # noqa: N802
        self, request: state_pb2.DeleteStateRequest, context: object
    ) -> state_pb2.DeleteStateResponse:
        """Remove one item."""
        del context
        changed = await self._items.delete(
            current_tenant(),
            messages.read_scope(request.scope),
            request.key,
            precondition=messages.read_precondition(request),
            once=messages.read_once(request),
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
            current_tenant(),
            messages.read_scope(request.scope),
            request.key,
            messages.read_delta(request),
            precondition=messages.read_precondition(request),
            once=messages.read_once(request),
        )
        return messages.write_counted(counted)

    async def ListState(  # noqa: N802
        self, request: state_pb2.ListStateRequest, context: object
    ) -> state_pb2.ListStateResponse:
        """A page of items."""
        del context
        tenant, scope = current_tenant(), messages.read_scope(request.scope)
        limit = page_size(request.page_size)
        rules.normal_prefix(request.prefix)
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
            current_tenant(),
            [messages.read_check(check, number) for number, check in enumerate(request.checks)],
            [messages.read_write(write, number) for number, write in enumerate(request.writes)],
            once=messages.read_once(request),
        )
        return messages.write_batch(changed)

    async def ResolveState(  # noqa: N802
        self, request: state_pb2.ResolveStateRequest, context: object
    ) -> state_pb2.ResolveStateResponse:
        """One item from the nearest scope that has it.

        Raises:
            ServiceError: ITEM_NOT_FOUND.
        """
        del context
        scopes = messages.read_hierarchy(request)
        found = await self._items.resolve(current_tenant(), scopes, request.key)
        if found.item is None:
            raise item_not_found(request.key, ", ".join(scopes))
        return state_pb2.ResolveStateResponse(
            item=messages.write_item(found.item), scope=found.scope, revision=found.revision
        )

    async def CopyState(  # noqa: N802
        self, request: state_pb2.CopyStateRequest, context: object
    ) -> state_pb2.CopyStateResponse:
        """Copy one item."""
        del context
        changed = await self._transfers.copy(
            current_tenant(),
            messages.read_source(request),
            messages.read_target(request),
            precondition=messages.read_precondition(request),
            once=messages.read_once(request),
        )
        return state_pb2.CopyStateResponse(revision=changed.revision)

    async def CopyStateScope(  # noqa: N802
        self, request: state_pb2.CopyStateScopeRequest, context: object
    ) -> state_pb2.CopyStateScopeResponse:
        """Copy a scope's items."""
        del context
        done = await self._transfers.copy_scope(
            current_tenant(),
            messages.read_scope(request.source_scope),
            messages.read_scope(request.scope),
            prefix=request.prefix,
            precondition=messages.read_precondition(request),
            once=messages.read_once(request),
        )
        return state_pb2.CopyStateScopeResponse(copied_count=done.count, revision=done.revision)

    async def MoveState(  # noqa: N802
        self, request: state_pb2.MoveStateRequest, context: object
    ) -> state_pb2.MoveStateResponse:
        """Move one item."""
        del context
        changed = await self._transfers.copy(
            current_tenant(),
            messages.read_source(request),
            messages.read_target(request),
            move=True,
            precondition=messages.read_precondition(request),
            once=messages.read_once(request),
        )
        return state_pb2.MoveStateResponse(revision=changed.revision)

    async def MoveStateScope(  # noqa: N802
        self, request: state_pb2.MoveStateScopeRequest, context: object
    ) -> state_pb2.MoveStateScopeResponse:
        """Move a scope's items."""
        del context
        done = await self._transfers.copy_scope(
            current_tenant(),
            messages.read_scope(request.source_scope),
            messages.read_scope(request.scope),
            prefix=request.prefix,
            move=True,
            precondition=messages.read_precondition(request),
            once=messages.read_once(request),
        )
        return state_pb2.MoveStateScopeResponse(moved_count=done.count, revision=done.revision)

    async def ClearState(  # noqa: N802
        self, request: state_pb2.ClearStateRequest, context: object
    ) -> state_pb2.ClearStateResponse:
        """Remove a scope's items."""
        del context
        done = await self._transfers.clear(
            current_tenant(),
            messages.read_scope(request.scope),
            prefix=request.prefix,
            in_parts=request.in_parts,
            once=messages.read_once(request),
        )
        return state_pb2.ClearStateResponse(
            deleted_count=done.count, revision=done.revision, more=done.more
        )

    async def WatchState(  # noqa: N802
        self, request: state_pb2.WatchStateRequest, context: object
    ) -> AsyncGenerator[state_pb2.WatchStateResponse, None]:
        """Changes as they happen."""
        del context
        watch = self._watches.follow(
            current_tenant(),
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
        del context
        changed, erased = await self._eraser.erase(current_tenant(), rewrite=request.rewrite)
        return state_pb2.PurgeStateResponse(
            deleted_count=changed.deleted_count,
            revision=changed.revision,
            erasures=erasure_messages(erased),
        )
