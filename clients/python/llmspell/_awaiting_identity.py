"""Keys, tokens and grants, of the async client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from llmspell import _identity
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncIdentityCalls(AsyncCaller):
    """What a client does with credentials."""

    async def rotate_key(
        self,
        key_id: str,
        *,
        overlap_s: float | None = None,
        expire_time: datetime | None = None,
    ) -> t.CreatedKey:
        """Give a key a new secret; the one before is taken for `overlap_s` more seconds.

        Args:
            key_id: Public part of the key.
            overlap_s: A day where it is None; 0 ends the secret before at once.
            expire_time: When the key ends from now on; None: when it did.

        Raises:
            NotFound: KEY_NOT_FOUND.
        """
        return await self._unary(_identity.rotate_key(key_id, overlap_s, expire_time))

    async def exchange_token(
        self,
        *,
        scopes: Iterable[str] = (),
        audience: Iterable[str] = (),
        lifetime_s: float | None = None,
    ) -> t.Token:
        """A token that says what this client's key says, for a few minutes.

        Args:
            scopes: Permissions such as `vector.read`, which the key has; none: all of them.
            audience: `gateway`, `runtime`, `vector`, `state`; none: every process takes it.
            lifetime_s: At most 300, which None means.
        """
        return await self._unary(_identity.exchange_token(scopes, audience, lifetime_s))

    async def grant_access(
        self,
        tenant_id: str,
        *,
        reason: str,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        duration_s: float | None = None,
    ) -> t.Grant:
        """Let the operator at a tenant's data for a while; the operator's call.

        Args:
            tenant_id: Whose data.
            reason: Why; it is in the audit log.
            roles: `reader` where none is given.
            scopes: Permissions of those roles; none: all of them.
            duration_s: An hour where it is None, a day at most.
        """
        call = _identity.grant_access(tenant_id, reason, roles, scopes, duration_s)
        return await self._unary(call)

    def list_grants(self, tenant_id: str = "") -> AsyncIterator[t.Grant]:
        """What the operator was let at, newest first for each tenant; the operator's call."""
        return self._entries(_identity.list_grants(tenant_id))

    async def end_grant(self, tenant_id: str, grant_id: str = "") -> int:
        """End a grant, or all of a tenant; how many ended. The operator's call."""
        return await self._unary(_identity.end_grant(tenant_id, grant_id))
