"""Removes a tenant, looks again in every store, and keeps a receipt of what was found."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import msgspec
from llmspell.v1 import state_pb2, tenant_pb2, tool_pb2, types_pb2, usage_pb2, vector_pb2

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import CallContext, current_context
from services.common.errors import Reason, ServiceError
from services.common.relay import Relay
from services.common.standing import END_PERMISSION
from services.common.tenants import tenant_not_found
from services.gateway import policies
from services.gateway.registry import Registry

PURGE_TIMEOUT_S = 120.0
RECEIPTS_SCOPE = "custom:tenant-receipts"

_PURGES = (
    (
        "runtime",
        "ToolService/PurgeFiles",
        tool_pb2.PurgeFilesRequest(),
        tool_pb2.PurgeFilesResponse,
    ),
    (
        "runtime",
        "UsageService/PurgeUsage",
        usage_pb2.PurgeUsageRequest(),
        usage_pb2.PurgeUsageResponse,
    ),
    (
        "vector",
        "VectorService/PurgeVectors",
        vector_pb2.PurgeVectorsRequest(rewrite=True),
        vector_pb2.PurgeVectorsResponse,
    ),
    (
        "state",
        "StateService/PurgeState",
        state_pb2.PurgeStateRequest(rewrite=True),
        state_pb2.PurgeStateResponse,
    ),
)
"""In this order: what a process still writes for a tenant it writes to one that comes later."""


class PartRecord(msgspec.Struct, frozen=True):
    """One kind of thing in one process."""

    process: str
    what: str
    erased: int
    left: int
    note: str = ""


class ReceiptRecord(msgspec.Struct, frozen=True):
    """A receipt as it is kept."""

    receipt_id: str
    tenant_id: str
    begin_ns: int
    end_ns: int
    parts: tuple[PartRecord, ...]


class Deletion:
    """Removes tenants, one call each."""

    def __init__(self, registry: Registry, relay: Relay, clock: Clock) -> None:
        self._registry = registry
        self._relay = relay
        self._clock = clock

    async def delete(self, tenant_id: str) -> tenant_pb2.DeleteTenantResponse:
        """Refuse the tenant everywhere, end its keys, empty its places, look again, forget it.

        In this order, so that a deletion that was interrupted can be repeated.

        Raises:
            ServiceError: TENANT_NOT_FOUND; what a process answered that could not erase.
        """
        begin_ns = self._clock.now_ns()
        if await self._registry.begin_deletion(tenant_id) is None:
            raise tenant_not_found(tenant_id)
        keys = await self._registry.revoke_keys_of(tenant_id)
        await self._registry.end_grants(tenant_id)
        parts, counts = [], {}
        for process, path, request, kind in _PURGES:
            data = await self._relay.call(
                METHODS[f"/llmspell.v1.{path}"],
                request.SerializeToString(),
                purger(tenant_id, END_PERMISSION),
                timeout_s=PURGE_TIMEOUT_S,
            )
            answer = kind.FromString(data)
            counts[process] = answer.deleted_count
            parts += [_part(process, each) for each in answer.erasures]
        left = len((await self._registry.list_keys(tenant_id, 1, ""))[0])
        parts.insert(0, PartRecord("gateway", "API keys", keys, left))
        parts.insert(
            1, PartRecord("gateway", "policies", *await policies.erase(self._relay, tenant_id))
        )
        receipt = ReceiptRecord(
            secrets.token_hex(8), tenant_id, begin_ns, self._clock.now_ns(), tuple(parts)
        )
        await self._registry.put_receipt(RECEIPTS_SCOPE, receipt_key(receipt), receipt)
        await self._registry.end_deletion(tenant_id)
        return tenant_pb2.DeleteTenantResponse(
            deleted_item_count=counts["state"],
            deleted_record_count=counts["vector"],
            deleted_key_count=keys,
            receipt=receipt_message(receipt),
        )

    async def receipt(self, tenant_id: str, receipt_id: str) -> tenant_pb2.DeletionReceipt:
        """A receipt; the last one where none is named.

        Raises:
            ServiceError: RECEIPT_NOT_FOUND.
        """
        found = await self._registry.receipts(RECEIPTS_SCOPE, f"{tenant_id}/", ReceiptRecord)
        for record in reversed(found):
            if receipt_id in {"", record.receipt_id}:
                return receipt_message(record)
        raise ServiceError(
            Reason.RECEIPT_NOT_FOUND,
            f"There is no receipt of a tenant {tenant_id} that was removed.",
            tenant_id=tenant_id,
        )


def purger(tenant_id: str, *more: str) -> CallContext:
    """Who empties a tenant: the caller, with that one permission and `more`."""
    caller = current_context()
    return CallContext(
        tenant=tenant_id,
        principal=caller.principal,
        permissions=("tenant.purge", *more),
        request_id=caller.request_id,
    )


def receipt_key(record: ReceiptRecord) -> str:
    """In order of time."""
    return f"{record.tenant_id}/{record.end_ns:020}/{record.receipt_id}"


def receipt_message(record: ReceiptRecord) -> tenant_pb2.DeletionReceipt:
    """A receipt as the contract tells it."""
    message = tenant_pb2.DeletionReceipt(
        receipt_id=record.receipt_id,
        tenant_id=record.tenant_id,
        parts=_messages(record.parts),
        complete=not any(part.left for part in record.parts),
    )
    message.begin_time.FromNanoseconds(record.begin_ns)
    message.end_time.FromNanoseconds(record.end_ns)
    return message


def _messages(parts: Iterable[PartRecord]) -> list[tenant_pb2.ErasedPart]:
    return [
        tenant_pb2.ErasedPart(
            process=part.process,
            erasure=types_pb2.Erasure(
                what=part.what, erased_count=part.erased, left_count=part.left, note=part.note
            ),
        )
        for part in parts
    ]


def _part(process: str, erasure: types_pb2.Erasure) -> PartRecord:
    return PartRecord(process, erasure.what, erasure.erased_count, erasure.left_count, erasure.note)
