"""The operator: manages tenants, and sees the data of one only where it was let in.

What is managed needs no grant: tenants, keys, backups of everything, the vault, budgets. All else
is a tenant's data.
"""

from __future__ import annotations

from services.common.access import Method
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.tenants import tenant_not_found
from services.gateway.grants import Grants
from services.gateway.keys import OPERATOR_ID, Credential, Digests
from services.gateway.registry import Registry
from services.gateway.roles import OPERATOR_MANAGES, OPERATOR_READS_DATA


class Operator:
    """Knows the operator's key, and what it may do with which tenant."""

    def __init__(
        self,
        key: str,
        registry: Registry,
        grants: Grants,
        digests: Digests,
        *,
        own_tenants: frozenset[str] = frozenset(),
    ) -> None:
        """`key`: the whole key; empty: there is none. `own_tenants`: need no grant."""
        self._kept = (digests.of(key),) if key else ()
        self._registry = registry
        self._grants = grants
        self._digests = digests
        self._own_tenants = own_tenants

    def knows(self, credential: Credential) -> bool:
        """Whether this is its key."""
        return self._digests.fits(credential, self._kept)

    async def context(self, asked: str, request_id: str, method: Method) -> CallContext:
        """Its context for a call about the tenant that it asked for, empty for none.

        Raises:
            ServiceError: TENANT_NOT_FOUND, GRANT_REQUIRED.
        """
        if asked and await self._registry.tenant(asked) is None:
            if not method.tenantless:
                raise tenant_not_found(asked[:64])
            asked = ""  # a profile may name a tenant that is gone; managing tenants needs none
        manages = is_managing(method)
        permissions = OPERATOR_MANAGES
        if asked and not manages:
            permissions |= await self._let_in(asked, method)
        return CallContext(
            tenant=asked,
            principal=OPERATOR_ID,
            permissions=tuple(sorted(permissions)),
            any_tenant=manages,
            request_id=request_id,
        )

    async def _let_in(self, tenant: str, method: Method) -> frozenset[str]:
        if tenant in self._own_tenants:
            return frozenset({"*"})
        granted = await self._grants.permissions(OPERATOR_ID, tenant)
        if method.permission in granted:
            return granted
        raise ServiceError(
            Reason.GRANT_REQUIRED,
            f"The operator does not see the data of {tenant} unless it was let in: "
            f"`llmspell grant create {tenant} --reason WHY` does that for an hour, and it is in "
            "the audit log.",
            permission=method.permission,
            tenant_id=tenant,
        )


def is_managing(method: Method) -> bool:
    """Whether a method says nothing of what a tenant has stored."""
    if method.tenantless:
        return True
    return method.permission in OPERATOR_MANAGES and method.path not in OPERATOR_READS_DATA
