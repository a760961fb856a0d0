"""Text to vectors: the Protocol, its providers by name, and the cache before them.

A provider's package is imported when the provider is opened, not before: `openai` takes 0.6 s to
import and most deployments never use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.vector.embedding.provider import (
    EmbeddingProvider,
    EmbeddingSettings,
    Providers,
    unknown_provider,
)


def _open_local(settings: EmbeddingSettings) -> EmbeddingProvider | None:
    from services.vector.embedding.local import LocalProvider  # noqa: PLC0415  (see above)

    return LocalProvider(settings.local)


def _open_openai(settings: EmbeddingSettings) -> EmbeddingProvider | None:
    if not settings.openai.configured:
        return None

    from services.vector.embedding.openai import OpenAIProvider  # noqa: PLC0415  (see above)

    return OpenAIProvider(settings.openai)


PROVIDERS: Mapping[str, Callable[[EmbeddingSettings], EmbeddingProvider | None]] = MappingProxyType(
    {"local": _open_local, "openai": _open_openai}
)
"""How to open each provider; None where the settings do not ask for it. In order of name."""


def open_providers(settings: EmbeddingSettings) -> Providers:
    """Open what the settings ask for. Quick: models are loaded at first use, or by `load`.

    Raises:
        ServiceError: FIELD_INVALID where the default provider is unknown or not configured.
    """
    opened = {name: construct(settings) for name, construct in PROVIDERS.items()}
    by_name = {name: provider for name, provider in opened.items() if provider is not None}
    if settings.default_provider not in by_name:
        raise unknown_provider("embedding.default_provider", by_name)
    return Providers(settings.default_provider, MappingProxyType(by_name))
