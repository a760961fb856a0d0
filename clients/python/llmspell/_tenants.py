"""TenantService and ProcessService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from llmspell import types
from llmspell._contract import Call, Page
from llmspell._filters import to_filter
from llmspell._values import from_timestamp
from llmspell.errors import InvalidArgument
from llmspell.types import (
    ApiKey,
    Caller,
    CreatedKey,
    DeletedTenant,
    FoundDamage,
    ProcessStatus,
    Tenant,
)
from llmspell.v1 import process_pb2, vector_admin_pb2
from llmspell.v1 import tenant_pb2 as pb

_ISOLATIONS: dict[types.Isolation, vector_admin_pb2.Isolation] = {
    "namespace": vector_admin_pb2.ISOLATION_NAMESPACE,
    "database": vector_admin_pb2.ISOLATION_DATABASE,
    "metadata": vector_admin_pb2.ISOLATION_METADATA,
    "hybrid": vector_admin_pb2.ISOLATION_HYBRID,
}
_ISOLATION_NAMES: dict[int, types.Isolation] = {n: name for name, n in _ISOLATIONS.items()}


def create_tenant(tenant_id: str, display_name: str, isolation: types.Isolation) -> Call[Tenant]:
    """Make a tenant."""
    if isolation not in _ISOLATIONS:
        raise InvalidArgument(
            f"isolation must be one of {', '.join(_ISOLATIONS)}, not {isolation!r}.",
            metadata={"field": "isolation"},
        )
    request = pb.CreateTenantRequest(
        tenant_id=tenant_id, display_name=display_name, isolation=_ISOLATIONS[isolation]
    )
    return Call(request, lambda answer: _tenant(answer.tenant))


def get_tenant(tenant_id: str) -> Call[Tenant]:
    """One tenant."""
    request = pb.GetTenantRequest(tenant_id=tenant_id)
    return Call(request, lambda answer: _tenant(answer.tenant))


def list_tenants() -> Call[Page[Tenant]]:
    """A page of tenants."""
    return Call(pb.ListTenantsRequest(), _tenant_page)


def delete_tenant(tenant_id: str) -> Call[DeletedTenant]:
    """Remove a tenant, its keys and its data."""
    return Call(pb.DeleteTenantRequest(tenant_id=tenant_id), _deleted_tenant)


def create_key(
    tenant_id: str, roles: Iterable[str], display_name: str, row_filter: types.Filter | None
) -> Call[CreatedKey]:
    """Make a key."""
    request = pb.CreateApiKeyRequest(
        tenant_id=tenant_id,
        roles=roles,
        display_name=display_name,
        row_filter=to_filter(row_filter),
    )
    return Call(request, _created_key)


def list_keys(tenant_id: str) -> Call[Page[ApiKey]]:
    """A page of keys."""
    return Call(pb.ListApiKeysRequest(tenant_id=tenant_id), _key_page)


def revoke_key(key_id: str) -> Call[bool]:
    """End a key; whether there was one."""
    return Call(pb.RevokeApiKeyRequest(key_id=key_id), lambda answer: answer.revoked_count > 0)


def who_am_i() -> Call[Caller]:
    """Who the caller is."""
    return Call(pb.WhoAmIRequest(), _caller)


def processes() -> Call[list[ProcessStatus]]:
    """The four processes."""
    return Call(process_pb2.GetProcessStatusRequest(), _processes)


def _tenant(message: pb.Tenant) -> Tenant:
    return Tenant(
        tenant_id=message.tenant_id,
        display_name=message.display_name,
        create_time=from_timestamp(message, "create_time"),
        isolation=_ISOLATION_NAMES.get(message.isolation, "namespace"),
    )


def _tenant_page(answer: pb.ListTenantsResponse) -> Page[Tenant]:
    return Page([_tenant(tenant) for tenant in answer.tenants], answer.next_page_token)


def _deleted_tenant(answer: pb.DeleteTenantResponse) -> DeletedTenant:
    return DeletedTenant(
        item_count=answer.deleted_item_count,
        record_count=answer.deleted_record_count,
        key_count=answer.deleted_key_count,
    )


def _key(message: pb.ApiKey) -> ApiKey:
    return ApiKey(
        key_id=message.key_id,
        tenant_id=message.tenant_id,
        roles=tuple(message.roles),
        display_name=message.display_name,
        create_time=from_timestamp(message, "create_time"),
        row_filter=message.row_filter if message.HasField("row_filter") else None,
    )


def _key_page(answer: pb.ListApiKeysResponse) -> Page[ApiKey]:
    return Page([_key(key) for key in answer.api_keys], answer.next_page_token)


def _created_key(answer: pb.CreateApiKeyResponse) -> CreatedKey:
    return CreatedKey(key=answer.key, api_key=_key(answer.api_key))


def _caller(answer: pb.WhoAmIResponse) -> Caller:
    return Caller(
        principal=answer.principal,
        tenant_id=answer.tenant_id,
        permissions=tuple(answer.permissions),
    )


def _processes(answer: process_pb2.GetProcessStatusResponse) -> list[ProcessStatus]:
    return [_process(process) for process in answer.processes]


def _process(message: process_pb2.ProcessStatus) -> ProcessStatus:
    known = message.status in process_pb2.ServingStatus.values()
    name = process_pb2.ServingStatus.Name(message.status) if known else ""
    word = name.removeprefix("SERVING_STATUS_")
    return ProcessStatus(
        name=message.name,
        status=word if word not in ("", "UNSPECIFIED") else "UNKNOWN",
        version=message.version,
        start_time=from_timestamp(message, "start_time"),
        pid=message.pid,
        resident_bytes=message.resident_bytes,
        call_count=message.call_count,
        internal_error_count=message.internal_error_count,
        damage_count=message.damage_count,
        damages=tuple(FoundDamage(each.name, each.why) for each in message.damages),
    )
