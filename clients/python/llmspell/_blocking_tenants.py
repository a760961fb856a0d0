"""Tenants, of the blocking client: the operator's calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from llmspell import _tenants
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class TenantCalls(BlockingCaller):
    """What the operator does with tenants."""

    def create_tenant(
        self,
        tenant_id: str,
        *,
        display_name: str = "",
        isolation: t.Isolation = "namespace",
        limits: t.LimitChanges | None = None,
        retention: t.RetentionChanges | None = None,
        default_provider: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> t.Tenant:
        """Make a tenant; the operator's call, like all that follow on tenants and keys.

        Args:
            tenant_id: Lower-case letters, digits, `_`, `-`; at most 63.
            display_name: For people.
            isolation: How its vectors are kept apart; cannot be changed later.
            limits: What it may have and do, such as `{"vectors": 10_000}`.
            retention: How long what it has is kept, such as `{"events_s": 3600}`.
            default_provider: `provider/model` that is asked where an agent names no model.
            metadata: What the operator wants to remember of it.
        """
        return self._unary(
            _tenants.create_tenant(
                tenant_id,
                display_name=display_name,
                isolation=isolation,
                limits=limits,
                retention=retention,
                default_provider=default_provider,
                metadata=metadata,
            )
        )

    def get_tenant(self, tenant_id: str) -> t.Tenant:
        """One tenant."""
        return self._unary(_tenants.get_tenant(tenant_id))

    def list_tenants(self) -> Iterator[t.Tenant]:
        """All tenants in order of id; pages come as they are needed."""
        return self._entries(_tenants.list_tenants())

    def update_tenant(
        self,
        tenant_id: str,
        *,
        display_name: str | None = None,
        limits: t.LimitChanges | None = None,
        retention: t.RetentionChanges | None = None,
        default_provider: str | None = None,
        metadata: Mapping[str, str] | None = None,
        removed_metadata: Iterable[str] = (),
    ) -> t.Tenant:
        """Change what is given, and nothing else; limits hold everywhere within a second.

        In `limits` and `retention` 0 means the deployment's own. `metadata` is put beside what
        there is; `removed_metadata` names entries to take away.
        """
        return self._unary(
            _tenants.update_tenant(
                tenant_id,
                display_name=display_name,
                limits=limits,
                retention=retention,
                default_provider=default_provider,
                metadata=metadata,
                removed_metadata=removed_metadata,
            )
        )

    def suspend_tenant(self, tenant_id: str, *, note: str = "") -> t.Tenant:
        """Refuse a tenant's calls and end what runs; its callers are told the note."""
        return self._unary(_tenants.suspend_tenant(tenant_id, note))

    def resume_tenant(self, tenant_id: str) -> t.Tenant:
        """Take the calls of a suspended or frozen tenant again."""
        return self._unary(_tenants.resume_tenant(tenant_id))

    def freeze_tenant(self, tenant_id: str, *, note: str = "") -> t.Tenant:
        """Lay a tenant in the cold: it can be exported, and takes no memory."""
        return self._unary(_tenants.freeze_tenant(tenant_id, note))

    def delete_tenant(self, tenant_id: str) -> t.DeletedTenant:
        """Remove a tenant, its keys and everything it has stored; the receipt says what."""
        return self._unary(_tenants.delete_tenant(tenant_id))

    def get_deletion_receipt(self, tenant_id: str, receipt_id: str = "") -> t.DeletionReceipt:
        """What was erased of a tenant that was removed; the last of that name, or this one.

        Raises:
            NotFound: RECEIPT_NOT_FOUND.
        """
        return self._unary(_tenants.deletion_receipt(tenant_id, receipt_id))
