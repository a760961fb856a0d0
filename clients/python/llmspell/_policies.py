"""PolicyService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from llmspell._contract import Call, Page
from llmspell._filters import to_filter
from llmspell._policy_types import CrossSession, Policy, PolicyOutcome, PolicyVerdict
from llmspell._values import from_timestamp, uint32
from llmspell.errors import InvalidArgument
from llmspell.v1 import policy_pb2 as pb

_CROSS, _DECISION = "CROSS_SESSION_", "POLICY_DECISION_"


def set_policy(policy: Policy, *, expected_version: int | None) -> Call[Policy]:
    """Make a policy, or a new version of it."""
    request = pb.SetPolicyRequest(policy=_message(policy), expected_version=expected_version)
    return Call(request, lambda answer: _policy(answer.policy))


def get_policy(tenant_id: str, subject: str, *, version: int) -> Call[Policy]:
    """A policy, or an earlier version of it."""
    request = pb.GetPolicyRequest(
        tenant_id=tenant_id, subject=subject, version=uint32(version, "version")
    )
    return Call(request, lambda answer: _policy(answer.policy))


def list_policies(tenant_id: str) -> Call[Page[Policy]]:
    """A page of policies."""
    return Call(pb.ListPoliciesRequest(tenant_id=tenant_id), _page)


def list_policy_versions(tenant_id: str, subject: str) -> Call[Page[Policy]]:
    """A page of a policy's versions."""
    request = pb.ListPolicyVersionsRequest(tenant_id=tenant_id, subject=subject)
    return Call(request, _page)


def delete_policy(tenant_id: str, subject: str) -> Call[bool]:
    """End a policy."""
    request = pb.DeletePolicyRequest(tenant_id=tenant_id, subject=subject)
    return Call(request, lambda answer: answer.deleted_count > 0)


def test_policy(
    tenant_id: str,
    method: str,
    *,
    roles: Iterable[str],
    key_id: str,
    scopes: Iterable[str],
    dimension: int,
    candidate: Policy | None,
) -> Call[PolicyVerdict]:
    """What would be decided of a call."""
    request = pb.TestPolicyRequest(
        tenant_id=tenant_id,
        method=method,
        roles=roles,
        key_id=key_id,
        scopes=scopes,
        dimension=uint32(dimension, "dimension"),
        candidate=None if candidate is None else _message(candidate),
    )
    return Call(request, _verdict)


def _message(policy: Policy) -> pb.Policy:
    name = _CROSS + policy.cross_session.upper()
    if name not in pb.CrossSession.keys():  # noqa: SIM118  (an enumeration is no mapping)
        raise InvalidArgument(
            "cross_session must be all, read or own.", metadata={"field": "cross_session"}
        )
    return pb.Policy(
        tenant_id=policy.tenant_id,
        subject=policy.subject,
        allow=policy.allow,
        deny=policy.deny,
        scopes=policy.scopes,
        denied_scopes=policy.denied_scopes,
        row_filter=to_filter(policy.row_filter),
        max_dimension=uint32(policy.max_dimension, "max_dimension"),
        cross_session=name,
        description=policy.description,
    )


def _page(answer: Any) -> Page[Policy]:
    return Page([_policy(each) for each in answer.policies], answer.next_page_token)


def _policy(message: pb.Policy) -> Policy:
    cross = pb.CrossSession.Name(message.cross_session).removeprefix(_CROSS).lower()
    return Policy(
        tenant_id=message.tenant_id,
        subject=message.subject,
        allow=tuple(message.allow),
        deny=tuple(message.deny),
        scopes=tuple(message.scopes),
        denied_scopes=tuple(message.denied_scopes),
        row_filter=message.row_filter if message.HasField("row_filter") else None,
        max_dimension=message.max_dimension,
        cross_session=cast("CrossSession", cross if message.cross_session else "all"),
        description=message.description,
        version=message.version,
        create_time=from_timestamp(message, "create_time"),
        author=message.author,
        deleted=message.deleted,
    )


def _verdict(answer: pb.TestPolicyResponse) -> PolicyVerdict:
    decision = pb.PolicyDecision.Name(answer.decision).removeprefix(_DECISION).lower()
    return PolicyVerdict(
        decision=cast("PolicyOutcome", decision),
        reason=answer.reason,
        policies=tuple(answer.policies),
        row_filter=answer.row_filter if answer.HasField("row_filter") else None,
    )
