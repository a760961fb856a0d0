"""Tokens of identity providers (JWT): which issuers are taken, and what a token must say.

The signature is PyJWT's to check; what is allowed is fixed here. A key decides its own algorithm:
RS256, ES256 or EdDSA, never a symmetric one and never none. `kid` only chooses among the issuer's
keys. The claims are read and compared here, against our own clock.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt
import msgspec
from blake3 import blake3

from services.common.clock import Clock
from services.common.context import CallContext, is_tenant_id
from services.common.errors import Reason, ServiceError
from services.common.limits import (
    JWT_BYTES_MAX,
    JWT_LEEWAY_SECONDS,
    JWT_REMEMBERED_MAX,
    JWT_REMEMBERED_SECONDS,
)
from services.gateway.jwks import KeySet, jwks_source
from services.gateway.roles import ROLES, permissions_of

_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_SUBJECT = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)


class IssuerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An issuer, as `gateway.jwt_issuers_file` has it."""

    name: str
    """For logs: principals are `NAME/SUBJECT`."""
    issuer: str
    """`iss`, exactly."""
    audience: str
    """Must be among `aud`."""
    jwks_file: str = ""
    """File with its keys, or"""
    jwks_url: str = ""
    """address of them."""
    tenant: str = ""
    """Whose all its tokens are, or"""
    tenant_claim: str = ""
    """the claim that says so."""
    tenants: tuple[str, ...] = ()
    """Which of them that claim may name; none: all."""
    roles_claim: str = ""
    """Claim with roles, a list or words with blanks between them."""
    roles: tuple[str, ...] = ()
    """Of tokens that name none of ours."""
    scopes_claim: str = ""
    """Claim with permissions that narrow them, likewise."""
    require_nbf: bool = True
    """Whether a token must say from when it is good."""


class Claims(msgspec.Struct, frozen=True):
    """What every token must say."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    exp: int | float
    nbf: int | float | None = None
    iat: int | float | None = None


class Issuers:
    """Knows callers by the tokens of issuers."""

    def __init__(self, issuers: Sequence[tuple[IssuerConfig, KeySet]], clock: Clock) -> None:
        self._issuers = {config.issuer: (config, keys) for config, keys in issuers}
        self._clock = clock
        self._remembered: dict[bytes, tuple[float, bytes]] = {}

    async def read(self, text: str) -> CallContext:
        """The caller whom a token is of.

        Raises:
            ServiceError: CREDENTIAL_INVALID; why is told where the signature was good.
        """
        if len(text) > JWT_BYTES_MAX:
            raise _invalid()
        config, keys = self._issuer(text)
        payload = await self._verified(text, keys)
        claims = _decoded(payload, Claims)
        self._check(claims, config)
        named = _decoded(payload, dict[str, Any])
        roles = tuple(_roles(config, named))
        roles = tuple(_roles(config, named))
        return CallContext(
            tenant=_tenant(config, named),
            principal=f"{config.name}/{_subject(claims)}",
            permissions=permissions_of(roles, _scopes(config, named)),
            roles=roles,
            expires_ns=round(claims.exp * 1e9),
        )

    def _issuer(self, text: str) -> tuple[IssuerConfig, KeySet]:
        """By what the token says of itself; that is checked with this issuer's keys alone."""
        try:
            unchecked = jwt.decode_complete(text, options={"verify_signature": False})["payload"]
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise _invalid() from None
        found = self._issuers.get(str(unchecked.get("iss")))
        if found is None:
            raise _invalid()
        return found

    async def _verified(self, text: str, keys: KeySet) -> bytes:
        """The payload of a token whose signature is good; for a minute it is not checked again."""
        now, digest = self._clock.monotonic(), blake3(text.encode()).digest()
        known = self._remembered.get(digest)
        if known is not None and now - known[0] < JWT_REMEMBERED_SECONDS:
            return known[1]
        header = _header(text)
        key = await keys.get(header["kid"])
        if key is None or header["alg"] != key.algorithm:
            raise _invalid()
        try:
            payload: bytes = jwt.PyJWS().decode_complete(
                text, key.public, algorithms=[key.algorithm]
            )["payload"]
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _invalid() from None
        if len(self._remembered) >= JWT_REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[digest] = (now, payload)
        return payload

    def _check(self, claims: Claims, config: IssuerConfig) -> None:
        now_s = self._clock.now_ns() / 1e9
        audience = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
        if claims.iss != config.issuer or config.audience not in audience:
            raise _invalid("The token is not for this deployment.")
        times = (claims.exp, claims.nbf or 0, claims.iat or 0)
        if not all(math.isfinite(time) for time in times):
            raise _invalid()
        if claims.nbf is None and config.require_nbf:
            raise _invalid("The token does not say from when it is good (nbf).")
        if claims.exp + JWT_LEEWAY_SECONDS <= now_s:
            raise _invalid("The token has expired.")
        if max(claims.nbf or 0, claims.iat or 0) > now_s + JWT_LEEWAY_SECONDS:
            raise _invalid("The token is not good yet.")


