"""Counts and spans of calls of models, by OpenTelemetry's names for generative AI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.common.errors import ServiceError, reason_name
from services.common.metrics import Counter, Metrics
from services.common.tracing import Span, span
from services.runtime.money.model import Spent
from services.runtime.providers.model import ChatAnswer


class ModelCalls:
    """What models were asked and what they took, by provider and model."""

    def __init__(self) -> None:
        self._calls = Counter(("provider", "model", "outcome"))
        self._tokens = Counter(("provider", "model", "direction"))
        self._cost_usd = Counter(("provider", "model"))

    def tell(self, metrics: Metrics) -> None:
        """Have them told to Prometheus."""
        metrics.rising(
            "llmspell_model_calls_total",
            "Calls of models; the outcome is OK or why they failed.",
            self._calls.read,
            *self._calls.labels,
        )
        metrics.rising(
            "llmspell_model_tokens_total",
            "Tokens that models have read (input) and written (output).",
            self._tokens.read,
            *self._tokens.labels,
        )
        metrics.rising(
            "llmspell_model_cost_usd_total",
            "What models have cost.",
            self._cost_usd.read,
            *self._cost_usd.labels,
        )

    @contextmanager
    def watched(self, provider: str, model: str) -> Iterator[Watched]:
        """Around one call; say `answered` in it."""
        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.system": provider,
            "gen_ai.request.model": model,
        }
        with span("chat", told, kind="client") as within:
            watched = Watched(within)
            try:
                yield watched
            except ServiceError as error:
                self._calls.add(provider, model, reason_name(error.reason))
                raise
        self._calls.add(provider, model, "OK")
        spent = watched.spent
        self._tokens.add(provider, model, "input", by=spent.input_tokens)
        self._tokens.add(provider, model, "output", by=spent.output_tokens)
        self._cost_usd.add(provider, model, by=spent.cost_usd)


class Watched:
    """One call of a model."""

    def __init__(self, within: Span | None) -> None:
        self.spent = Spent()
        self._span = within

    def answered(self, answer: ChatAnswer, spent: Spent) -> None:
        """It has answered; of what it said nothing is told."""
        self.spent = spent
        if self._span is not None:
            self._span.attributes |= {
                "gen_ai.response.finish_reasons": answer.finish.value,
                "gen_ai.usage.input_tokens": spent.input_tokens,
                "gen_ai.usage.output_tokens": spent.output_tokens,
                "llmspell.cost_usd": spent.cost_usd,
                "llmspell.tool_uses": len(answer.tool_uses),
            }
