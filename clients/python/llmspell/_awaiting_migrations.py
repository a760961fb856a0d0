"""Schemas and migrations of the client for asyncio; `_blocking_migrations` says more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from llmspell import _migrations
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncMigrationCalls(AsyncCaller):
    """What a client does with schemas of items and their migrations."""

    async def put_schema(
        self,
        name: str,
        version: str,
        *,
        fields: Iterable[t.SchemaField] = (),
        transforms: Iterable[t.Transform] = (),
        scope_pattern: str = "",
        key_prefix: str = "",
    ) -> t.StateSchema:
        """Put a version of a schema. The first one is current; a migration goes to a higher one."""
        call = _migrations.put_schema(
            name,
            version,
            fields=fields,
            transforms=transforms,
            scope_pattern=scope_pattern,
            key_prefix=key_prefix,
        )
        return await self._unary(call)

    async def get_schema(self, name: str) -> t.StateSchema:
        """A schema with its versions."""
        return await self._unary(_migrations.get_schema(name))

    def list_schemas(self) -> AsyncIterator[t.StateSchema]:
        """Schemas in order of name; pages come as they are needed."""
        return self._entries(_migrations.list_schemas())

    async def delete_schema(self, name: str, *, version: str = "") -> int:
        """Remove a version that is not current, or all of a schema; how many versions."""
        return await self._unary(_migrations.delete_schema(name, version))

    async def plan_migration(
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
        return await self._unary(call)

    async def start_migration(
        self,
        schema: str,
        to_version: str = "",
        *,
        validation: t.MigrationValidation = "basic",
        dry_run: bool = False,
        backup: bool = True,
    ) -> t.Migration:
        """Begin a migration; it goes on in the background. `get_migration` tells how it ends."""
        call = _migrations.start_migration(
            schema, to_version, validation=validation, dry_run=dry_run, backup=backup
        )
        return await self._unary(call)

    async def get_migration(self, migration_id: str, *, wait_s: float = 0) -> t.Migration:
        """How far a migration has come: now, or when it has ended, but within `wait_s` seconds."""
        return await self._unary(_migrations.get_migration(migration_id, wait_s))

    def list_migrations(self) -> AsyncIterator[t.Migration]:
        """The last migrations, the newest first; pages come as they are needed."""
        return self._entries(_migrations.list_migrations())

    async def cancel_migration(self, migration_id: str) -> t.Migration:
        """End a migration; no item has changed then. One that has ended stays as it is."""
        return await self._unary(_migrations.cancel_migration(migration_id))
