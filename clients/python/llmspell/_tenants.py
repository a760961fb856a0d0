"""TenantService and ProcessService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from llmspell import types
from llmspell._contract import Call, Page
from llmspell._filters import to_filter
from llmspell._values import from_duration, from_timestamp, to_duration, to_timestamp
from llmspell.errors import InvalidArgument
from llmspell.types import (
    ApiKey,
    Caller,
    CertificateStatus,
    CreatedKey,
    DeletedTenant,
    DeletionReceipt,
    ErasedPart,
    FoundDamage,
    HookCounts,
    ProcessStatus,
    Tenant,
    TenantLimits,
    TenantRetention,
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
_STATUSES: dict[int, types.TenantStatus] = {
    pb.TENANT_STATUS_ACTIVE: "active",
    pb.TENANT_STATUS_SUSPENDED: "suspended",
    pb.TENANT_STATUS_FROZEN: "frozen",
}


def create_tenant(
    tenant_id: str,
    *,
    display_name: str,
    isolation: types.Isolation,
    limits: types.LimitChanges | None,
    retention: types.RetentionChanges | None,
    default_provider: str,
    metadata: Mapping[str, str] | None,
) -> Call[Tenant]:
    """Make a tenant."""
    if isolation not in _ISOLATIONS:
        raise InvalidArgument(
            f"isolation must be one of {', '.join(_ISOLATIONS)}, not {isolation!r}.",
            metadata={"field": "isolation"},
        )
    request = pb.CreateTenantRequest(
        tenant_id=tenant_id,
        display_name=display_name,
        isolation=_ISOLATIONS[isolation],
        limits=_limits(limits),
        retention=_retention(retention),
        default_provider=default_provider,
        metadata=metadata,
    )
    return Call(request, lambda answer: _tenant(answer.tenant))


def update_tenant(
    tenant_id: str,
    *,
    display_name: str | None,
    limits: types.LimitChanges | None,
    retention: types.RetentionChanges | None,
    default_provider: str | None,
    metadata: Mapping[str, str] | None,
    removed_metadata: Iterable[str],
) -> Call[Tenant]:
    """Change what is named of a tenant."""
    request = pb.UpdateTenantRequest(
        tenant_id=tenant_id,
        display_name=display_name,
        limits=_limits(limits),
        retention=_retention(retention),
        default_provider=default_provider,
        metadata=metadata,
        removed_metadata=removed_metadata,
    )
    return Call(request, lambda answer: _tenant(answer.tenant))


def suspend_tenant(tenant_id: str, note: str) -> Call[Tenant]:
    """Take no calls of it."""
    request = pb.SuspendTenantRequest(tenant_id=tenant_id, note=note)
    return Call(request, lambda answer: _tenant(answer.tenant))


def resume_tenant(tenant_id: str) -> Call[Tenant]:
    """Take its calls again."""
    request = pb.ResumeTenantRequest(tenant_id=tenant_id)
    return Call(request, lambda answer: _tenant(answer.tenant))


def freeze_tenant(tenant_id: str, note: str) -> Call[Tenant]:
    """Lay it in the cold."""
    request = pb.FreezeTenantRequest(tenant_id=tenant_id, note=note)
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


def deletion_receipt(tenant_id: str, receipt_id: str) -> Call[DeletionReceipt]:
    """What was erased of a tenant."""
    request = pb.GetDeletionReceiptRequest(tenant_id=tenant_id, receipt_id=receipt_id)
    return Call(request, lambda answer: _receipt(answer.receipt))


def create_key(
    tenant_id: str,
    roles: Iterable[str],
    display_name: str,
    row_filter: types.Filter | None,
    *,
    scopes: Iterable[str] = (),
    expire_time: datetime | None = None,
) -> Call[CreatedKey]:
    """Make a key."""
    request = pb.CreateApiKeyRequest(
        tenant_id=tenant_id,
        roles=roles,
        display_name=display_name,
        row_filter=to_filter(row_filter),
        scopes=scopes,
        expire_time=to_timestamp(expire_time, "expire_time"),
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


def metrics() -> Call[dict[str, str]]:
    """What the processes count and measure."""
    return Call(process_pb2.GetMetricsRequest(), _metrics)


def _metrics(answer: process_pb2.GetMetricsResponse) -> dict[str, str]:
    return {f"{each.name}/{each.instance}".rstrip("/"): each.text for each in answer.processes}


def _tenant(message: pb.Tenant) -> Tenant:
    return Tenant(
        tenant_id=message.tenant_id,
        display_name=message.display_name,
        create_time=from_timestamp(message, "create_time"),
        isolation=_ISOLATION_NAMES.get(message.isolation, "namespace"),
        status=_STATUSES.get(message.status, "active"),
        status_note=message.status_note,
        limits=read_limits(message.limits),
        retention=TenantRetention(
            events_s=from_duration(message.retention, "events"),
            backups_s=from_duration(message.retention, "backups"),
            runs_s=from_duration(message.retention, "runs"),
        ),
        default_provider=message.default_provider,
        metadata=dict(message.metadata),
    )


def read_limits(message: pb.TenantLimits) -> TenantLimits:
    """Limits of an answer."""
    return TenantLimits(**{field.name: value for field, value in message.ListFields()})


def _limits(limits: types.LimitChanges | None) -> pb.TenantLimits | None:
    if limits is None:
        return None
    try:
        return pb.TenantLimits(**limits)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"limits: {error}.", metadata={"field": "limits"}) from None


def _retention(retention: types.RetentionChanges | None) -> pb.TenantRetention | None:
    if retention is None:
        return None
    message = pb.TenantRetention()
    for name, seconds in retention.items():
        part = name.removesuffix("_s")
        if part not in message.DESCRIPTOR.fields_by_name:
            text = f"retention has no {name}; there are events_s, backups_s and runs_s."
            raise InvalidArgument(text, metadata={"field": "retention"})
        length = to_duration(float(str(seconds)), f"retention.{name}", or_zero=True)
        getattr(message, part).CopyFrom(length)
    return message


def _tenant_page(answer: pb.ListTenantsResponse) -> Page[Tenant]:
    return Page([_tenant(tenant) for tenant in answer.tenants], answer.next_page_token)


def _deleted_tenant(answer: pb.DeleteTenantResponse) -> DeletedTenant:
    return DeletedTenant(
        item_count=answer.deleted_item_count,
        record_count=answer.deleted_record_count,
        key_count=answer.deleted_key_count,
        receipt=_receipt(answer.receipt) if answer.HasField("receipt") else None,
    )


def _receipt(message: pb.DeletionReceipt) -> DeletionReceipt:
    parts = [
        ErasedPart(
            process=part.process,
            what=part.erasure.what,
            erased_count=part.erasure.erased_count,
            left_count=part.erasure.left_count,
            note=part.erasure.note,
        )
        for part in message.parts
    ]
    return DeletionReceipt(
        receipt_id=message.receipt_id,
        tenant_id=message.tenant_id,
        begin_time=from_timestamp(message, "begin_time"),
        end_time=from_timestamp(message, "end_time"),
        complete=message.complete,
        parts=tuple(parts),
    )


def key_of(message: pb.ApiKey) -> ApiKey:
    """A key as users get it."""
    return ApiKey(
        key_id=message.key_id,
        tenant_id=message.tenant_id,
        roles=tuple(message.roles),
        display_name=message.display_name,
        create_time=from_timestamp(message, "create_time"),
        row_filter=message.row_filter if message.HasField("row_filter") else None,
        scopes=tuple(message.scopes),
        expire_time=from_timestamp(message, "expire_time"),
        last_use_time=from_timestamp(message, "last_use_time"),
        previous_expire_time=from_timestamp(message, "previous_expire_time"),
    )


def _key_page(answer: pb.ListApiKeysResponse) -> Page[ApiKey]:
    return Page([key_of(key) for key in answer.api_keys], answer.next_page_token)


def _created_key(answer: pb.CreateApiKeyResponse) -> CreatedKey:
    return CreatedKey(key=answer.key, api_key=key_of(answer.api_key))


def _caller(answer: pb.WhoAmIResponse) -> Caller:
    return Caller(
        principal=answer.principal,
        tenant_id=answer.tenant_id,
        permissions=tuple(answer.permissions),
        expire_time=from_timestamp(answer, "expire_time"),
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
        hooks=tuple(_hook(each) for each in message.hooks),
        events_dropped_count=message.events_dropped_count,
        jail=message.jail,
        ready=message.ready,
        not_ready_reasons=tuple(message.not_ready_reasons),
        certificates=tuple(_certificate(each) for each in message.certificates),
    )


def _certificate(message: process_pb2.CertificateStatus) -> CertificateStatus:
    return CertificateStatus(
        purpose=message.purpose,
        expire_time=from_timestamp(message, "expire_time"),
        problem=message.problem,
    )


def _hook(message: process_pb2.HookCounts) -> HookCounts:
    return HookCounts(
        name=message.name,
        call_count=message.call_count,
        failure_count=message.failure_count,
        left_out_count=message.left_out_count,
        opened_count=message.opened_count,
        open_count=message.open_count,
        elapsed_s=message.elapsed.ToMicroseconds() / 1e6,
    )
