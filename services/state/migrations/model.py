"""Schemas, transforms and migrations, as they are kept: JSON of these structures.

Times are nanoseconds since the Unix epoch. A version is the text `x.y.z`. Paths are names joined
by dots. Whatever is JSON travels and is kept as its text, so that no digit of a number is lost.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FieldType(StrEnum):
    """What a field may hold."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    ARRAY = "array"
    OBJECT = "object"
    ANY = "any"


class Field(msgspec.Struct, frozen=True):
    """One field of an item's JSON object."""

    path: str
    type: FieldType
    required: bool = False
    default_json: str = ""
    """Put where a migration to this version leaves the field absent; empty: nothing is."""


class Copy(msgspec.Struct, frozen=True, tag_field="kind", tag="copy"):
    """Put what is at one path at another one too."""

    source: str
    target: str


class Rename(msgspec.Struct, frozen=True, tag_field="kind", tag="rename"):
    """Move what is at one path to another one."""

    source: str
    target: str


class Convert(msgspec.Struct, frozen=True, tag_field="kind", tag="convert"):
    """Make another type of a value."""

    path: str
    type: FieldType


class Default(msgspec.Struct, frozen=True, tag_field="kind", tag="default"):
    """Put a value where there is none."""

    path: str
    value_json: str


class Remove(msgspec.Struct, frozen=True, tag_field="kind", tag="remove"):
    """Take a value away."""

    path: str


class Split(msgspec.Struct, frozen=True, tag_field="kind", tag="split"):
    """Cut a text into several; the text goes."""

    path: str
    into: tuple[str, ...]
    separator: str


class Merge(msgspec.Struct, frozen=True, tag_field="kind", tag="merge"):
    """Join several texts into one; they go."""

    paths: tuple[str, ...]
    into: str
    separator: str


class Custom(msgspec.Struct, frozen=True, tag_field="kind", tag="custom"):
    """A function in Lua, which takes the document and gives another one."""

    name: str
    source: str


Transform = Copy | Rename | Convert | Default | Remove | Split | Merge | Custom


class Family(msgspec.Struct, frozen=True):
    """A schema of all its versions: which items it is about, and at which version they are."""

    name: str
    scope_pattern: str
    """A scope, or `KIND:*`."""
    key_prefix: str
    current: str


class Schema(msgspec.Struct, frozen=True):
    """One version of a schema."""

    version: str
    fields: tuple[Field, ...]
    transforms: tuple[Transform, ...]
    """From the version before this one; done in order."""
    create_time_ns: int


class Validation(StrEnum):
    """What is checked of each result."""

    NONE = "none"
    """That it is a JSON object."""
    BASIC = "basic"
    """And that required fields are there, and fields have their types."""
    STRICT = "strict"
    """And that there are no other fields; and what was written is read again and compared."""


class Status(StrEnum):
    """Where a migration stands."""

    NOT_STARTED = "not_started"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class Failure(msgspec.Struct, frozen=True):
    """Why a migration failed."""

    reason: int
    message: str
    scope: str = ""
    key: str = ""
    path: str = ""
    rule: str = ""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One migration and how far it has come."""

    migration_id: str
    schema: str
    from_version: str
    to_version: str
    versions: tuple[str, ...]
    """Those it goes through, the last one included."""
    validation: Validation
    dry_run: bool
    status: Status
    backup: bool = False
    """Whether one is still to be made first."""
    backup_id: str = ""
    measured: bool = False
    staged: bool = False
    """Whether results are made ready in slices first."""
    cursor: str = ""
    """Hex of the last place made ready."""
    ready: bool = False
    """Whether all are."""
    items_done: int = 0
    items_total: int = 0
    warnings: tuple[str, ...] = ()
    errors: tuple[Failure, ...] = ()
    create_time_ns: int = 0
    end_time_ns: int = 0
    revision: int = 0
    """That of the results; 0 where there are none."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status is Status.RUNNING
