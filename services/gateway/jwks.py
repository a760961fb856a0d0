"""Public keys of an issuer (JWKS), from a file or an address.

They are read when a token names a key that is not known, at most once in a while, and again when
they are old. An issuer that cannot be reached costs nothing but its newest keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import msgspec
import urllib3
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.limits import (
    JWKS_BYTES_MAX,
    JWKS_KEYS_MAX,
    JWKS_OLD_SECONDS,
    JWKS_RETRY_SECONDS,
    RSA_BITS_MIN,
)

log = logging.getLogger(__name__)

_FETCH_S = 5.0
_KID_LENGTH_MAX = 256
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Source = Callable[[], Awaitable[bytes]]
"""Reads the document.

Raises:
    OSError: it cannot be read.
"""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One of an issuer's keys."""

    public: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
    algorithm: str
    """The only one that it is used with."""


class KeySet:
    """An issuer's keys by their ids."""

    def __init__(self, name: str, source: Source, clock: Clock) -> None:
        self._name = name
        self._source = source
        self._clock = clock
        self._keys: Mapping[str, PublicKey] = {}
        self._tried_s: float | None = None
        self._read_s = 0.0
        self._lock = asyncio.Lock()

    async def get(self, kid: str) -> PublicKey | None:
        """The key of this id; None where the issuer has none."""
        if len(kid) > _KID_LENGTH_MAX:
            return None
        old = self._clock.monotonic() - self._read_s >= JWKS_OLD_SECONDS
        if (kid not in self._keys or old) and self._may_try():
            async with self._lock:
                if self._may_try():
                    await self._read()
        return self._keys.get(kid)

    def _may_try(self) -> bool:
        now = self._clock.monotonic()
        return self._tried_s is None or now - self._tried_s >= JWKS_RETRY_SECONDS

    async def _read(self) -> None:
        self._tried_s = self._clock.monotonic()
        try:
            keys = read_keys(await self._source())
        except (OSError, ValueError) as error:
            log.warning(
                "keys of an issuer cannot be read",
                extra={"issuer": self._name, "why": str(error)[:200], "kept": len(self._keys)},
            )
            return
        self._keys, self._read_s = keys, self._tried_s


def read_keys(document: bytes) -> dict[str, PublicKey]:
    """The keys of a JWKS that tokens may be signed with.

    Raises:
        ValueError: it is no JWKS, or too large.
    """
    if len(document) > JWKS_BYTES_MAX:
        raise ValueError(f"more than {JWKS_BYTES_MAX} bytes")
    try:
        listed = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(listed, list):
        raise ValueError("there is no list `keys`")  # noqa: TRY004  (of a document, not a type)
    found: dict[str, PublicKey] = {}
    for entry in listed[:JWKS_KEYS_MAX]:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if isinstance(kid, str) and (key := _key(entry)) is not None:
            found[kid] = key
    return found


def _key(entry: dict[str, Any]) -> PublicKey | None:
    """A public key; None where tokens are not signed with such a one."""
    if entry.get("use", "sig") != "sig" or "d" in entry or entry.get("kty") == "oct":
        return None
    try:
        public = jwt.PyJWK(entry, algorithm=_algorithm_of(entry)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    key = _usable(public)
    return key if key is not None and entry.get("alg", key.algorithm) == key.algorithm else None


def _algorithm_of(entry: dict[str, Any]) -> str:
    return {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}[str(entry.get("kty"))]


def _usable(public: object) -> PublicKey | None:
    match public:
        case RSAPublicKey() if public.key_size >= RSA_BITS_MIN:
            return PublicKey(public, "RS256")
        case EllipticCurvePublicKey() if public.curve.name == "secp256r1":
            return PublicKey(public, "ES256")
        case Ed25519PublicKey():
            return PublicKey(public, "EdDSA")
    return None


def jwks_source(file: str, url: str, folder: Path) -> Source:
    """Where keys are read from: a file, from `folder` on, or an address.

    Raises:
        ServiceError: CONFIG_INVALID for an address that is neither https nor of this machine.
    """
    if file:
        return lambda: asyncio.to_thread((folder / file).read_bytes)
    parts = urlsplit(url)
    near = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not near and parts.scheme != "https":
        raise ServiceError(
            Reason.CONFIG_INVALID,
            f"jwks_url must begin with https://, not {url[:100]}.",
            key="gateway.jwt_issuers_file",
        )
    return lambda: asyncio.to_thread(_fetched, url)


def _fetched(url: str) -> bytes:
    """What an address has, at most the limit and one byte.

    Raises:
        OSError: no good answer came.
    """
    pool = urllib3.PoolManager(retries=False, timeout=_FETCH_S)
    try:
        answer = pool.request("GET", url, preload_content=False, redirect=False)
        try:
            if answer.status != 200:  # noqa: PLR2004  (OK)
                raise OSError(f"status {answer.status}")
            return answer.read(JWKS_BYTES_MAX + 1, decode_content=True)
        finally:
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise OSError(type(error).__name__) from None
    finally:
        pool.clear()
