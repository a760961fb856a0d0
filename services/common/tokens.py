"""Short-lived tokens: what a credential says, sealed for a few minutes, for every process.

`llmt_` and the base64url of 32 bytes of blake3 keyed over the JSON that follows. The key is derived
from the context key for this alone: a token is no sealed context and a sealed context no token. No
process keeps a list of them; they end by themselves.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec
from blake3 import blake3

from services.common.clock import Clock
from services.common.context import CallContext, derive_key
from services.common.errors import Reason, ServiceError
from services.common.limits import TOKEN_BYTES_MAX

PREFIX = "llmt_"
AUDIENCES = ("gateway", "runtime", "vector", "state")
"""The processes."""

_TAG_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token says."""

    context: CallContext
    """Who calls; `expires_ns` is the token's end."""
    audience: tuple[str, ...] = ()
    """Which processes take it; empty: all."""
    key_id: str = ""
    """The key that it was exchanged for; empty: it was none."""


class Tokens:
    """Makes and reads tokens with the deployment's key."""

    def __init__(self, context_key: bytes, clock: Clock) -> None:
        self._key = derive_key(context_key, "tokens")
        self._clock = clock

    def write(self, token: Token) -> str:
        """The token as a caller sends it.

        Raises:
            ServiceError: LIMIT_EXCEEDED where it would not fit into metadata.
        """
        body = msgspec.json.encode(token)
        text = PREFIX + base64.urlsafe_b64encode(self._tag(body) + body).rstrip(b"=").decode()
        if len(text) > TOKEN_BYTES_MAX:
            raise ServiceError(
                Reason.LIMIT_EXCEEDED,
                f"The token would have {len(text)} bytes; the limit is {TOKEN_BYTES_MAX}. "
                "Ask for fewer scopes.",
                field="scopes",
                got=len(text),
                limit=TOKEN_BYTES_MAX,
            )
        return text

    def read(self, text: str, audience: str) -> Token:
        """What a token says that is good here and now.

        Raises:
            ServiceError: CREDENTIAL_INVALID where it is forged, damaged, for another process or
                past its end; only of the last, which a clock explains, it is told.
        """
        token = self._open(text)
        if token.audience and audience not in token.audience:
            raise token_invalid()
        if token.context.expires_ns <= self._clock.now_ns():
            raise token_expired()
        return token

    def _open(self, text: str) -> Token:
        if not text.startswith(PREFIX) or len(text) > TOKEN_BYTES_MAX:
            raise token_invalid()
        sealed = _bytes(text.removeprefix(PREFIX))
        body = sealed[_TAG_BYTES:]
        if not hmac.compare_digest(sealed[:_TAG_BYTES], self._tag(body)):
            raise token_invalid()
        try:
            return msgspec.json.decode(body, type=Token)
        except msgspec.DecodeError:
            raise token_invalid() from None

    def _tag(self, body: bytes) -> bytes:
        return blake3(body, key=self._key).digest()


def narrowed(context: CallContext, scopes: Iterable[str]) -> CallContext:
    """The same caller with these permissions only, all of which it holds; no scopes: unchanged."""
    named = frozenset(scopes)
    if not named:
        return context
    return replace(context, permissions=tuple(sorted(named | {"self.read"})))


def token_invalid() -> ServiceError:
    """What is said of a token that is none."""
    return ServiceError(
        Reason.CREDENTIAL_INVALID, "The token is not valid here; exchange a key for a new one."
    )


def token_expired() -> ServiceError:
    """What is said of one that was."""
    return ServiceError(
        Reason.CREDENTIAL_INVALID, "The token has expired; exchange a key for a new one."
    )


def _bytes(text: str) -> bytes:
    """The exact bytes of a text: one text for one token."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise token_invalid() from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != text:
        raise token_invalid()
    return decoded
