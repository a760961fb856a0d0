"""MigrationService: messages to values, one call of schemas or migrations, values to messages."""

from __future__ import annotations

from llmspell.v1 import migration_pb2 as pb
from llmspell.v1 import migration_pb2_grpc

from services.common.context import current_tenant
from services.common.errors import required
from services.common.paging import PageTokens, page_size
from services.state.migrations.migrations import Migrations
from services.state.migrations.model import Family
from services.state.migrations.schemas import Schemas
from services.state.servicers import migration_messages as messages


class MigrationServicer(migration_pb2_grpc.MigrationServiceServicer):
    """Answers from one engine."""

    def __init__(self, schemas: Schemas, migrations: Migrations, page_tokens: PageTokens) -> None:
        self._schemas = schemas
        self._migrations = migrations
        self._page_tokens = page_tokens

    async def PutSchema(  # noqa: N802  (the contract's name)
        self, request: pb.PutSchemaRequest, context: object
    ) -> pb.PutSchemaResponse:
        """Put a version."""
        del context
        if not request.HasField("version"):
            raise required("version")
        family = Family(request.name, request.scope_pattern, request.key_prefix, "")
        schema = messages.read_schema(request.version)
        versions = await self._schemas.put(current_tenant(), family, schema)
        return pb.PutSchemaResponse(schema=messages.write_schema(versions))

    async def GetSchema(  # noqa: N802
        self, request: pb.GetSchemaRequest, context: object
    ) -> pb.GetSchemaResponse:
        """One schema."""
        del context
        versions = await self._schemas.get(current_tenant(), request.name)
        return pb.GetSchemaResponse(schema=messages.write_schema(versions))

    async def ListSchemas(  # noqa: N802
        self, request: pb.ListSchemasRequest, context: object
    ) -> pb.ListSchemasResponse:
        """A page of schemas."""
        del context
        limit, bound_to = page_size(request.page_size), f"ListSchemas\0{current_tenant()}"
        after = self._cursor(request.page_token, bound_to)
        found = await self._schemas.list(current_tenant(), limit=limit + 1, after=after)
        answer = pb.ListSchemasResponse(schemas=map(messages.write_schema, found[:limit]))
        if len(found) > limit:
            cursor = found[limit - 1].family.name.encode()
            answer.next_page_token = self._page_tokens.seal(bound_to, cursor)
        return answer

    async def DeleteSchema(  # noqa: N802
        self, request: pb.DeleteSchemaRequest, context: object
    ) -> pb.DeleteSchemaResponse:
        """Remove a version, or all."""
        del context
        deleted = await self._schemas.delete(current_tenant(), request.name, request.version)
        return pb.DeleteSchemaResponse(deleted_count=deleted)

    async def PlanMigration(  # noqa: N802
        self, request: pb.PlanMigrationRequest, context: object
    ) -> pb.PlanMigrationResponse:
        """What would be done."""
        del context
        order = messages.read_order(request)
        plan = await self._migrations.plan(current_tenant(), order, samples=request.sample_count)
        return messages.write_plan(plan, order)

    async def StartMigration(  # noqa: N802
        self, request: pb.StartMigrationRequest, context: object
    ) -> pb.StartMigrationResponse:
        """Begin one."""
        del context
        started = await self._migrations.start(current_tenant(), messages.read_order(request))
        return pb.StartMigrationResponse(migration=messages.write_migration(started))

    async def GetMigration(  # noqa: N802
        self, request: pb.GetMigrationRequest, context: object
    ) -> pb.GetMigrationResponse:
        """One migration."""
        del context
        wait_s = request.wait.seconds + request.wait.nanos / 1e9
        found = await self._migrations.get(current_tenant(), request.migration_id, wait_s=wait_s)
        return pb.GetMigrationResponse(migration=messages.write_migration(found))

    async def ListMigrations(  # noqa: N802
        self, request: pb.ListMigrationsRequest, context: object
    ) -> pb.ListMigrationsResponse:
        """A page of migrations."""
        del context
        limit, bound_to = page_size(request.page_size), f"ListMigrations\0{current_tenant()}"
        before = self._cursor(request.page_token, bound_to)
        found = await self._migrations.list(current_tenant(), limit=limit + 1, before=before)
        answer = pb.ListMigrationsResponse(migrations=map(messages.write_migration, found[:limit]))
        if len(found) > limit:
            cursor = found[limit - 1].migration_id.encode()
            answer.next_page_token = self._page_tokens.seal(bound_to, cursor)
        return answer

    async def CancelMigration(  # noqa: N802
        self, request: pb.CancelMigrationRequest, context: object
    ) -> pb.CancelMigrationResponse:
        """End one."""
        del context
        ended = await self._migrations.cancel(current_tenant(), request.migration_id)
        return pb.CancelMigrationResponse(migration=messages.write_migration(ended))

    def _cursor(self, token: str, bound_to: str) -> str:
        return self._page_tokens.open(token, bound_to).decode() if token else ""
