"""Policies, of the blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llmspell import _policies
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class PolicyCalls(BlockingCaller):
    """What an operator does with policies: what callers may, beyond what their roles say."""

    def set_policy(self, policy: t.Policy, *, expected_version: int | None = None) -> t.Policy:
        """Make a policy, or a new version of it; it holds everywhere within a second.

        Args:
            policy: The whole of it.
            expected_version: Only where this is the version that is there, 0 for none.

        Raises:
            Aborted: POLICY_CHANGED.
        """
        return self._unary(_policies.set_policy(policy, expected_version=expected_version))

    def get_policy(self, tenant_id: str, subject: str, *, version: int = 0) -> t.Policy:
        """A policy, or an earlier version of it.

        Raises:
            NotFound: POLICY_NOT_FOUND.
        """
        return self._unary(_policies.get_policy(tenant_id, subject, version=version))

    def list_policies(self, tenant_id: str = "") -> Iterator[t.Policy]:
        """All policies, or those about a tenant; pages come as they are needed."""
        return self._entries(_policies.list_policies(tenant_id))

    def list_policy_versions(self, tenant_id: str, subject: str) -> Iterator[t.Policy]:
        """The versions of a policy, the oldest first."""
        return self._entries(_policies.list_policy_versions(tenant_id, subject))

    def delete_policy(self, tenant_id: str, subject: str) -> bool:
        """End a policy; whether there was one. Its versions stay."""
        return self._unary(_policies.delete_policy(tenant_id, subject))

    def test_policy(
        self,
        tenant_id: str,
        method: str,
        *,
        roles: Iterable[str] = (),
        key_id: str = "",
        scopes: Iterable[str] = (),
        dimension: int = 0,
        candidate: t.Policy | None = None,
    ) -> t.PolicyVerdict:
        """What would be decided of a call, and by which rule. Makes none and changes nothing.

        Args:
            tenant_id: Of which tenant the caller is.
            method: Such as `StateService/GetState`.
            roles: The caller's; with a key, those of the key.
            key_id: A key that there is.
            scopes: What the call would name.
            dimension: Likewise; 0: none.
            candidate: As if this policy were there.
        """
        call = _policies.test_policy(
            tenant_id,
            method,
            roles=roles,
            key_id=key_id,
            scopes=scopes,
            dimension=dimension,
            candidate=candidate,
        )
        return self._unary(call)
