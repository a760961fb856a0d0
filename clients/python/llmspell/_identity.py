"""IdentityService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from llmspell._contract import Call, Page
from llmspell._tenants import key_of
from llmspell._values import from_timestamp, to_duration, to_timestamp
from llmspell.types import CreatedKey, Grant, Token
from llmspell.v1 import identity_pb2 as pb


def rotate_key(
    key_id: str, overlap_s: float | None, expire_time: datetime | None
) -> Call[CreatedKey]:
    """A new secret for a key."""
    request = pb.RotateApiKeyRequest(
        key_id=key_id,
        overlap=to_duration(overlap_s, "overlap_s", or_zero=True),
        expire_time=to_timestamp(expire_time, "expire_time"),
    )
    return Call(request, lambda answer: CreatedKey(answer.key, key_of(answer.api_key)))


def exchange_token(
    scopes: Iterable[str], audience: Iterable[str], lifetime_s: float | None
) -> Call[Token]:
    """A token for the caller's credential."""
    request = pb.ExchangeTokenRequest(
        scopes=scopes, audience=audience, lifetime=to_duration(lifetime_s, "lifetime_s")
    )
    return Call(request, _token)


def grant_access(
    tenant_id: str,
    reason: str,
    roles: Iterable[str],
    scopes: Iterable[str],
    duration_s: float | None,
) -> Call[Grant]:
    """Let the operator in."""
    request = pb.GrantAccessRequest(
        tenant_id=tenant_id,
        reason=reason,
        roles=roles,
        scopes=scopes,
        duration=to_duration(duration_s, "duration_s"),
    )
    return Call(request, lambda answer: _grant(answer.grant))


def list_grants(tenant_id: str) -> Call[Page[Grant]]:
    """A page of grants."""
    return Call(
        pb.ListGrantsRequest(tenant_id=tenant_id),
        lambda answer: Page([_grant(each) for each in answer.grants], answer.next_page_token),
    )


def end_grant(tenant_id: str, grant_id: str) -> Call[int]:
    """End grants; how many."""
    request = pb.EndGrantRequest(tenant_id=tenant_id, grant_id=grant_id)
    return Call(request, lambda answer: answer.ended_count)


def _token(answer: pb.ExchangeTokenResponse) -> Token:
    return Token(
        token=answer.token,
        expire_time=from_timestamp(answer, "expire_time"),
        permissions=tuple(answer.permissions),
    )


def _grant(message: pb.Grant) -> Grant:
    return Grant(
        grant_id=message.grant_id,
        tenant_id=message.tenant_id,
        principal=message.principal,
        permissions=tuple(message.permissions),
        reason=message.reason,
        create_time=from_timestamp(message, "create_time"),
        expire_time=from_timestamp(message, "expire_time"),
        ended=message.ended,
    )
