"""IdentityService: keys are replaced, tokens are made, the operator is let in."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace

import msgspec
from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import identity_pb2, identity_pb2_grpc

from services.common.clock import Clock
from services.common.context import CallContext, current_context
from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import (
    GRANT_REASON_BYTES_MAX,
    GRANT_SECONDS,
    GRANT_SECONDS_MAX,
    KEY_OVERLAP_SECONDS,
    KEY_OVERLAP_SECONDS_MAX,
    SCOPES_MAX,
    TOKEN_SECONDS_MAX,
)
from services.common.tenants import tenant_not_found
from services.common.tokens import AUDIENCES, Token, Tokens, narrowed
from services.gateway.grants import GrantRecord, Grants
from services.gateway.keys import OPERATOR_ID, Digests, new_key
from services.gateway.registry import KeyRecord, Registry
from services.gateway.roles import checked_roles, checked_scopes, permissions_of
from services.gateway.servicers.key_forms import (
    api_key_message,
    checked_end,
    checked_key_id,
    checked_tenant_id,
)

_LEAST_ROLE = "reader"


class IdentityServicer(identity_pb2_grpc.IdentityServiceServicer):
    """Translates between messages, the registry, tokens and grants."""

    def __init__(
        self, registry: Registry, grants: Grants, tokens: Tokens, digests: Digests, clock: Clock
    ) -> None:
        self._registry = registry
        self._grants = grants
        self._tokens = tokens
        self._digests = digests
        self._clock = clock

    async def RotateApiKey(  # noqa: N802
        self, request: identity_pb2.RotateApiKeyRequest, context: object
    ) -> identity_pb2.RotateApiKeyResponse:
        """Another secret under the same id."""
        del context
        key_id = checked_key_id(request.key_id)
        now_ns = self._clock.now_ns()
        overlap_ns = _overlap_ns(request)
        expires_ns = checked_end(request, self._clock)
        _, key = new_key(key_id)

        def rotated(record: KeyRecord) -> KeyRecord:
            return msgspec.structs.replace(
                record,
                digest=self._digests.of(key),
                previous_digest=record.digest,
                previous_expires_ns=now_ns + overlap_ns,
                expires_ns=expires_ns or record.expires_ns,
            )

        record = await self._registry.change_key(key_id, rotated)
        if record is None:
            raise ServiceError(Reason.KEY_NOT_FOUND, f"There is no key {key_id}.", key_id=key_id)
        return identity_pb2.RotateApiKeyResponse(api_key=api_key_message(record), key=key)

    async def ExchangeToken(  # noqa: N802
        self, request: identity_pb2.ExchangeTokenRequest, context: object
    ) -> identity_pb2.ExchangeTokenResponse:
        """What the caller is, sealed for a few minutes."""
        del context
        caller = current_context()
        if caller.principal == OPERATOR_ID:
            raise ServiceError(
                Reason.PERMISSION_DENIED,
                "The operator's key is not exchanged; make a key of the tenant and exchange that.",
            )
        held = checked_scopes(caller.permissions, _scopes(request.scopes))
        ends_ns = self._clock.now_ns() + _lifetime_ns(request)
        if caller.expires_ns:
            ends_ns = min(ends_ns, caller.expires_ns)
        narrow = replace(narrowed(caller, held), expires_ns=ends_ns, request_id="", depth=0)
        token = Token(
            context=narrow,
            audience=_audience(request),
            key_id=await self._key_id(caller),
        )
        answer = identity_pb2.ExchangeTokenResponse(
            token=self._tokens.write(token), permissions=narrow.permissions
        )
        answer.expire_time.FromNanoseconds(ends_ns)
        return answer

    async def _key_id(self, caller: CallContext) -> str:
        """The key that the caller is known by; empty where it is another credential."""
        record = await self._registry.key(caller.principal)
        return record.key_id if record else ""

    async def GrantAccess(  # noqa: N802
        self, request: identity_pb2.GrantAccessRequest, context: object
    ) -> identity_pb2.GrantAccessResponse:
        """Let the operator in."""
        del context
        tenant_id = await self._tenant(request.tenant_id)
        roles = checked_roles(request.roles, _LEAST_ROLE)
        scopes = checked_scopes(permissions_of(roles), _scopes(request.scopes))
        now_ns = self._clock.now_ns()
        grant = GrantRecord(
            grant_id=secrets.token_hex(8),
            tenant_id=tenant_id,
            principal=OPERATOR_ID,
            permissions=permissions_of(roles, scopes),
            reason=_reason(request.reason),
            create_ns=now_ns,
            expires_ns=now_ns + _duration_ns(request),
        )
        await self._grants.add(grant)
        return identity_pb2.GrantAccessResponse(grant=self._grant(grant))

    async def ListGrants(  # noqa: N802
        self, request: identity_pb2.ListGrantsRequest, context: object
    ) -> identity_pb2.ListGrantsResponse:
        """What was given, ended or not."""
        del context
        tenant_id = await self._tenant(request.tenant_id) if request.tenant_id else ""
        grants, token = await self._grants.list(tenant_id, request.page_size, request.page_token)
        return identity_pb2.ListGrantsResponse(
            grants=[self._grant(grant) for grant in grants], next_page_token=token
        )

    async def EndGrant(  # noqa: N802
        self, request: identity_pb2.EndGrantRequest, context: object
    ) -> identity_pb2.EndGrantResponse:
        """Shut the door again."""
        del context
        ended = await self._grants.end(checked_tenant_id(request.tenant_id), request.grant_id)
        return identity_pb2.EndGrantResponse(ended_count=len(ended))

    async def _tenant(self, text: str) -> str:
        tenant_id = checked_tenant_id(text)
        if await self._registry.tenant(tenant_id) is None:
            raise tenant_not_found(tenant_id)
        return tenant_id

    def _grant(self, grant: GrantRecord) -> identity_pb2.Grant:
        message = identity_pb2.Grant(
            grant_id=grant.grant_id,
            tenant_id=grant.tenant_id,
            principal=grant.principal,
            permissions=grant.permissions,
            reason=grant.reason,
            ended=grant.expires_ns <= self._clock.now_ns(),
        )
        message.create_time.FromNanoseconds(grant.create_ns)
        message.expire_time.FromNanoseconds(grant.expires_ns)
        return message


def _overlap_ns(request: identity_pb2.RotateApiKeyRequest) -> int:
    if not request.HasField("overlap"):
        return KEY_OVERLAP_SECONDS * 10**9
    return _span_ns("overlap", request.overlap, KEY_OVERLAP_SECONDS_MAX)


def _lifetime_ns(request: identity_pb2.ExchangeTokenRequest) -> int:
    asked_ns = _span_ns("lifetime", request.lifetime, TOKEN_SECONDS_MAX)
    return asked_ns or TOKEN_SECONDS_MAX * 10**9


def _duration_ns(request: identity_pb2.GrantAccessRequest) -> int:
    asked_ns = _span_ns("duration", request.duration, GRANT_SECONDS_MAX)
    return asked_ns or GRANT_SECONDS * 10**9


def _span_ns(field: str, span: Duration, most_s: int) -> int:
    """A length of time, 0 to `most_s` seconds, in nanoseconds."""
    if not 0 <= span.nanos < 10**9 or span.seconds < 0:
        raise field_invalid(field, "must not be negative")
    asked_ns = span.seconds * 10**9 + span.nanos
    if asked_ns > most_s * 10**9:
        raise limit_exceeded(field, span.seconds, most_s, "seconds")
    return asked_ns


def _scopes(scopes: Collection[str]) -> Collection[str]:
    if len(scopes) > SCOPES_MAX:
        raise limit_exceeded("scopes", len(scopes), SCOPES_MAX)
    return scopes


def _audience(request: identity_pb2.ExchangeTokenRequest) -> tuple[str, ...]:
    named = tuple(sorted(set(request.audience)))
    for name in named:
        if name not in AUDIENCES:
            raise field_invalid("audience", f"has {name[:64]!r}; known are {', '.join(AUDIENCES)}")
    return named


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if not reason:
        raise required("reason")
    size = len(reason.encode())
    if size > GRANT_REASON_BYTES_MAX:
        raise limit_exceeded("reason", size, GRANT_REASON_BYTES_MAX, "bytes")
    return reason
