"""Tenants, their keys and callers, as users see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypedDict

from llmspell.v1.types_pb2 import Filter as FilterMessage

TenantStatus = Literal["active", "suspended", "frozen"]
"""Whether a tenant takes calls."""


class LimitChanges(TypedDict, total=False):
    """Limits to change; see `TenantLimits`. What is absent stays as it is."""

    vectors: int
    bytes: int
    dimensions: int
    requests_per_minute: int
    tokens_per_minute: int
    concurrent_calls: int
    concurrent_runs: int
    monthly_cost_usd: float
    weight: float


class RetentionChanges(TypedDict, total=False):
    """Retention to change, in seconds; 0: as long as the deployment says."""

    events_s: float
    backups_s: float
    runs_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What a tenant may have and do; 0 means what the deployment gives to every tenant."""

    vectors: int = 0
    """Records of vectors, chunks of documents among them."""
    bytes: int = 0
    """Of its vectors, with text, metadata and history."""
    dimensions: int = 0
    """Of a vector of a collection that is made from now on."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent_calls: int = 0
    concurrent_runs: int = 0
    monthly_cost_usd: float = 0.0
    weight: float = 1.0
    """Its share where calls queue, against 1 of every other tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRetention:
    """How long a tenant's things are kept, in seconds; None: as long as the deployment says."""

    events_s: float | None = None
    """Published events."""
    backups_s: float | None = None
    """Backups; the newest one stays."""
    runs_s: float | None = None
    """Journals of runs that belong to no session."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who data belongs to."""

    tenant_id: str
    display_name: str
    create_time: datetime | None
    isolation: str = "namespace"
    """How its vectors are kept apart."""
    status: TenantStatus = "active"
    """Whether it takes calls: `active`, `suspended`, `frozen`."""
    status_note: str = ""
    """Why it does not, in the operator's words."""
    limits: TenantLimits = field(default_factory=TenantLimits)
    retention: TenantRetention = field(default_factory=TenantRetention)
    default_provider: str = ""
    """As `provider/model`: asked where an agent names no model."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the operator wants to remember of it."""


@dataclass(frozen=True, slots=True)
class ErasedPart:
    """What became of one kind of a tenant's things in one process."""

    process: str
    """`gateway`, `runtime`, `vector` or `state`."""
    what: str
    erased_count: int
    left_count: int
    """How many there were when it was looked again."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class DeletionReceipt:
    """What was erased of a tenant."""

    receipt_id: str
    tenant_id: str
    begin_time: datetime | None
    end_time: datetime | None
    complete: bool
    """Whether nothing was left of any kind."""
    parts: tuple[ErasedPart, ...]


@dataclass(frozen=True, slots=True)
class DeletedTenant:
    """What went with a tenant."""

    item_count: int
    record_count: int
    key_count: int
    receipt: DeletionReceipt | None = None
    """What was erased in each store, looked at again."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without its secret."""

    key_id: str
    tenant_id: str
    roles: tuple[str, ...]
    display_name: str
    create_time: datetime | None
    row_filter: FilterMessage | None = None
    """Records that do not match do not exist for it."""
    scopes: tuple[str, ...] = ()
    """Permissions that it is narrowed to; none: all that its roles give."""
    expire_time: datetime | None = None
    """From then on it is refused; None: never."""
    last_use_time: datetime | None = None
    """To the minute; None: not yet."""
    previous_expire_time: datetime | None = None
    """Until when the secret before this one is taken too."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key with its secret: the only time that it is told."""

    key: str = field(repr=False)
    """The whole key."""
    api_key: ApiKey
    """What is kept of it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who the server takes the client for."""

    principal: str
    """The key's public part, or `operator`."""
    tenant_id: str
    """Acted for; empty where an operator named none."""
    permissions: tuple[str, ...]
    expire_time: datetime | None = None
    """When the credential ends; None: it does not by itself."""
