"""Whom a certificate names that a caller has shown, as an entry of its call's metadata.

The transport has verified the certificate; what it says is known when the handler runs, not before.
The entry's value has a type of its own, which nothing that came over the wire has.
"""

from __future__ import annotations

from typing import Any

from services.common.errors import ServiceError

PEER_KEY = "peer-name"
_NAMES = "x509_subject_alternative_name"
_TYPE = "transport_security_type"


class PeerName(str):
    """A subject alternative name of a verified certificate; empty: that there are no more."""

    __slots__ = ()


class PeerUnseenError(ServiceError):
    """Only the certificate that the caller has shown can tell who calls.

    Raised in the place of what it says, where that was not looked at yet.
    """


def names_shown(servicer_context: Any) -> tuple[tuple[str, PeerName], ...]:
    """Entries of metadata: the names, and an empty one that says that they were looked for."""
    shown = servicer_context.auth_context()
    names = shown.get(_NAMES, ()) if b"ssl" in shown.get(_TYPE, ()) else ()
    texts = [name.decode("utf-8", "replace") for name in names]
    return tuple((PEER_KEY, PeerName(text)) for text in (*filter(None, texts), ""))
