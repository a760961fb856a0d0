"""The schemas of all tenants.

A schema has a name and says of which items it tells: those of a scope, or of all scopes of a kind,
whose keys begin with a prefix. An item is of one schema at most. Its versions rise; one of them is
the current one, at which those items are. The first one put is current; another becomes so by a
migration and by nothing else.

Whoever writes an item is not held to a schema: what does not fit is found by the next migration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import SCHEMA_VERSIONS_MAX, SCHEMAS_MAX
from services.common.view import View
from services.state import rules as state_rules
from services.state.layout import MIGRATIONS, SCHEMAS, tenant_prefix
from services.state.layout import migrations as layout
from services.state.layout.items import ChangeKind
from services.state.migrations import rules
from services.state.migrations.model import Family, Migration, Schema
from services.state.step import Keeper, Step

_FAMILY = msgspec.json.Decoder(Family)
_SCHEMA = msgspec.json.Decoder(Schema)
_MIGRATION = msgspec.json.Decoder(Migration)


@dataclass(frozen=True, slots=True)
class Versions:
    """A schema with all its versions, in order."""

    family: Family
    schemas: tuple[Schema, ...]

    @property
    def latest(self) -> str:
        """The highest version."""
        return self.schemas[-1].version

    def schema(self, version: str) -> Schema:
        """One version.

        Raises:
            ServiceError: SCHEMA_NOT_FOUND.
        """
        for schema in self.schemas:
            if schema.version == version:
                return schema
        raise schema_not_found(self.family.name, version)

    def after_current(self) -> tuple[Schema, ...]:
        """The versions that a migration can go to."""
        current = rules.order(self.family.current)
        return tuple(each for each in self.schemas if rules.order(each.version) > current)


class Schemas:
    """Schemas of all tenants."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def put(self, tenant: str, family: Family, schema: Schema) -> Versions:
        """Put a version. The first one is current at once; `family.current` is not looked at.

        A version that no migration has gone to yet may be put again with other fields; the same
        once more changes nothing.

        Raises:
            ServiceError: FIELD_INVALID, TRANSFORM_INVALID, LIMIT_EXCEEDED, MIGRATION_RUNNING.
        """
        rules.check_place(tenant, family.name)
        prefix = state_rules.normal_prefix(family.key_prefix, "key_prefix")
        family = msgspec.structs.replace(family, key_prefix=prefix)
        return await self._keeper.step(lambda step: _put(step, tenant, family, schema), grows=True)

    async def get(self, tenant: str, name: str) -> Versions:
        """A schema with its versions.

        Raises:
            ServiceError: SCHEMA_NOT_FOUND.
        """
        rules.check_place(tenant, name)
        with self._keeper.engine.read() as view:
            return read_versions(view, tenant, name)

    async def list(self, tenant: str, *, limit: int, after: str = "") -> list[Versions]:
        """Up to `limit` schemas in order of name, after one."""
        state_rules.check_place(tenant, "global")
        with self._keeper.engine.read() as view:
            names = [each.name for each in families(view, tenant) if each.name > after]
            return [read_versions(view, tenant, name) for name in names[:limit]]

    async def delete(self, tenant: str, name: str, version: str = "") -> int:
        """Remove a version that is not current, or, without one, all of a schema; how many.

        Items stay as they are. A version between the current one and a later one stays, since the
        later one's transforms begin at it.

        Raises:
            ServiceError: FIELD_INVALID, MIGRATION_RUNNING. What is not there counts 0.
        """
        rules.check_place(tenant, name)
        if version:
            rules.check_version(version)
        return await self._keeper.step(lambda step: _delete(step, tenant, name, version))


def families(view: View, tenant: str) -> Iterator[Family]:
    """A tenant's schemas in order of name, without their versions."""
    for key, stored in view.scan(SCHEMAS, tenant_prefix(tenant)):
        if layout.is_family_key(key):
            yield _FAMILY.decode(stored)


def read_versions(view: View, tenant: str, name: str) -> Versions:
    """A schema with its versions.

    Raises:
        ServiceError: SCHEMA_NOT_FOUND.
    """
    place = layout.family_key(tenant, name)
    found = list(view.scan(SCHEMAS, place))
    if not found or found[0][0] != place:
        raise schema_not_found(name)
    schemas = tuple(_SCHEMA.decode(stored) for _, stored in found[1:])
    return Versions(_FAMILY.decode(found[0][1]), schemas)


def write_current(step: Step, tenant: str, name: str, version: str) -> None:
    """Say that a schema's items are at another version. Only a migration does."""
    family = read_versions(step.txn, tenant, name).family
    moved = msgspec.structs.replace(family, current=version)
    step.txn.put(SCHEMAS, layout.family_key(tenant, name), msgspec.json.encode(moved))


def running_migration(view: View, tenant: str) -> Migration | None:
    """A tenant's migration that has not ended."""
    for _, stored in view.back(MIGRATIONS, tenant_prefix(tenant)):
        migration = _MIGRATION.decode(stored)
        if migration.running:
            return migration
    return None


