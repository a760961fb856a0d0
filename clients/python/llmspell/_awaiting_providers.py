"""Providers and models of the asyncio client; `_blocking_providers` says more."""

from __future__ import annotations

from llmspell import _providers
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncProviderCalls(AsyncCaller):
    """What the deployment has of providers of chat models."""

    async def list_providers(self) -> list[t.Provider]:
        """Providers in order of name, also those that cannot be used, with a reason."""
        return await self._unary(_providers.list_providers())

    async def get_provider(self, name: str) -> t.Provider:
        """One provider."""
        return await self._unary(_providers.get_provider(name))

    async def test_provider(self, name: str, *, model: str = "") -> t.ProviderTest:
        """Ask a provider for its models, and a model for a word; a failure is an answer."""
        return await self._unary(_providers.test_provider(name, model))

    async def list_models(self, *, provider: str = "", ask_providers: bool = False) -> t.Models:
        """Models in order of name."""
        page = await self._unary(_providers.list_models(provider, "", ask_providers=ask_providers))
        models, silent = [*page.models], page.silent_providers
        while page.next_token:
            page = await self._unary(
                _providers.list_models(provider, page.next_token, ask_providers=ask_providers)
            )
            models += page.models
        return t.Models(models, silent)

    async def get_model(self, name: str) -> t.Model:
        """One model, as `provider/model`."""
        return await self._unary(_providers.get_model(name))

    async def pull_model(
        self, provider: str, model: str, *, wait_s: float | None = None
    ) -> t.ModelPull:
        """Let a provider on the operator's own machines fetch a model; call again to wait on."""
        return await self._unary(_providers.pull_model(provider, model, wait_s))