def open_issuers(file: str, clock: Clock) -> Issuers | None:
    """The issuers that a file names; None where there is no file.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    if not file:
        return None
    try:
        tables = tomllib.loads(Path(file).read_text("utf-8")).get("issuers", [])
        configs = msgspec.convert(tables, tuple[IssuerConfig, ...])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _bad_file(file, str(error)) from None
    for config in configs:
        if why := _fault(config):
            raise _bad_file(file, f"{config.name or 'an issuer'}: {why}")
    if len({config.issuer for config in configs}) < len(configs):
        raise _bad_file(file, "two issuers have the same `issuer`")
    folder = Path(file).absolute().parent
    sources = [(each, jwks_source(each.jwks_file, each.jwks_url, folder)) for each in configs]
    return Issuers([(each, KeySet(each.name, source, clock)) for each, source in sources], clock)


def _fault(config: IssuerConfig) -> str:
    """What is wrong with an issuer's settings; empty: nothing."""
    if not _NAME.fullmatch(config.name):
        return "name must be lower-case letters, digits and '-', at most 32"
    if not config.issuer or not config.audience:
        return "issuer and audience must be set"
    if bool(config.jwks_file) == bool(config.jwks_url):
        return "give jwks_file or jwks_url, one of them"
    if bool(config.tenant) == bool(config.tenant_claim):
        return "give tenant or tenant_claim, one of them"
    if unknown := [role for role in config.roles if role not in ROLES]:
        return f"there is no role {unknown[0]!r}"
    return ""


def _header(text: str) -> Mapping[str, str]:
    """Of a token; what it may not say is refused."""
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _invalid() from None
    kid, kind = header.get("kid"), header.get("typ", "")
    if not isinstance(kid, str) or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise _invalid()
    if "crit" in header or "b64" in header:
        raise _invalid()
    return {"kid": kid, "alg": str(header.get("alg"))}


def _decoded(payload: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("The token does not say all that it must: iss, sub, aud, exp.") from None


def _subject(claims: Claims) -> str:
    if not _SUBJECT.fullmatch(claims.sub):
        raise _invalid("The token's subject is not 1 to 128 visible ASCII characters.")
    return claims.sub


def _tenant(config: IssuerConfig, claims: Mapping[str, Any]) -> str:
    tenant = config.tenant or claims.get(config.tenant_claim)
    if not isinstance(tenant, str) or not is_tenant_id(tenant):
        raise _invalid("The token names no tenant.")
    if config.tenants and tenant not in config.tenants:
        raise _invalid("The token's issuer may not speak for that tenant.")
    return tenant


def _roles(config: IssuerConfig, claims: Mapping[str, Any]) -> Sequence[str]:
    """Those that we have; no others count, and none is everything."""
    named = [role for role in _words(claims, config.roles_claim) if role in ROLES]
    return named or config.roles


def _scopes(config: IssuerConfig, claims: Mapping[str, Any]) -> Sequence[str]:
    """What narrows them. A claim that is configured and says nothing allows next to nothing."""
    if not config.scopes_claim:
        return ()
    return _words(claims, config.scopes_claim) or ("self.read",)


def _words(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name) if name else None
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _invalid(why: str = "The token is not valid here.") -> ServiceError:
    return ServiceError(Reason.CREDENTIAL_INVALID, why)


def _bad_file(file: str, why: str) -> ServiceError:
    return ServiceError(
        Reason.CONFIG_INVALID,
        f"The issuers of tokens cannot be read from {file}: {why}.",
        key="gateway.jwt_issuers_file",
        file=file,
    )
