"""TenantService: tenants and keys. The operator's, but for WhoAmI."""

from __future__ import annotations

import contextlib
import re

from llmspell.v1 import state_pb2, tenant_pb2, tenant_pb2_grpc, vector_admin_pb2, vector_pb2

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import CallContext, current_context, is_tenant_id
from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    limit_exceeded,
    required,
)
from services.common.limits import DISPLAY_NAME_BYTES_MAX, TENANT_ID_LENGTH_MAX
from services.common.relay import Relay
from services.common.tenants import TenantRecord, tenant_not_found
from services.gateway.keys import digest_of, new_key, read_credential
from services.gateway.registry import Claim, KeyRecord, Registry
from services.gateway.roles import checked_roles
from services.gateway.row_filters import checked_row_filter

_ISOLATION = "ISOLATION_"
_NAMESPACE = vector_admin_pb2.ISOLATION_NAMESPACE
_KEY_ID = re.compile(r"[a-z0-9]{1,32}", re.ASCII)
_PURGE_TIMEOUT_S = 120.0
_MAKING_TIMEOUT_S = 8.0
"""For each of the three calls that make a tenant ready: together less than an id is held for."""


class TenantServicer(tenant_pb2_grpc.TenantServiceServicer):
    """Translates between messages and the registry."""

    def __init__(self, registry: Registry, relay: Relay, clock: Clock) -> None:
        self._registry = registry
        self._relay = relay
        self._clock = clock

    async def CreateTenant(  # noqa: N802
        self, request: tenant_pb2.CreateTenantRequest, context: object
    ) -> tenant_pb2.CreateTenantResponse:
        """Make a tenant, empty: a run that outlived its namesake may have written after the end."""
        del context
        record = TenantRecord(
            tenant_id=_tenant_id(request.tenant_id),
            display_name=_display_name(request.display_name),
            create_ns=self._clock.now_ns(),
            making=True,
            isolation=_isolation(request.isolation),
        )
        claim = await self._registry.create_tenant(record)
        try:
            await self._make_ready(record)
        except ServiceError as error:
            await self._give_up(claim, error)
            raise
        await self._registry.open_tenant(claim)
        return tenant_pb2.CreateTenantResponse(tenant=_tenant(record))

    async def GetTenant(  # noqa: N802
        self, request: tenant_pb2.GetTenantRequest, context: object
    ) -> tenant_pb2.GetTenantResponse:
        """One tenant."""
        del context
        record = await self._registry.tenant(_tenant_id(request.tenant_id))
        if record is None:
            raise tenant_not_found(request.tenant_id)
        return tenant_pb2.GetTenantResponse(tenant=_tenant(record))

    async def ListTenants(  # noqa: N802
        self, request: tenant_pb2.ListTenantsRequest, context: object
    ) -> tenant_pb2.ListTenantsResponse:
        """A page of tenants."""
        del context
        records, token = await self._registry.list_tenants(request.page_size, request.page_token)
        return tenant_pb2.ListTenantsResponse(
            tenants=[_tenant(record) for record in records], next_page_token=token
        )

    async def DeleteTenant(  # noqa: N802
        self, request: tenant_pb2.DeleteTenantRequest, context: object
    ) -> tenant_pb2.DeleteTenantResponse:
        """Refuse the tenant everywhere, end its keys, empty both stores, forget it.

        In this order, so that a deletion that was interrupted can be repeated.
        """
        del context
        tenant_id = _tenant_id(request.tenant_id)
        if await self._registry.begin_deletion(tenant_id) is None:
            raise tenant_not_found(tenant_id)
        keys = await self._registry.revoke_keys_of(tenant_id)
        items, records = await self._purge(tenant_id)
        await self._registry.end_deletion(tenant_id)
        return tenant_pb2.DeleteTenantResponse(
            deleted_item_count=items, deleted_record_count=records, deleted_key_count=keys
        )

    async def CreateApiKey(  # noqa: N802
        self, request: tenant_pb2.CreateApiKeyRequest, context: object
    ) -> tenant_pb2.CreateApiKeyResponse:
        """Make a key; the answer is the only time that it is shown."""
        del context
        key_id, key = new_key()
        record = KeyRecord(
            key_id=key_id,
            tenant_id=_tenant_id(request.tenant_id),
            digest=digest_of(key).hex(),
            roles=checked_roles(request.roles),
            display_name=_display_name(request.display_name),
            create_ns=self._clock.now_ns(),
            row_filter=checked_row_filter(request),
        )
        await self._registry.create_key(record)
        return tenant_pb2.CreateApiKeyResponse(api_key=_api_key(record), key=key)

    async def ListApiKeys(  # noqa: N802
        self, request: tenant_pb2.ListApiKeysRequest, context: object
    ) -> tenant_pb2.ListApiKeysResponse:
        """A page of a tenant's keys, without secrets."""
        del context
        tenant_id = _tenant_id(request.tenant_id)
        if await self._registry.tenant(tenant_id) is None:
            raise tenant_not_found(tenant_id)
        records, token = await self._registry.list_keys(
            tenant_id, request.page_size, request.page_token
        )
        return tenant_pb2.ListApiKeysResponse(
            api_keys=[_api_key(record) for record in records], next_page_token=token
        )

    async def RevokeApiKey(  # noqa: N802
        self, request: tenant_pb2.RevokeApiKeyRequest, context: object
    ) -> tenant_pb2.RevokeApiKeyResponse:
        """End a key."""
        del context
        revoked = await self._registry.revoke_key(_key_id(request.key_id))
        return tenant_pb2.RevokeApiKeyResponse(revoked_count=int(revoked))

    async def WhoAmI(  # noqa: N802
        self, request: tenant_pb2.WhoAmIRequest, context: object
    ) -> tenant_pb2.WhoAmIResponse:
        """What the gateway made of the caller's credential."""
        del request, context
        caller = current_context()
        return tenant_pb2.WhoAmIResponse(
            principal=caller.principal, tenant_id=caller.tenant, permissions=caller.permissions
        )

    async def _make_ready(self, record: TenantRecord) -> None:
        """Empty a tenant's place, and say how its vectors are to be kept apart."""
        await self._purge(record.tenant_id, timeout_s=_MAKING_TIMEOUT_S)
        request = vector_admin_pb2.ConfigureVectorTenantRequest(
            isolation=_ISOLATION + record.isolation.upper()
        )
        await self._relay.call(
            METHODS["/llmspell.v1.VectorAdminService/ConfigureVectorTenant"],
            request.SerializeToString(),
            _purger(record.tenant_id),
            timeout_s=_MAKING_TIMEOUT_S,
        )

    async def _give_up(self, claim: Claim, error: ServiceError) -> None:
        """Let go of an id, unless what was asked for may still be going on behind it."""
        if error.reason == Reason.DEADLINE_EXCEEDED:
            return
        with contextlib.suppress(ServiceError):  # it ends by itself
            await self._registry.abandon_tenant(claim)

    async def _purge(
        self, tenant_id: str, *, timeout_s: float = _PURGE_TIMEOUT_S
    ) -> tuple[int, int]:
        """(items, records) removed from state and vector."""
        purger = _purger(tenant_id)
        items = await self._relay.call(
            METHODS["/llmspell.v1.StateService/PurgeState"], b"", purger, timeout_s=timeout_s
        )
        records = await self._relay.call(
            METHODS["/llmspell.v1.VectorService/PurgeVectors"], b"", purger, timeout_s=timeout_s
        )
        return (
            state_pb2.PurgeStateResponse.FromString(items).deleted_count,
            vector_pb2.PurgeVectorsResponse.FromString(records).deleted_count,
        )


