"""API keys: `llms_ID_SECRET`. The secret is 256 random bits, shown once and kept as a digest.

A slow hash would add nothing at that entropy (see ADR 0009); what matters is that the digest is
compared in constant time and that an unknown id costs the same as a wrong secret.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass

from blake3 import blake3

PREFIX = "llms"
OPERATOR_ID = "operator"

_FORM = re.compile(rf"{PREFIX}_([a-z0-9]{{1,32}})_([A-Za-z0-9_-]{{20,64}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """A key as a caller sent it."""

    key_id: str
    """Public part."""
    digest: bytes
    """Of the whole key."""

    def matches(self, digest: bytes) -> bool:
        """Whether it is the key that was kept as `digest`."""
        return hmac.compare_digest(self.digest, digest)


def new_key(key_id: str | None = None) -> tuple[str, str]:
    """A fresh key: its public id and the whole text."""
    public = key_id or secrets.token_hex(8)
    return public, f"{PREFIX}_{public}_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> bytes:
    """What is kept of a key."""
    return blake3(key.encode()).digest()


def read_credential(key: str) -> Credential | None:
    """The parts of a key, None where it is not one."""
    match = _FORM.fullmatch(key)
    return Credential(match[1], digest_of(key)) if match else None
