"""From a credential to a context: who is calling, for which tenant, and what it may.

Exactly one credential: an API key, a token that was exchanged for one, or a token of a configured
issuer. The tenant comes from it alone; a tenant that is named must be the same.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Protocol

from services.common.access import METHODS, Method
from services.common.clock import Clock
from services.common.context import REQUEST_ID_KEY, TENANT_KEY, CallContext, new_request_id
from services.common.door import Metadata
from services.common.errors import Reason, ServiceError
from services.common.tokens import PREFIX as TOKEN_PREFIX
from services.common.tokens import Tokens, token_invalid
from services.gateway.certificates import Certificates
from services.gateway.keys import OPERATOR_ID, PREFIX, Credential, Digests, read_credential
from services.gateway.operator import Operator
from services.gateway.registry import KeyRecord, Registry
from services.gateway.roles import permissions_of

AUTHORIZATION_KEY = "authorization"
_SCHEME = "bearer "
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class NotesUses(Protocol):
    """Keeps when keys were used; `key_uses.KeyUses` does."""

    def note(self, key_id: str) -> None:
        """A key was used just now."""


class ReadsTokens(Protocol):
    """Knows callers by the tokens of issuers; `issuers.Issuers` does."""

    async def read(self, text: str) -> CallContext:
        """The caller.

        Raises:
            ServiceError: CREDENTIAL_INVALID.
        """


class Authenticator:
    """Knows callers by their credential; the gateway's door asks it."""

    def __init__(
        self,
        registry: Registry,
        operator: Operator,
        digests: Digests,
        tokens: Tokens,
        clock: Clock,
        *,
        uses: NotesUses | None = None,
        issuers: ReadsTokens | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """`issuers`: None: no token of anybody else is taken; likewise `certificates`."""
        self._registry = registry
        self._operator = operator
        self._digests = digests
        self._tokens = tokens
        self._clock = clock
        self._uses = uses
        self._issuers = issuers
        self._certificates = certificates

    async def __call__(self, metadata: Metadata, method: Method) -> CallContext:
        """The caller's context.

        A tenant's key may name its own tenant or none; anything else is refused in the same words
        whether or not the other tenant exists.

        Raises:
            ServiceError: CREDENTIAL_MISSING, CREDENTIAL_INVALID, PERMISSION_DENIED; to an operator
                only: TENANT_NOT_FOUND, GRANT_REQUIRED.
        """
        asked = _single(metadata, TENANT_KEY)
        text = _single(metadata, AUTHORIZATION_KEY)
        if not text and self._certificates is not None and method.path in METHODS:
            caller = self._certificates.read(metadata)
            return await self._as_tenant(caller, asked, _request_id(metadata))
        text = _bearer(text)
        request_id = _request_id(metadata)
        credential = _read(text) if text.startswith(f"{PREFIX}_") else None
        if credential is not None and credential.key_id == OPERATOR_ID:
            if not self._operator.knows(credential):
                raise _invalid()
            return await self._operator.context(asked, request_id, method)
        return await self._as_tenant(await self._caller(text, credential), asked, request_id)

    async def _as_tenant(self, caller: CallContext, asked: str, request_id: str) -> CallContext:
        if await self._registry.tenant(caller.tenant) is None:  # it is being deleted
            raise _invalid()
        if asked not in {"", caller.tenant}:
            raise ServiceError(
                Reason.PERMISSION_DENIED, "This key may not act for the tenant that was named."
            )
        return replace(caller, request_id=request_id)

    async def _caller(self, text: str, credential: Credential | None) -> CallContext:
        if credential is not None:
            return await self._key(credential)
        if text.startswith(TOKEN_PREFIX):
            return await self._token(text)
        if self._issuers is not None and text.count(".") == 2:  # noqa: PLR2004  (a JWT's three parts)
            return await self._issuers.read(text)
        raise _invalid()

    async def _key(self, credential: Credential) -> CallContext:
        record = await self._registry.key(credential.key_id)
        now_ns = self._clock.now_ns()
        fits = self._digests.fits(credential, record.digests(now_ns) if record else ())
        if not fits or record is None:
            raise _invalid()
        if record.has_ended(now_ns):
            raise _expired()
        if self._uses is not None:
            self._uses.note(record.key_id)
        return _of_key(record)

    async def _token(self, text: str) -> CallContext:
        """What the token says, while the key stands that it was exchanged for."""
        token = self._tokens.read(text, "gateway")
        if token.key_id:
            record = await self._registry.key(token.key_id)
            if record is None or record.has_ended(self._clock.now_ns()):
                raise token_invalid()
        return token.context


def _of_key(record: KeyRecord) -> CallContext:
    return CallContext(
        tenant=record.tenant_id,
        principal=record.key_id,
        permissions=permissions_of(record.roles, record.scopes),
        row_filter=record.row_filter,
        roles=record.roles,
        expires_ns=record.expires_ns,
    )


def _bearer(text: str) -> str:
    if not text:
        raise ServiceError(
            Reason.CREDENTIAL_MISSING,
            "No API key was sent; put it into metadata as `authorization: Bearer KEY`.",
        )
    if text[: len(_SCHEME)].lower() != _SCHEME:
        raise _invalid()
    return text[len(_SCHEME) :].strip()


def _read(text: str) -> Credential:
    credential = read_credential(text)
    if credential is None:
        raise _invalid()
    return credential


def _single(metadata: Metadata, name: str) -> str:
    """The one value of a metadata entry, empty where there is none; two are refused."""
    values = [value for key, value in metadata if key == name]
    if len(values) > 1:
        raise ServiceError(
            Reason.CREDENTIAL_INVALID, f"Metadata has {name} more than once.", field=name
        )
    return str(values[0]) if values else ""


def _request_id(metadata: Metadata) -> str:
    """The caller's own id where it sent a plain one, else a new one."""
    sent = [str(value) for key, value in metadata if key == REQUEST_ID_KEY]
    usable = len(sent) == 1 and _REQUEST_ID.fullmatch(sent[0])
    return sent[0] if usable else new_request_id()


def _invalid() -> ServiceError:
    return ServiceError(
        Reason.CREDENTIAL_INVALID, "The API key is not valid; it may have been revoked."
    )


def _expired() -> ServiceError:
    """Only whoever has the key's secret is told."""
    return ServiceError(Reason.CREDENTIAL_INVALID, "The API key has expired; ask for a new one.")
