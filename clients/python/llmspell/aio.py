"""The client for asyncio: the same methods as `llmspell.client`, whose docstrings say more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any

from llmspell import _scripts, _state, _tenants
from llmspell import types as t
from llmspell._awaiting_vectors import AsyncVectorCalls
from llmspell.errors import NotFound


class AsyncClient(AsyncVectorCalls):
    """A connection to a gateway, as one caller; belongs to one event loop.

    Example:
        async with AsyncClient("127.0.0.1:50060", "llms_…") as client:
            await client.set_state("answer", 42)
            async for item in client.list_state():
                print(item.key)
    """

    # State.

    async def get_state(self, key: str, *, scope: str = "global") -> t.Item | None:
        """One item; None where there is none."""
        try:
            return await self._unary(_state.get_state(key, scope))
        except NotFound as error:
            if error.reason != "ITEM_NOT_FOUND":
                raise
            return None

    async def set_state(
        self,
        key: str,
        value: Any,
        *,
        scope: str = "global",
        ttl_s: float | None = None,
        text: bool = False,
        if_revision: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> int:
        """Write one item; its new revision."""
        item = t.SetItem(key, value, scope, ttl_s, text)
        return await self._unary(
            _state.set_state(
                item, if_revision=if_revision, if_absent=if_absent, if_present=if_present
            )
        )

    async def delete_state(
        self, key: str, *, scope: str = "global", if_revision: int | None = None
    ) -> bool:
        """Remove one item; whether it was there."""
        return await self._unary(_state.delete_state(key, scope, if_revision=if_revision))

    async def increment_state(
        self, key: str, by: float = 1, *, scope: str = "global"
    ) -> int | float:
        """Add to a number, where none counts as 0; the sum."""
        return await self._unary(_state.increment_state(key, by, scope))

    def list_state(
        self, prefix: str = "", *, scope: str = "global", keys_only: bool = False
    ) -> AsyncIterator[t.Item]:
        """Items whose keys begin with `prefix`, in order of key; pages come as they are needed."""
        return self._entries(_state.list_state(prefix, scope, keys_only=keys_only))

    async def batch(
        self, operations: Iterable[t.CheckItem | t.SetItem | t.DeleteItem]
    ) -> t.BatchResult:
        """Checks and writes, all or nothing; at most 256."""
        return await self._unary(_state.batch(operations))

    # Scripts.

    def run(
        self,
        source: str,
        *,
        name: str = "",
        args: Iterable[str] = (),
        named: Mapping[str, str] | None = None,
        limits: t.RunLimits | None = None,
    ) -> AsyncGenerator[t.RunEvent, None]:
        """Run a script; its events as they happen, `RunResult` last."""
        call = _scripts.run(source, name=name, args=args, named=named, limits=limits)
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
