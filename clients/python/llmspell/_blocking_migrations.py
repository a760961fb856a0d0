"""Schemas and migrations of the blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llmspell import _migrations
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class MigrationCalls(BlockingCaller):
    """What a client does with schemas of items and their migrations."""

    def put_schema(
        self,
        name: str,
        version: str,
        *,
        fields: Iterable[t.SchemaField] = (),
        transforms: Iterable[t.Transform] = (),
        scope_pattern: str = "",
        key_prefix: str = "",
    ) -> t.StateSchema:
        """Put a version of a schema. The first one is current; a migration goes to a higher one.

        Args:
            name: Letters, digits, `_`, `.` and `-`.
            version: Three numbers, such as `1.2.0`.
            fields: What items have at this version.
            transforms: From the version before, in order; see `types.Transform`.
            scope_pattern: A scope, or `KIND:*`; empty: as in the version before.
            key_prefix: Only keys that begin so.

        Raises:
            InvalidArgument: FIELD_INVALID, TRANSFORM_INVALID.
            FailedPrecondition: MIGRATION_RUNNING.
        """
        call = _migrations.put_schema(
            name,
            version,
            fields=fields,
            transforms=transforms,
            scope_pattern=scope_pattern,
            key_prefix=key_prefix,
        )
        return self._unary(call)

    def get_schema(self, name: str) -> t.StateSchema:
        """A schema with its versions."""
        return self._unary(_migrations.get_schema(name))

    def list_schemas(self) -> Iterator[t.StateSchema]:
        """Schemas in order of name; pages come as they are needed."""
        return self._entries(_migrations.list_schemas())

    def delete_schema(self, name: str, *, version: str = "") -> int:
        """Remove a version that is not current, or all of a schema; how many versions."""
        return self._unary(_migrations.delete_schema(name, version))

    def plan_migration(
        self,
        schema: str,
        to_version: str = "",
        *,
        validation: t.MigrationValidation = "basic",
        samples: int = 3,
    ) -> t.MigrationPlan:
        """What a migration would do; nothing is changed. No version means the latest."""
        call = _migrations.plan_migration(
            schema, to_version, validation=validation, samples=samples
        )
        return self._unary(call)

    def start_migration(
        self,
        schema: str,
        to_version: str = "",
        *,
        validation: t.MigrationValidation = "basic",
        dry_run: bool = False,
        backup: bool = True,
    ) -> t.Migration:
        """Begin a migration; it goes on in the background. `get_migration` tells how it ends.

        Args:
            schema: Name of the schema.
            to_version: Where to; empty: the latest version.
            validation: What to check of each result.
            dry_run: Transform and check everything, and keep nothing.
            backup: Make a backup first.

        Raises:
            NotFound: SCHEMA_NOT_FOUND.
            FailedPrecondition: MIGRATION_RUNNING.
        """
        call = _migrations.start_migration(
            schema, to_version, validation=validation, dry_run=dry_run, backup=backup
        )
        return self._unary(call)

    def get_migration(self, migration_id: str, *, wait_s: float = 0) -> t.Migration:
        """How far a migration has come: now, or when it has ended, but within `wait_s` seconds."""
        return self._unary(_migrations.get_migration(migration_id, wait_s))

    def list_migrations(self) -> Iterator[t.Migration]:
        """The last migrations, the newest first; pages come as they are needed."""
        return self._entries(_migrations.list_migrations())

    def cancel_migration(self, migration_id: str) -> t.Migration:
        """End a migration; no item has changed then. One that has ended stays as it is."""
        return self._unary(_migrations.cancel_migration(migration_id))
