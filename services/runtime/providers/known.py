"""What is known of models: what providers have told, and what the data package says of the others.

The package (`genai-prices`) has names and windows inside; nothing is asked over the network for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.common.clock import Clock, SystemClock
from services.runtime.providers.model import ModelFacts
from services.runtime.providers.presets import Place

_TOLD_MAX = 10_000
"""Models that are remembered of one provider."""
_OWNERS_MAX = 1000
"""Tenants with keys of their own, of whom models are remembered."""
_FRESH_S = 300.0
"""How long a provider is not asked again for the sake of one fact."""


@dataclass(slots=True)
class KnownModels:
    """Models, by provider; those that a key of a tenant's own was told of are that tenant's."""

    clock: Clock = field(default_factory=SystemClock)
    _told: dict[tuple[str, str], dict[str, ModelFacts]] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)

    def learn(self, place: Place, tenant: str, models: Sequence[ModelFacts]) -> None:
        """Remember what a provider told when it was asked with a tenant's key."""
        if len(self._told) >= _OWNERS_MAX:
            self._told.clear()
        told = {one.name: one for one in models[:_TOLD_MAX]}
        self._told[_owner(place, tenant), place.name] = told

    def told(self, place: Place, tenant: str) -> dict[str, ModelFacts]:
        """What a provider has told, by name."""
        return self._told.get((_owner(place, tenant), place.name), {})

    async def all(self, place: Place, tenant: str) -> dict[str, ModelFacts]:
        """All that is known of a provider's models, by name."""
        told = self.told(place, tenant)
        found = {name: ModelFacts(name=name) for name in place.models}
        if not place.capabilities.local:
            found |= await asyncio.to_thread(packaged_models, place.name)
        return found | {name: _filled(one, found.get(name)) for name, one in told.items()}

    async def one(self, place: Place, tenant: str, name: str) -> ModelFacts | None:
        """What is known of one model; None: nothing."""
        told = self.told(place, tenant).get(name)
        if place.capabilities.local or (told is not None and told.context_tokens):
            return told
        packaged = await asyncio.to_thread(packaged_model, place.name, name)
        return _filled(told, packaged) if told is not None else packaged

    def is_due(self, place: Place) -> bool:
        """Whether a provider may be asked for the sake of one fact; it then counts as asked."""
        now = self.clock.monotonic()
        last = self._asked.get(place.name)
        if last is not None and now - last < _FRESH_S:
            return False
        self._asked[place.name] = now
        return True


def packaged_models(provider: str) -> dict[str, ModelFacts]:
    """The models of a provider that the data package knows, by name; takes long the first time."""
    snapshot = _snapshot()
    try:
        known = snapshot.find_provider("", provider, None)
    except LookupError:
        return {}
    found = (
        ModelFacts(name=model.id, context_tokens=model.context_window or 0)
        for model in known.models
        if not model.deprecated
    )
    return {one.name: one for one in found}


def packaged_model(provider: str, name: str) -> ModelFacts | None:
    """One of them, also by another of its names; None: it knows none such."""
    try:
        _, found = _snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    return ModelFacts(name=name, context_tokens=found.context_window or 0)


def _snapshot() -> Any:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - takes half a second

    return get_snapshot()


def _filled(told: ModelFacts, known: ModelFacts | None) -> ModelFacts:
    """What a provider told, with the window where it did not tell of it."""
    if known is None or told.context_tokens:
        return told
    return replace(told, context_tokens=known.context_tokens)


def _owner(place: Place, tenant: str) -> str:
    """Whose models a provider tells of: a key of one's own may have models of one's own."""
    return tenant if tenant in place.tenant_keys else ""
