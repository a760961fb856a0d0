"""From a credential to a context: who is calling, for which tenant, and what it may."""

from __future__ import annotations

import re

from services.common.access import Method
from services.common.context import REQUEST_ID_KEY, TENANT_KEY, CallContext, new_request_id
from services.common.door import Metadata
from services.common.errors import Reason, ServiceError
from services.common.tenants import tenant_not_found
from services.gateway.keys import OPERATOR_ID, Credential, digest_of, read_credential
from services.gateway.registry import Registry
from services.gateway.roles import OPERATOR_PERMISSIONS, permissions_of

AUTHORIZATION_KEY = "authorization"
_SCHEME = "bearer "
_NO_DIGEST = bytes(32)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Authenticator:
    """Knows callers by their API key; the gateway's door asks it."""

    def __init__(self, registry: Registry, operator_key: str) -> None:
        """`operator_key`: the operator's whole key; empty: there is no operator."""
        self._registry = registry
        self._operator_digest = digest_of(operator_key) if operator_key else _NO_DIGEST

    async def __call__(self, metadata: Metadata, method: Method) -> CallContext:
        """The caller's context.

        A tenant's key may name its own tenant or none; anything else is refused in the same words
        whether or not the other tenant exists.

        Raises:
            ServiceError: CREDENTIAL_MISSING, CREDENTIAL_INVALID, PERMISSION_DENIED,
                TENANT_NOT_FOUND (to an operator only).
        """
        credential = _credential(metadata)
        asked = _single(metadata, TENANT_KEY)
        request_id = _request_id(metadata)
        if credential.key_id == OPERATOR_ID:
            return await self._operator(credential, asked, request_id, method)
        return await self._tenant_key(credential, asked, request_id)

    async def _operator(
        self, credential: Credential, asked: str, request_id: str, method: Method
    ) -> CallContext:
        if self._operator_digest == _NO_DIGEST or not credential.matches(self._operator_digest):
            raise _invalid()
        if asked and await self._registry.tenant(asked) is None:
            if not method.tenantless:
                raise tenant_not_found(asked[:64])
            asked = ""  # a profile may name a tenant that is gone; managing tenants needs none
        return CallContext(
            tenant=asked,
            principal=OPERATOR_ID,
            permissions=OPERATOR_PERMISSIONS,
            any_tenant=True,
            request_id=request_id,
        )

    async def _tenant_key(self, credential: Credential, asked: str, request_id: str) -> CallContext:
        record = await self._registry.key(credential.key_id)
        kept = bytes.fromhex(record.digest) if record else _NO_DIGEST
        if not credential.matches(kept) or record is None:
            raise _invalid()
        if await self._registry.tenant(record.tenant_id) is None:  # it is being deleted
            raise _invalid()
        if asked not in {"", record.tenant_id}:
            raise ServiceError(
                Reason.PERMISSION_DENIED, "This key may not act for the tenant that was named."
            )
        return CallContext(
            tenant=record.tenant_id,
            principal=record.key_id,
            permissions=permissions_of(record.roles),
            row_filter=record.row_filter,
            request_id=request_id,
        )


def _credential(metadata: Metadata) -> Credential:
    text = _single(metadata, AUTHORIZATION_KEY)
    if not text:
        raise ServiceError(
            Reason.CREDENTIAL_MISSING,
            "No API key was sent; put it into metadata as `authorization: Bearer KEY`.",
        )
    if text[: len(_SCHEME)].lower() != _SCHEME:
        raise _invalid()
    credential = read_credential(text[len(_SCHEME) :].strip())
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
