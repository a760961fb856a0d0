"""What the operator says of a tenant: requests → records, records → messages. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from llmspell.v1 import tenant_pb2, vector_admin_pb2

from services.common.errors import field_invalid, limit_exceeded
from services.common.limits import (
    DISPLAY_NAME_BYTES_MAX,
    TENANT_LIMIT_MAX,
    TENANT_METADATA_BYTES_MAX,
    TENANT_RETENTION_SECONDS_MAX,
    TENANT_WEIGHT_MAX,
    TENANT_WEIGHT_MIN,
)
from services.common.tenants import TenantLimits, TenantRecord, TenantRetention

ISOLATION = "ISOLATION_"
_STATUS = "TENANT_STATUS_"
_NAMESPACE = vector_admin_pb2.ISOLATION_NAMESPACE
_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[^\s\x00-\x1f]+")


def first_record(request: tenant_pb2.CreateTenantRequest, *, now_ns: int) -> TenantRecord:
    """A tenant as it is asked for; its id has been checked.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    return TenantRecord(
        tenant_id=request.tenant_id,
        display_name=short_text("display_name", request.display_name),
        create_ns=now_ns,
        making=True,
        isolation=_isolation(request.isolation),
        limits=_limits(TenantLimits(), request.limits),
        retention=_retention(TenantRetention(), request.retention),
        default_provider=_provider(request.default_provider),
        metadata=_metadata(request.metadata),
    )


def changed(record: TenantRecord, request: tenant_pb2.UpdateTenantRequest) -> TenantRecord:
    """The record with what the request names.

    Raises:
        ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    changes: dict[str, Any] = {
        "limits": _limits(record.limits, request.limits),
        "retention": _retention(record.retention, request.retention),
    }
    if request.HasField("display_name"):
        changes["display_name"] = short_text("display_name", request.display_name)
    if request.HasField("default_provider"):
        changes["default_provider"] = _provider(request.default_provider)
    kept = {**record.metadata, **request.metadata}
    left = {name: text for name, text in kept.items() if name not in request.removed_metadata}
    changes["metadata"] = _metadata(left)
    return msgspec.structs.replace(record, **changes)


def tenant_message(record: TenantRecord) -> tenant_pb2.Tenant:
    """A tenant as the contract tells it."""
    message = tenant_pb2.Tenant(
        tenant_id=record.tenant_id,
        display_name=record.display_name,
        isolation=ISOLATION + record.isolation.upper(),
        status=_STATUS + record.status.upper(),
        status_note=record.status_note,
        limits=tenant_pb2.TenantLimits(**msgspec.structs.asdict(record.limits)),
        default_provider=record.default_provider,
        metadata=record.metadata,
    )
    message.create_time.FromNanoseconds(record.create_ns)
    for name, seconds in msgspec.structs.asdict(record.retention).items():
        if seconds:
            field = getattr(message.retention, name.removesuffix("_s"))
            field.FromMicroseconds(round(seconds * 1e6))
    return message


def short_text(field: str, text: str) -> str:
    """A name or a note.

    Raises:
        ServiceError: LIMIT_EXCEEDED.
    """
    size = len(text.encode())
    if size > DISPLAY_NAME_BYTES_MAX:
        raise limit_exceeded(field, size, DISPLAY_NAME_BYTES_MAX, "bytes")
    return text


def _limits(limits: TenantLimits, message: tenant_pb2.TenantLimits) -> TenantLimits:
    named = {field.name: value for field, value in message.ListFields()}
    for name, value in named.items():
        _check_limit(f"limits.{name}", value)
    return msgspec.structs.replace(limits, **named)


def _check_limit(field: str, value: float) -> None:
    if field == "limits.weight":
        if not TENANT_WEIGHT_MIN <= value <= TENANT_WEIGHT_MAX:
            rule = f"must be from {TENANT_WEIGHT_MIN:g} to {TENANT_WEIGHT_MAX:g}"
            raise field_invalid(field, rule)
    elif not math.isfinite(value) or value < 0:
        raise field_invalid(field, "must be a number of 0 or more; 0 is the deployment's own")
    elif value > TENANT_LIMIT_MAX:
        raise limit_exceeded(field, int(value), TENANT_LIMIT_MAX)


def _retention(kept: TenantRetention, message: tenant_pb2.TenantRetention) -> TenantRetention:
    named: dict[str, float] = {}
    for field, length in message.ListFields():
        seconds = length.seconds + length.nanos / 1e9
        if not 0 <= seconds <= TENANT_RETENTION_SECONDS_MAX:
            most = f"{TENANT_RETENTION_SECONDS_MAX // 86_400} days"
            raise field_invalid(f"retention.{field.name}", f"must be from 0 to {most}")
        named[f"{field.name}_s"] = seconds
    return msgspec.structs.replace(kept, **named)


def _provider(text: str) -> str:
    short_text("default_provider", text)
    if text and not _PROVIDER.fullmatch(text):
        raise field_invalid("default_provider", "must be provider/model")
    return text


def _metadata(entries: Mapping[str, str]) -> dict[str, str]:
    size = sum(len(name.encode()) + len(text.encode()) for name, text in entries.items())
    if size > TENANT_METADATA_BYTES_MAX:
        raise limit_exceeded("metadata", size, TENANT_METADATA_BYTES_MAX, "bytes")
    return dict(entries)


def _isolation(number: int) -> str:
    """The name of a way to keep tenants apart."""
    values = vector_admin_pb2.Isolation.DESCRIPTOR.values_by_number
    if number not in values:
        known = [value.name.removeprefix(ISOLATION).lower() for value in values.values()][1:]
        raise field_invalid("isolation", f"must be one of {', '.join(known)}")
    return values[number or _NAMESPACE].name.removeprefix(ISOLATION).lower()
