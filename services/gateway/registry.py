"""Tenants and their keys, kept as items of a system tenant in state.

The gateway has no store of its own, so any number of gateways may run. What is looked up for each
call is remembered for a second: a key that is revoked anywhere ends everywhere within that time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from llmspell.v1 import state_pb2

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.freshness import Freshness
from services.common.relay import Relay
from services.common.scopes import GRANTS_SCOPE, KEY_USES_SCOPE, KEYS_SCOPE, TENANTS_SCOPE
from services.common.tenants import (
    Remembered,
    SystemItems,
    TenantRecord,
    Tenants,
    tenant_not_found,
)

CLAIM_S = 30.0
"""How long whoever makes a tenant has the id to itself; by then it has finished or died."""

_CHANGE_TRIES = 8
_KEYS_OF_TENANT = "custom:tenant-keys"

M = TypeVar("M")


class KeyRecord(msgspec.Struct, frozen=True):
    """A key as it is kept: never the secret."""

    key_id: str
    tenant_id: str
    digest: str
    """What `Digests.of` made of the whole key."""
    roles: tuple[str, ...]
    display_name: str
    create_ns: int
    row_filter: bytes = b""
    """A serialised Filter of the contract; empty: every record of its tenant."""
    scopes: tuple[str, ...] = ()
    """Permissions that it is narrowed to; empty: all that its roles give."""
    expires_ns: int = 0
    """Nanoseconds since the epoch from which it is refused; 0: never."""
    previous_digest: str = ""
    """Of the secret before, while both are taken."""
    previous_expires_ns: int = 0
    """Until when, likewise."""

    def has_ended(self, now_ns: int) -> bool:
        """Whether it is past its end. Asked at each call: what is remembered does not matter."""
        return 0 < self.expires_ns <= now_ns

    def digests(self, now_ns: int) -> tuple[str, ...]:
        """What was kept of the secrets that it is taken with now."""
        if self.previous_digest and now_ns < self.previous_expires_ns:
            return (self.digest, self.previous_digest)
        return (self.digest,)


@dataclass(frozen=True, slots=True)
class Claim:
    """An id that is held while its tenant is made."""

    record: TenantRecord
    revision: int
    """Of the item that holds it; another one means that it was lost."""


class Registry:
    """Reads and writes tenants and keys through the state process."""

    def __init__(self, relay: Relay, clock: Clock, *, freshness: Freshness | None = None) -> None:
        """`freshness`: tells of changes; None: all is read again after a second."""
        self._items = SystemItems(relay, principal="gateway")
        self._clock = clock
        self._tenants = Tenants(self._items, clock, freshness=freshness)
        covers = freshness.covers if freshness else lambda *_: False
        self._keys = Remembered[KeyRecord](clock, covers=covers)
        if freshness is not None:
            freshness.tell(KEYS_SCOPE, self._keys.forget)

    async def get(self, tenant_id: str) -> TenantRecord | None:
        """As `tenant`: what asks for no more than that takes any look-up."""
        return await self._tenants.get(tenant_id)

    async def tenant(self, tenant_id: str) -> TenantRecord | None:
        """A tenant that takes calls; at most a second old."""
        return await self._tenants.get(tenant_id)

    async def key(self, key_id: str) -> KeyRecord | None:
        """A key by its public id; at most a second old."""
        return await self._keys.get(key_id, lambda: self._read(KEYS_SCOPE, key_id, KeyRecord))

    async def create_tenant(self, record: TenantRecord) -> Claim:
        """Keep a new tenant; one that is `making` is held for `CLAIM_S` and waits for its opening.

        An id whose maker died meanwhile is taken over.

        Raises:
            ServiceError: TENANT_EXISTS.
        """
        precondition = state_pb2.Precondition(absent=True)
        kept, revision = await self._items.read(TENANTS_SCOPE, record.tenant_id, TenantRecord)
        if kept is not None and self._is_abandoned(kept):
            precondition = state_pb2.Precondition(revision=revision)
        return await self._put_tenant(record, precondition)

    async def open_tenant(self, claim: Claim) -> None:
        """Let a tenant in that has been emptied.

        Raises:
            ServiceError: TENANT_EXISTS where another call has taken the id meanwhile.
        """
        ready = msgspec.structs.replace(claim.record, making=False)
        await self._put_tenant(ready, state_pb2.Precondition(revision=claim.revision))

    async def abandon_tenant(self, claim: Claim) -> None:
        """Give up an id that could not be made ready, so that the next call need not wait."""
        stale = msgspec.structs.replace(claim.record, create_ns=0)
        await self._put_tenant(stale, state_pb2.Precondition(revision=claim.revision))

    def _is_abandoned(self, record: TenantRecord) -> bool:
        age_ns = self._clock.now_ns() - record.create_ns
        return record.making and age_ns >= CLAIM_S * 1e9

    async def _put_tenant(
        self, record: TenantRecord, precondition: state_pb2.Precondition
    ) -> Claim:
        request = state_pb2.SetStateRequest(
            scope=TENANTS_SCOPE,
            key=record.tenant_id,
            value=_payload(record),
            precondition=precondition,
        )
        try:
            answer = await self._items.call("SetState", request)
        except ServiceError as error:
            if error.reason != Reason.REVISION_MISMATCH:
                raise
            raise ServiceError(
                Reason.TENANT_EXISTS,
                f"There is a tenant {record.tenant_id} already.",
                tenant_id=record.tenant_id,
            ) from None
        self._tenants.forget(record.tenant_id)
        return Claim(record, state_pb2.SetStateResponse.FromString(answer).revision)

    async def change_tenant(
        self, tenant_id: str, change: Callable[[TenantRecord], TenantRecord]
    ) -> TenantRecord:
        """Keep what `change` makes of a tenant; of changes at the same time none is lost.

        Raises:
            ServiceError: TENANT_NOT_FOUND; TENANT_CHANGED where others were quicker each time.
        """
        for _ in range(_CHANGE_TRIES):
            record, revision = await self._items.read(TENANTS_SCOPE, tenant_id, TenantRecord)
            if record is None or not record.open:
                raise tenant_not_found(tenant_id)
            made = change(record)
            try:
                await self._put_tenant(made, state_pb2.Precondition(revision=revision))
            except ServiceError as error:
                if error.reason != Reason.TENANT_EXISTS:
                    raise
            else:
                return made
        raise ServiceError(
            Reason.TENANT_CHANGED,
            f"The tenant {tenant_id} was changed by others meanwhile; look at it and try again.",
            tenant_id=tenant_id,
        )

    async def begin_deletion(self, tenant_id: str) -> TenantRecord | None:
        """Mark a tenant, so that it is refused everywhere; None where there is none."""
        record = await self._read(TENANTS_SCOPE, tenant_id, TenantRecord)
        if record is not None:
            # What the operator said of it goes first: the data files are written anew later on.
            marked = TenantRecord(tenant_id, "", record.create_ns, deleting=True)
            request = state_pb2.SetStateRequest(
                scope=TENANTS_SCOPE, key=tenant_id, value=_payload(marked)
            )
            await self._items.call("SetState", request)
            self._tenants.forget(tenant_id)
        return record

    async def end_deletion(self, tenant_id: str) -> None:
        """Forget a tenant that has been emptied."""
        for scope in (GRANTS_SCOPE, TENANTS_SCOPE):
            request = state_pb2.DeleteStateRequest(scope=scope, key=tenant_id)
            await self._items.call("DeleteState", request)

    async def end_grants(self, tenant_id: str) -> None:
        """Nobody is let in to a tenant any more; a namesake of it begins without."""
        request = state_pb2.DeleteStateRequest(scope=GRANTS_SCOPE, key=tenant_id)
        await self._items.call("DeleteState", request)

    async def put_receipt(self, scope: str, key: str, receipt: msgspec.Struct) -> None:
        """Keep what was told of a deletion."""
        request = state_pb2.SetStateRequest(scope=scope, key=key, value=_payload(receipt))
        await self._items.call("SetState", request)

    async def receipts(self, scope: str, prefix: str, kind: type[M]) -> list[M]:
        """What was told of deletions, the oldest first; the first thousand of a name."""
        request = state_pb2.ListStateRequest(scope=scope, prefix=prefix, page_size=1000)
        items = (await self._list(request)).items
        return [msgspec.json.decode(item.value.json, type=kind) for item in items]

    async def list_tenants(self, page_size: int, page_token: str) -> tuple[list[TenantRecord], str]:
        """A page of tenants and the token of the next one."""
        request = state_pb2.ListStateRequest(
            scope=TENANTS_SCOPE, page_size=page_size, page_token=page_token
        )
        answer = await self._list(request)
        found = [msgspec.json.decode(item.value.json, type=TenantRecord) for item in answer.items]
        return [record for record in found if record.open], answer.next_page_token

    async def create_key(self, record: KeyRecord) -> None:
        """Keep a new key of a tenant that exists.

        Raises:
            ServiceError: TENANT_NOT_FOUND.
        """
        tenant, revision = await self._items.read(TENANTS_SCOPE, record.tenant_id, TenantRecord)
        if tenant is None or not tenant.open:
            raise tenant_not_found(record.tenant_id)
        index = f"{record.tenant_id}/{record.key_id}"
        # At this revision: a deletion that begins meanwhile must not leave a key behind it.
        checks = [_unchanged(TENANTS_SCOPE, record.tenant_id, revision)]
        empty = state_pb2.Payload(json="null")
        writes = [
            state_pb2.StateWrite(scope=KEYS_SCOPE, key=record.key_id, set=_payload(record)),
            state_pb2.StateWrite(scope=_KEYS_OF_TENANT, key=index, set=empty),
        ]
        request = state_pb2.BatchStateRequest(checks=checks, writes=writes)
        try:
            await self._items.call("BatchState", request)
        except ServiceError as error:
            if error.reason != Reason.REVISION_MISMATCH:
                raise
            raise tenant_not_found(record.tenant_id) from None
        self._keys.forget(record.key_id)

    async def list_keys(
        self, tenant_id: str, page_size: int, page_token: str
    ) -> tuple[list[KeyRecord], str]:
        """A page of a tenant's keys and the token of the next one."""
        ids, token = await self._key_ids(tenant_id, page_size, page_token)
        found = [await self._read(KEYS_SCOPE, key_id, KeyRecord) for key_id in ids]
        return [record for record in found if record is not None], token

    async def change_key(
        self, key_id: str, change: Callable[[KeyRecord], KeyRecord]
    ) -> KeyRecord | None:
        """Keep a key as `change` makes it; None where there is none.

        Raises:
            ServiceError: REVISION_MISMATCH where another call has changed it meanwhile.
        """
        record, revision = await self._items.read(KEYS_SCOPE, key_id, KeyRecord)
        if record is None:
            return None
        changed = change(record)
        request = state_pb2.SetStateRequest(
            scope=KEYS_SCOPE,
            key=key_id,
            value=_payload(changed),
            precondition=state_pb2.Precondition(revision=revision),
        )
        await self._items.call("SetState", request)
        self._keys.forget(key_id)
        return changed

    async def revoke_key(self, key_id: str) -> bool:
        """End a key; False where there was none."""
        record = await self._read(KEYS_SCOPE, key_id, KeyRecord)
        if record is None:
            return False
        await self._end_key(record.tenant_id, key_id)
        return True

    async def revoke_keys_of(self, tenant_id: str) -> int:
        """End every key of a tenant; how many there were.

        Goes by the index, so that an entry without a key is removed as well.
        """
        ended = 0
        while ids := (await self._key_ids(tenant_id, 0, ""))[0]:
            for key_id in ids:
                await self._end_key(tenant_id, key_id)
            ended += len(ids)
        return ended

    async def _end_key(self, tenant_id: str, key_id: str) -> None:
        index = f"{tenant_id}/{key_id}"
        writes = [
            state_pb2.StateWrite(scope=KEYS_SCOPE, key=key_id, delete=True),
            state_pb2.StateWrite(scope=_KEYS_OF_TENANT, key=index, delete=True),
            state_pb2.StateWrite(scope=KEY_USES_SCOPE, key=key_id, delete=True),
        ]
        await self._items.call("BatchState", state_pb2.BatchStateRequest(writes=writes))
        self._keys.forget(key_id)

    async def _key_ids(
        self, tenant_id: str, page_size: int, page_token: str
    ) -> tuple[list[str], str]:
        prefix = f"{tenant_id}/"
        request = state_pb2.ListStateRequest(
            scope=_KEYS_OF_TENANT,
            prefix=prefix,
            keys_only=True,
            page_size=page_size,
            page_token=page_token,
        )
        answer = await self._list(request)
        return [item.key.removeprefix(prefix) for item in answer.items], answer.next_page_token

    async def _read(self, scope: str, key: str, kind: type[M]) -> M | None:
        return (await self._items.read(scope, key, kind))[0]

    async def _list(self, request: state_pb2.ListStateRequest) -> state_pb2.ListStateResponse:
        return state_pb2.ListStateResponse.FromString(await self._items.call("ListState", request))


def _payload(record: msgspec.Struct) -> state_pb2.Payload:
    return state_pb2.Payload(json=msgspec.json.encode(record).decode())


def _unchanged(scope: str, key: str, revision: int) -> state_pb2.StateCheck:
    precondition = state_pb2.Precondition(revision=revision)
    return state_pb2.StateCheck(scope=scope, key=key, precondition=precondition)
