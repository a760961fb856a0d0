"""How the gateway knows its callers: the parts, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.clock import Clock
from services.common.context import derive_key
from services.common.errors import Reason, ServiceError
from services.common.relay import Relay
from services.common.settings import GatewaySettings
from services.common.tenants import SystemItems
from services.common.tokens import Tokens
from services.gateway.auth import Authenticator
from services.gateway.certificates import open_certificates
from services.gateway.grants import Grants
from services.gateway.issuers import open_issuers
from services.gateway.key_uses import KeyUses
from services.gateway.keys import OPERATOR_ID, Digests, read_credential
from services.gateway.operator import Operator
from services.gateway.registry import Registry
from services.gateway.servicers.identity import IdentityServicer


@dataclass(frozen=True, slots=True)
class Identity:
    """What is made of it."""

    authenticator: Authenticator
    """Asked by the door."""
    servicer: IdentityServicer
    """Answers the service."""
    digests: Digests
    """What is kept of keys."""
    uses: KeyUses
    """When they were used."""
    background: Sequence[Callable[[], Awaitable[None]]]
    """Loops that run while the gateway serves."""


def open_identity(
    settings: GatewaySettings, context_key: bytes, registry: Registry, relay: Relay, clock: Clock
) -> Identity:
    """Read the keys that are in files.

    Raises:
        ServiceError: CONFIG_INVALID where one of them is unfit.
    """
    items = SystemItems(relay, principal="gateway")
    digests = Digests(derive_key(context_key, "api keys"))
    tokens = Tokens(context_key, clock)
    grants, uses = Grants(items, clock), KeyUses(items, clock)
    operator = Operator(
        _operator_key(settings.operator_key_file),
        registry,
        grants,
        digests,
        own_tenants=settings.operators_own,
    )
    issuers = open_issuers(settings.jwt_issuers_file, clock)
    authenticator = Authenticator(
        registry,
        operator,
        digests,
        tokens,
        clock,
        uses=uses,
        issuers=issuers,
        certificates=open_certificates(settings.tls_identities_file),
    )
    servicer = IdentityServicer(registry, grants, tokens, digests, clock)
    return Identity(authenticator, servicer, digests, uses, (uses.run,))


def _operator_key(file: str) -> str:
    if not file:
        return ""
    try:
        key = Path(file).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_key(file, str(error)) from None
    credential = read_credential(key)
    if credential is None or credential.key_id != OPERATOR_ID:
        raise _bad_key(file, f"it is not of the form llms_{OPERATOR_ID}_SECRET")
    return key


def _bad_key(file: str, why: str) -> ServiceError:
    return ServiceError(
        Reason.CONFIG_INVALID,
        f"The operator's key cannot be read from {file}: {why}.",
        key="gateway.operator_key_file",
        file=file,
    )
