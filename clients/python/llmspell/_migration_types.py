"""What the client gives and tells of schemas and migrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

FieldType: TypeAlias = Literal["string", "integer", "number", "boolean", "array", "object", "any"]
MigrationValidation: TypeAlias = Literal["none", "basic", "strict"]
MigrationStatus: TypeAlias = Literal["not_started", "running", "completed", "failed", "rolled_back"]
Transform: TypeAlias = Mapping[str, Mapping[str, Any]]
"""One name and its settings, such as `{"rename": {"source": "amount", "target": "total"}}`:

copy and rename: source, target · convert: field, type · default: field, value · remove: field ·
split: field, into, separator · merge: fields, into, separator · custom: name, lua
"""

NOTHING: Any = object()
"""No default: a default may be None, which is null."""


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One field of an item's JSON object."""

    name: str
    """Dots lead into objects."""
    type: FieldType = "any"
    required: bool = False
    default: Any = NOTHING
    """What a migration to this version puts where the field is absent."""


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of a schema."""

    version: str
    fields: Sequence[SchemaField]
    transforms: Sequence[Transform]
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class StateSchema:
    """A schema with its versions."""

    name: str
    scope_pattern: str
    key_prefix: str
    current_version: str
    versions: Sequence[SchemaVersion]
    """The lowest first."""


@dataclass(frozen=True, slots=True)
class MigrationFailure:
    """Why a migration failed."""

    reason: str
    message: str
    scope: str
    key: str
    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration."""

    migration_id: str
    """Empty where nothing had to be done."""
    schema: str
    from_version: str
    to_version: str
    versions: Sequence[str]
    validation: MigrationValidation
    dry_run: bool
    status: MigrationStatus
    staged: bool
    backup_id: str
    """Empty where none was made."""
    items_done: int
    items_total: int
    warnings: Sequence[str]
    errors: Sequence[MigrationFailure]
    create_time: datetime | None
    end_time: datetime | None
    revision: int


@dataclass(frozen=True, slots=True)
class MigrationSample:
    """An item as a migration would leave it."""

    scope: str
    key: str
    before: Any
    after: Any
    """None where it cannot be transformed; `rule` then says why."""
    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a migration would do."""

    migration: Migration
    size_bytes: int
    samples: Sequence[MigrationSample]