def _purger(tenant_id: str) -> CallContext:
    """Who empties a tenant: the caller, with that one permission."""
    caller = current_context()
    return CallContext(
        tenant=tenant_id,
        principal=caller.principal,
        permissions=("tenant.purge",),
        request_id=caller.request_id,
    )


def _isolation(number: int) -> str:
    """The name of a way to keep tenants apart."""
    values = vector_admin_pb2.Isolation.DESCRIPTOR.values_by_number
    if number not in values:
        known = [value.name.removeprefix(_ISOLATION).lower() for value in values.values()][1:]
        raise field_invalid("isolation", f"must be one of {', '.join(known)}")
    return values[number or _NAMESPACE].name.removeprefix(_ISOLATION).lower()


def _tenant_id(text: str) -> str:
    if not text:
        raise required("tenant_id")
    if not is_tenant_id(text):
        raise field_invalid(
            "tenant_id",
            f"must be 1 to {TENANT_ID_LENGTH_MAX} lower-case letters, digits, '_' and '-', "
            "beginning with a letter or digit",
        )
    return text


def _key_id(text: str) -> str:
    """The public part of a key; whoever pastes the whole key means that one."""
    if not text:
        raise required("key_id")
    credential = read_credential(text)
    key_id = credential.key_id if credential else text
    if not _KEY_ID.fullmatch(key_id):
        raise field_invalid("key_id", "must be the public part of a key: the ID of llms_ID_SECRET")
    return key_id


def _display_name(text: str) -> str:
    size = len(text.encode())
    if size > DISPLAY_NAME_BYTES_MAX:
        raise limit_exceeded("display_name", size, DISPLAY_NAME_BYTES_MAX, "bytes")
    return text


def _tenant(record: TenantRecord) -> tenant_pb2.Tenant:
    message = tenant_pb2.Tenant(
        tenant_id=record.tenant_id,
        display_name=record.display_name,
        isolation=_ISOLATION + record.isolation.upper(),
    )
    message.create_time.FromNanoseconds(record.create_ns)
    return message


def _api_key(record: KeyRecord) -> tenant_pb2.ApiKey:
    message = tenant_pb2.ApiKey(
        key_id=record.key_id,
        tenant_id=record.tenant_id,
        roles=record.roles,
        display_name=record.display_name,
    )
    if record.row_filter:
        message.row_filter.ParseFromString(record.row_filter)
    message.create_time.FromNanoseconds(record.create_ns)
    return message
