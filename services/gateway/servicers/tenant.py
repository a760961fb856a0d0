"""TenantService: tenants and keys. The operator's, but for WhoAmI."""

from __future__ import annotations

import contextlib
from functools import partial

import msgspec
from llmspell.v1 import tenant_pb2, tenant_pb2_grpc, vector_admin_pb2

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import current_context
from services.common.errors import Reason, ServiceError
from services.common.relay import Relay
from services.common.tenants import Status, TenantRecord, tenant_not_found
from services.gateway.deletion import Deletion, purger
from services.gateway.key_uses import KeyUses
from services.gateway.keys import Digests
from services.gateway.registry import Claim, Registry
from services.gateway.servicers.key_forms import (
    api_key_message,
    checked_key_id,
    checked_tenant_id,
    new_record,
)
from services.gateway.servicers.tenant_forms import (
    ISOLATION,
    changed,
    first_record,
    short_text,
    tenant_message,
)

_UNLOADED = ("VectorAdminService/UnloadVectors",)
_EMPTIED = (
    "ToolService/PurgeFiles",
    "UsageService/PurgeUsage",
    "VectorService/PurgeVectors",
    "StateService/PurgeState",
)
_MAKING_TIMEOUT_S = 5.0
"""For each of the calls that make a tenant ready: together less than an id is held for."""


