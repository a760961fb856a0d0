"""Makes providers; imports what speaks their protocols, and so takes long to import."""

from __future__ import annotations

import functools
import logging
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from services.common.errors import Reason, ServiceError
from services.runtime.providers.ollama import OllamaProvider
from services.runtime.providers.openai import OpenAIProvider
from services.runtime.providers.transport import Addresses, Transport, trust

if TYPE_CHECKING:
    from services.runtime.providers.presets import Place
    from services.runtime.providers.registry import Kept


# It tells each request at level info; what matters of them is told elsewhere.
logging.getLogger("httpx2").setLevel(logging.WARNING)


def opened(place: Place, key: str, *, addresses: Addresses | None, authorities: str) -> Kept:
    """A provider at a place.

    Args:
        place: Where it is.
        key: With which it is asked; empty: without one.
        addresses: Says where may be connected to; None: anywhere.
        authorities: Certificates (PEM) that are trusted beside the known ones.

    Raises:
        ServiceError: NOT_IMPLEMENTED where nothing here speaks its protocol.
    """
    if place.kind == "anthropic":
        return _anthropic(place, key, addresses, authorities)
    if place.kind != "openai":
        text = f"Nothing here speaks the protocol {place.kind}."
        raise ServiceError(Reason.NOT_IMPLEMENTED, text, provider=place.name)
    shown = {"authorization": f"Bearer {key}"} if key else {}
    speaks = OllamaProvider if place.own_api == "ollama" else OpenAIProvider
    return speaks(
        place.name,
        place.base_url,
        _transport(place, shown, addresses, authorities),
        key=key,
        capabilities=place.capabilities,
        lacks=place.lacks,
    )


def _anthropic(place: Place, key: str, addresses: Addresses | None, authorities: str) -> Kept:
    from services.runtime.providers import anthropic  # noqa: PLC0415 - its package is optional

    shown = {"anthropic-version": anthropic.VERSION} | ({"x-api-key": key} if key else {})
    return anthropic.AnthropicProvider(
        place.name,
        place.base_url,
        _transport(place, shown, addresses, authorities),
        key=key,
        capabilities=place.capabilities,
    )


def _transport(
    place: Place, shown: Mapping[str, str], addresses: Addresses | None, authorities: str
) -> Transport:
    headers = {**place.headers, **shown}
    trusted = _trusted(authorities)
    return Transport(place.name, headers=headers, trusted=trusted, addresses=addresses)


@functools.lru_cache(maxsize=4)
def _trusted(authorities: str) -> ssl.SSLContext:
    """One for all: reading the known authorities takes 20 ms."""
    return trust(authorities)
