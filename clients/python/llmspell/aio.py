"""The client for asyncio: the same methods as `llmspell.client`, whose docstrings say more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from datetime import datetime

from llmspell import _interact, _scripts, _tenants
from llmspell import types as t
from llmspell._awaiting_agents import AsyncAgentCalls
from llmspell._awaiting_artifacts import AsyncArtifactCalls
from llmspell._awaiting_audit import AsyncAuditCalls
from llmspell._awaiting_backups import AsyncBackupCalls
from llmspell._awaiting_events import AsyncEventCalls
from llmspell._awaiting_identity import AsyncIdentityCalls
from llmspell._awaiting_journals import AsyncJournalCalls
from llmspell._awaiting_migrations import AsyncMigrationCalls
from llmspell._awaiting_policies import AsyncPolicyCalls
from llmspell._awaiting_providers import AsyncProviderCalls
from llmspell._awaiting_runs import AsyncRunCalls
from llmspell._awaiting_sessions import AsyncSessionCalls
from llmspell._awaiting_state import AsyncStateCalls
from llmspell._awaiting_templates import AsyncTemplateCalls
from llmspell._awaiting_tenants import AsyncTenantCalls
from llmspell._awaiting_tools import AsyncToolCalls
from llmspell._awaiting_usage import AsyncUsageCalls
from llmspell._awaiting_vault import AsyncVaultCalls
from llmspell._awaiting_vectors import AsyncVectorCalls
from llmspell._awaiting_workflows import AsyncWorkflowCalls


class AsyncClient(
    AsyncAgentCalls,
    AsyncArtifactCalls,
    AsyncAuditCalls,
    AsyncBackupCalls,
    AsyncEventCalls,
    AsyncIdentityCalls,
    AsyncJournalCalls,
    AsyncRunCalls,
    AsyncSessionCalls,
    AsyncMigrationCalls,
    AsyncStateCalls,
    AsyncTenantCalls,
    AsyncToolCalls,
    AsyncPolicyCalls,
    AsyncProviderCalls,
    AsyncTemplateCalls,
    AsyncUsageCalls,
    AsyncVaultCalls,
    AsyncVectorCalls,
    AsyncWorkflowCalls,
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
        journal: bool | None = None,
    ) -> AsyncGenerator[t.RunEvent, None]:
        """Run a script; its events as they happen, `RunResult` last."""
        call = _scripts.run(
            source,
            name=name,
            args=args,
            named=named,
            limits=limits,
            session=session,
            journal=journal,
        )
        return self._stream(call)

    async def interact(
        self,
        inputs: t.InteractInputs,
        *,
        name: str = "",
        args: Iterable[str] = (),
        named: Mapping[str, str] | None = None,
        session: str = "",
    ) -> AsyncGenerator[t.InteractEvent, None]:
        """Run Lua piece by piece in one worker; what a piece leaves is there for the next."""
        start = _interact.start(name, args, named, session)
        async for event in self._exchange(_interact.awaited(start, inputs)):
            if event is not None:
                yield event

    async def check(self, source: str, *, name: str = "") -> None:
        """Compile a script without running it; InvalidArgument where it does not compile."""
        await self._unary(_scripts.check(source, name))

    # Tenants and processes.

    async def create_key(
        self,
        tenant_id: str,
        *,
        roles: Iterable[str] = (),
        display_name: str = "",
        row_filter: t.Filter | None = None,
        scopes: Iterable[str] = (),
        expire_time: datetime | None = None,
    ) -> t.CreatedKey:
        """Make a key with the roles `reader`, `writer` or `admin` (none given)."""
        call = _tenants.create_key(
            tenant_id, roles, display_name, row_filter, scopes=scopes, expire_time=expire_time
        )
        return await self._unary(call)

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

    async def metrics(self) -> dict[str, str]:
        """What each process counts and measures, in Prometheus's text format; empty: it is away."""
        return await self._unary(_tenants.metrics())
