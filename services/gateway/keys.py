"""API keys: `llms_ID_SECRET`. The secret is 256 random bits, shown once and kept as a keyed digest.

A slow hash would add nothing at that entropy (see ADR 0009); what matters is that the digest is
compared in constant time and that an unknown id costs the same as a wrong secret.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from services.common.context import OPERATOR

PREFIX = "llms"
OPERATOR_ID = OPERATOR

_FORM = re.compile(rf"{PREFIX}_([a-z0-9]{{1,32}})_([A-Za-z0-9_-]{{20,64}})", re.ASCII)
_KEYED = "hmac-sha256:"
_NOTHING = bytes(32)
_SECRETS_AT_ONCE = 2
"""A key that is being replaced has two for a while; every check makes as many comparisons."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key as a caller sent it."""

    key_id: str
    """Public part."""
    key: str = field(repr=False)
    """All of it."""


class Digests:
    """What is kept of keys: HMAC-SHA256 under a pepper that is not in the store.

    Whoever can write to the store still cannot plant a key that he knows.
    """

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper

    def of(self, key: str) -> str:
        """What is kept of a key."""
        return _KEYED + self._keyed(key).hex()

    def fits(self, credential: Credential, kept: Sequence[str]) -> bool:
        """Whether it is one of the keys of which this was kept, at most two.

        As much work whichever fits, and where there are none.
        """
        keyed, plain = self._keyed(credential.key), blake3(credential.key.encode()).digest()
        found = False
        for text in (*kept, "", "")[:_SECRETS_AT_ONCE]:
            ours = keyed if text.startswith(_KEYED) or not text else plain
            found |= hmac.compare_digest(ours, _digest(text)) and text != ""
        return found

    def _keyed(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode(), "sha256")


def new_key(key_id: str | None = None) -> tuple[str, str]:
    """A fresh key: its public id and the whole text."""
    public = key_id or secrets.token_hex(8)
    return public, f"{PREFIX}_{public}_{secrets.token_urlsafe(32)}"


def read_credential(key: str) -> Credential | None:
    """The parts of a key, None where it is not one."""
    match = _FORM.fullmatch(key)
    return Credential(match[1], key) if match else None


def _digest(text: str) -> bytes:
    """The bytes of what was kept; keys of earlier releases have a plain blake3 digest."""
    try:
        digest = bytes.fromhex(text.removeprefix(_KEYED))
    except ValueError:
        return _NOTHING
    return digest if len(digest) == len(_NOTHING) else _NOTHING