def check_idle(view: View, tenant: str) -> None:
    """Refuse while a migration of the tenant runs.

    Raises:
        ServiceError: MIGRATION_RUNNING.
    """
    running = running_migration(view, tenant)
    if running is not None:
        raise ServiceError(
            Reason.MIGRATION_RUNNING,
            f"Migration {running.migration_id} of schema {running.schema!r} runs. Wait for its "
            "end, or cancel it.",
            migration_id=running.migration_id,
            schema=running.schema,
        )


def schema_not_found(name: str, version: str = "") -> ServiceError:
    """There is no such schema, or no such version of it."""
    what = f"version {version} of schema {name!r}" if version else f"schema {name!r}"
    return ServiceError(
        Reason.SCHEMA_NOT_FOUND, f"There is no {what}.", schema=name, version=version
    )


def _put(step: Step, tenant: str, family: Family, schema: Schema) -> Versions:
    check_idle(step.txn, tenant)
    try:
        before = read_versions(step.txn, tenant, family.name)
    except ServiceError as error:
        if error.reason != Reason.SCHEMA_NOT_FOUND:
            raise
        return _put_first(step, tenant, family, schema)
    _check_same_items(before.family, family)
    is_first = schema.version == before.schemas[0].version
    rules.check_schema(schema, is_first=is_first)
    schema = msgspec.structs.replace(schema, create_time_ns=step.now_ns)
    others = _others(before, schema)
    if others is None:
        return before
    _write(step, tenant, family.name, schema)
    return Versions(before.family, (*others, schema))


def _others(before: Versions, schema: Schema) -> tuple[Schema, ...] | None:
    """The versions before the one that is put; None where it is there already, just so.

    Raises:
        ServiceError: FIELD_INVALID where it cannot be put there, LIMIT_EXCEEDED.
    """
    others = before.schemas
    if schema.version == before.latest:
        old = others[-1]
        if msgspec.structs.replace(schema, create_time_ns=old.create_time_ns) == old:
            return None
        if schema.version == before.family.current:
            raise field_invalid("version", "is current and cannot be changed; put a higher one")
        return others[:-1]
    if rules.order(schema.version) <= rules.order(before.latest):
        raise field_invalid("version", f"must be higher than {before.latest}")
    if len(others) >= SCHEMA_VERSIONS_MAX:
        raise limit_exceeded("versions", len(others) + 1, SCHEMA_VERSIONS_MAX)
    return others


def _put_first(step: Step, tenant: str, family: Family, schema: Schema) -> Versions:
    rules.check_schema(schema, is_first=True)
    pattern = rules.check_pattern(family.scope_pattern)
    family = msgspec.structs.replace(family, scope_pattern=pattern, current=schema.version)
    there = list(families(step.txn, tenant))
    if len(there) >= SCHEMAS_MAX:
        raise limit_exceeded("schemas", len(there) + 1, SCHEMAS_MAX)
    for other in there:
        if rules.overlap(family, other):
            rule = f"overlaps schema {other.name!r}, and an item is of one schema at most"
            raise field_invalid("scope_pattern", rule)
    schema = msgspec.structs.replace(schema, create_time_ns=step.now_ns)
    place = layout.family_key(tenant, family.name)
    step.txn.put(SCHEMAS, place, msgspec.json.encode(family))
    _write(step, tenant, family.name, schema)
    return Versions(family, (schema,))


def _check_same_items(old: Family, new: Family) -> None:
    if new.scope_pattern and rules.check_pattern(new.scope_pattern) != old.scope_pattern:
        raise field_invalid("scope_pattern", f"must stay {old.scope_pattern} in all versions")
    if new.key_prefix and new.key_prefix != old.key_prefix:
        raise field_invalid("key_prefix", "must be the same in all versions")


def _write(step: Step, tenant: str, name: str, schema: Schema) -> None:
    place = layout.schema_key(tenant, name, schema.version)
    step.txn.put(SCHEMAS, place, msgspec.json.encode(schema))
    step.change(ChangeKind.SCHEMA_PUT, tenant, "", f"{name}@{schema.version}")


def _delete(step: Step, tenant: str, name: str, version: str) -> int:
    try:
        versions = read_versions(step.txn, tenant, name)
        schema = versions.schema(version) if version else None
    except ServiceError as error:
        if error.reason != Reason.SCHEMA_NOT_FOUND:
            raise
        return 0
    check_idle(step.txn, tenant)
    if schema is None:
        step.change(ChangeKind.SCHEMA_DELETED, tenant, "", name)
        step.txn.delete_prefix(SCHEMAS, layout.family_key(tenant, name))
        return len(versions.schemas)
    if version == versions.family.current:
        raise field_invalid("version", "is current and stays")
    if schema in versions.after_current()[:-1]:
        raise field_invalid("version", "has a later one, whose transforms begin at it")
    step.change(ChangeKind.SCHEMA_DELETED, tenant, "", f"{name}@{version}")
    step.txn.delete(SCHEMAS, layout.schema_key(tenant, name, version))
    return 1
