"""The client for asyncio: the same methods as `llmspell.client`, whose docstrings say more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

from llmspell import _scripts, _tenants
from llmspell import types as t
from llmspell._awaiting_artifacts import AsyncArtifactCalls
from llmspell._awaiting_backups import AsyncBackupCalls
from llmspell._awaiting_events import AsyncEventCalls
from llmspell._awaiting_journals import AsyncJournalCalls
from llmspell._awaiting_migrations import AsyncMigrationCalls
from llmspell._awaiting_sessions import AsyncSessionCalls
from llmspell._awaiting_state import AsyncStateCalls
from llmspell._awaiting_vault import AsyncVaultCalls
from llmspell._awaiting_vectors import AsyncVectorCalls


class AsyncClient(
    AsyncArtifactCalls,
    AsyncBackupCalls,
    AsyncEventCalls,
    AsyncJournalCalls,
    AsyncSessionCalls,
    AsyncMigrationCalls,
    AsyncStateCalls,
    AsyncVaultCalls,
    AsyncVectorCalls,
):
    """A connection to a gateway, as one caller; belongs to one event loop.

    Example:
        async with AsyncClient("127.0.0.1:50060", "llms_…") as client:
            await client.set_state("answer", 42)
            async for item in client.list_state():
                print(item.key)
    """

    # Scripts.

    def run(
        self,
        source: str,
        *,
        name: str = "",
        args: Iterable[str] = (),
        named: Mapping[str, str] | None = None,
        limits: t.RunLimits | None = None,
        session: str = "",
    ) -> AsyncGenerator[t.RunEvent, None]:
        """Run a script; its events as they happen, `RunResult` last."""
        call = _scripts.run(
            source, name=name, args=args, named=named, limits=limits, session=session
        )
        return self._stream(call)

    async def check(self, source: str, *, name: str = "") -> None:
        """Compile a script without running it; InvalidArgument where it does not compile."""
        await self._unary(_scripts.check(source, name))

    # Tenants and processes.

    async def create_tenant(
        self, tenant_id: str, *, display_name: str = "", isolation: t.Isolation = "namespace"
    ) -> t.Tenant:
        """Make a tenant; the operator's call, like all that follow on tenants and keys."""
        return await self._unary(_tenants.create_tenant(tenant_id, display_name, isolation))

    async def get_tenant(self, tenant_id: str) -> t.Tenant:
        """One tenant."""
        return await self._unary(_tenants.get_tenant(tenant_id))

    def list_tenants(self) -> AsyncIterator[t.Tenant]:
        """All tenants in order of id; pages come as they are needed."""
        return self._entries(_tenants.list_tenants())

    async def delete_tenant(self, tenant_id: str) -> t.DeletedTenant:
        """Remove a tenant, its keys and everything it has stored."""
        return await self._unary(_tenants.delete_tenant(tenant_id))

    async def create_key(
        self,
        tenant_id: str,
        *,
        roles: Iterable[str] = (),
        display_name: str = "",
        row_filter: t.Filter | None = None,
    ) -> t.CreatedKey:
        """Make a key with the roles `reader`, `writer` or `admin` (none given)."""
        return await self._unary(_tenants.create_key(tenant_id, roles, display_name, row_filter))

    def list_keys(self, tenant_id: str) -> AsyncIterator[t.ApiKey]:
        """A tenant's keys without their secrets; pages come as they are needed."""
        return self._entries(_tenants.list_keys(tenant_id))

    async def revoke_key(self, key_id: str) -> bool:
        """End a key; whether there was one."""
        return await self._unary(_tenants.revoke_key(key_id))

    async def who_am_i(self) -> t.Caller:
        """Who the server takes this client for, and what it may."""
        return await self._unary(_tenants.who_am_i())

    async def processes(self) -> list[t.ProcessStatus]:
        """The gateway and the processes behind it."""
        return await self._unary(_tenants.processes())