class TenantServicer(tenant_pb2_grpc.TenantServiceServicer):
    """Translates between messages and the registry."""

    def __init__(
        self, registry: Registry, relay: Relay, clock: Clock, digests: Digests, uses: KeyUses
    ) -> None:
        self._registry = registry
        self._relay = relay
        self._clock = clock
        self._digests = digests
        self._uses = uses
        self._deletion = Deletion(registry, relay, clock)

    async def CreateTenant(  # noqa: N802
        self, request: tenant_pb2.CreateTenantRequest, context: object
    ) -> tenant_pb2.CreateTenantResponse:
        """Make a tenant, empty: a run that outlived its namesake may have written after the end."""
        del context
        checked_tenant_id(request.tenant_id)
        record = first_record(request, now_ns=self._clock.now_ns())
        claim = await self._registry.create_tenant(record)
        try:
            await self._make_ready(record)
        except ServiceError as error:
            await self._give_up(claim, error)
            raise
        await self._registry.open_tenant(claim)
        return tenant_pb2.CreateTenantResponse(tenant=tenant_message(record))

    async def GetTenant(  # noqa: N802
        self, request: tenant_pb2.GetTenantRequest, context: object
    ) -> tenant_pb2.GetTenantResponse:
        """One tenant."""
        del context
        record = await self._registry.tenant(checked_tenant_id(request.tenant_id))
        if record is None:
            raise tenant_not_found(request.tenant_id)
        return tenant_pb2.GetTenantResponse(tenant=tenant_message(record))

    async def ListTenants(  # noqa: N802
        self, request: tenant_pb2.ListTenantsRequest, context: object
    ) -> tenant_pb2.ListTenantsResponse:
        """A page of tenants."""
        del context
        records, token = await self._registry.list_tenants(request.page_size, request.page_token)
        return tenant_pb2.ListTenantsResponse(
            tenants=[tenant_message(record) for record in records], next_page_token=token
        )

    async def UpdateTenant(  # noqa: N802
        self, request: tenant_pb2.UpdateTenantRequest, context: object
    ) -> tenant_pb2.UpdateTenantResponse:
        """Change what is named."""
        del context
        tenant_id = checked_tenant_id(request.tenant_id)
        record = await self._registry.change_tenant(tenant_id, partial(changed, request=request))
        return tenant_pb2.UpdateTenantResponse(tenant=tenant_message(record))

    async def SuspendTenant(  # noqa: N802
        self, request: tenant_pb2.SuspendTenantRequest, context: object
    ) -> tenant_pb2.SuspendTenantResponse:
        """Take no calls of a tenant."""
        del context
        record = await self._set_status(request.tenant_id, "suspended", request.note)
        return tenant_pb2.SuspendTenantResponse(tenant=tenant_message(record))

    async def ResumeTenant(  # noqa: N802
        self, request: tenant_pb2.ResumeTenantRequest, context: object
    ) -> tenant_pb2.ResumeTenantResponse:
        """Take a tenant's calls again."""
        del context
        record = await self._set_status(request.tenant_id, "active", "")
        return tenant_pb2.ResumeTenantResponse(tenant=tenant_message(record))

    async def FreezeTenant(  # noqa: N802
        self, request: tenant_pb2.FreezeTenantRequest, context: object
    ) -> tenant_pb2.FreezeTenantResponse:
        """Take no calls of a tenant, and keep nothing of it in memory."""
        del context
        record = await self._set_status(request.tenant_id, "frozen", request.note)
        for path in _UNLOADED:
            method = METHODS[f"/llmspell.v1.{path}"]
            await self._relay.call(
                method, b"", purger(record.tenant_id), timeout_s=_MAKING_TIMEOUT_S
            )
        return tenant_pb2.FreezeTenantResponse(tenant=tenant_message(record))

    async def DeleteTenant(  # noqa: N802
        self, request: tenant_pb2.DeleteTenantRequest, context: object
    ) -> tenant_pb2.DeleteTenantResponse:
        """Remove a tenant with all it has; the answer says what was erased."""
        del context
        return await self._deletion.delete(checked_tenant_id(request.tenant_id))

    async def GetDeletionReceipt(  # noqa: N802
        self, request: tenant_pb2.GetDeletionReceiptRequest, context: object
    ) -> tenant_pb2.GetDeletionReceiptResponse:
        """What was erased of a tenant that was removed."""
        del context
        tenant_id = checked_tenant_id(request.tenant_id)
        receipt = await self._deletion.receipt(tenant_id, request.receipt_id)
        return tenant_pb2.GetDeletionReceiptResponse(receipt=receipt)

    async def CreateApiKey(  # noqa: N802
        self, request: tenant_pb2.CreateApiKeyRequest, context: object
    ) -> tenant_pb2.CreateApiKeyResponse:
        """Make a key; the answer is the only time that it is shown."""
        del context
        record, key = new_record(request, self._digests, self._clock)
        await self._registry.create_key(record)
        return tenant_pb2.CreateApiKeyResponse(api_key=api_key_message(record), key=key)

    async def ListApiKeys(  # noqa: N802
        self, request: tenant_pb2.ListApiKeysRequest, context: object
    ) -> tenant_pb2.ListApiKeysResponse:
        """A page of a tenant's keys, without secrets."""
        del context
        tenant_id = checked_tenant_id(request.tenant_id)
        if await self._registry.tenant(tenant_id) is None:
            raise tenant_not_found(tenant_id)
        records, token = await self._registry.list_keys(
            tenant_id, request.page_size, request.page_token
        )
        return tenant_pb2.ListApiKeysResponse(
            api_keys=[
                api_key_message(record, await self._uses.last(record.key_id)) for record in records
            ],
            next_page_token=token,
        )

    async def RevokeApiKey(  # noqa: N802
        self, request: tenant_pb2.RevokeApiKeyRequest, context: object
    ) -> tenant_pb2.RevokeApiKeyResponse:
        """End a key."""
        del context
        revoked = await self._registry.revoke_key(checked_key_id(request.key_id))
        return tenant_pb2.RevokeApiKeyResponse(revoked_count=int(revoked))

    async def WhoAmI(  # noqa: N802
        self, request: tenant_pb2.WhoAmIRequest, context: object
    ) -> tenant_pb2.WhoAmIResponse:
        """What the gateway made of the caller's credential."""
        del request, context
        caller = current_context()
        answer = tenant_pb2.WhoAmIResponse(
            principal=caller.principal, tenant_id=caller.tenant, permissions=caller.permissions
        )
        if caller.expires_ns:
            answer.expire_time.FromNanoseconds(caller.expires_ns)
        return answer

    async def _set_status(self, tenant_id: str, status: Status, note: str) -> TenantRecord:
        note = short_text("note", note)
        return await self._registry.change_tenant(
            checked_tenant_id(tenant_id),
            lambda record: msgspec.structs.replace(record, status=status, status_note=note),
        )

    async def _make_ready(self, record: TenantRecord) -> None:
        """Empty a tenant's place, and say how its vectors are to be kept apart."""
        await self._purge(record.tenant_id)
        request = vector_admin_pb2.ConfigureVectorTenantRequest(
            isolation=ISOLATION + record.isolation.upper()
        )
        await self._relay.call(
            METHODS["/llmspell.v1.VectorAdminService/ConfigureVectorTenant"],
            request.SerializeToString(),
            purger(record.tenant_id),
            timeout_s=_MAKING_TIMEOUT_S,
        )

    async def _give_up(self, claim: Claim, error: ServiceError) -> None:
        """Let go of an id, unless what was asked for may still be going on behind it."""
        if error.reason == Reason.DEADLINE_EXCEEDED:
            return
        with contextlib.suppress(ServiceError):  # it ends by itself
            await self._registry.abandon_tenant(claim)

    async def _purge(self, tenant_id: str) -> None:
        """Remove what a namesake may have left, in every process."""
        for path in _EMPTIED:
            method = METHODS[f"/llmspell.v1.{path}"]
            await self._relay.call(method, b"", purger(tenant_id), timeout_s=_MAKING_TIMEOUT_S)
