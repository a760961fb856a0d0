"""Providers and models of the blocking client."""

from __future__ import annotations

from llmspell import _providers
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class ProviderCalls(BlockingCaller):
    """What the deployment has of providers of chat models."""

    def list_providers(self) -> list[t.Provider]:
        """Providers in order of name, also those that cannot be used, with a reason."""
        return self._unary(_providers.list_providers())

    def get_provider(self, name: str) -> t.Provider:
        """One provider.

        Raises:
            NotFound: PROVIDER_NOT_FOUND.
        """
        return self._unary(_providers.get_provider(name))

    def test_provider(self, name: str, *, model: str = "") -> t.ProviderTest:
        """Ask a provider for its models, and a model for a word; a failure is an answer.

        Args:
            name: Of the provider.
            model: That is asked; empty: none is.

        Raises:
            NotFound: PROVIDER_NOT_FOUND.
        """
        return self._unary(_providers.test_provider(name, model))

    def list_models(self, *, provider: str = "", ask_providers: bool = False) -> t.Models:
        """Models in order of name.

        Args:
            provider: Only those of this one.
            ask_providers: Whether providers are asked now; else only what is known.

        Raises:
            NotFound: PROVIDER_NOT_FOUND.
        """
        page = self._unary(_providers.list_models(provider, "", ask_providers=ask_providers))
        models, silent = [*page.models], page.silent_providers
        while page.next_token:
            page = self._unary(
                _providers.list_models(provider, page.next_token, ask_providers=ask_providers)
            )
            models += page.models
        return t.Models(models, silent)

    def get_model(self, name: str) -> t.Model:
        """One model, as `provider/model`.

        Raises:
            NotFound: MODEL_NOT_FOUND, PROVIDER_NOT_FOUND.
        """
        return self._unary(_providers.get_model(name))

    def pull_model(self, provider: str, model: str, *, wait_s: float | None = None) -> t.ModelPull:
        """Let a provider on the operator's own machines fetch a model; call again to wait on.

        Args:
            provider: Its name.
            model: The model's, such as `llama3.2:3b`.
            wait_s: Wait at most so long; None: a minute. What is not there by then is fetched on.

        Raises:
            Unimplemented: where the provider cannot.
        """
        return self._unary(_providers.pull_model(provider, model, wait_s))
