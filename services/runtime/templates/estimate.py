"""What an execution of a template would cost, by what its author found that it depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.runtime.templates.model import Template
from services.runtime.toolbox.model import Arguments

USD_PER_MILLION = 0.10
"""Where a model has no known price."""
UNKNOWN_PRICE_CONFIDENCE = 0.5
"""Of what is thought of the tokens, where the price is a guess."""

PriceOf = Callable[[str], float | None]
"""`provider/model` → US dollars a million tokens, read and written alike; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """What it would cost."""

    tokens: int
    cost_usd: float
    seconds: float
    confidence: float


def estimate(template: Template, accepted: Arguments, price_of: PriceOf) -> Estimated:
    """Of one execution with these parameters."""
    told = template.head.estimate
    if told is None:
        return Estimated(tokens=0, cost_usd=0.0, seconds=1.0, confidence=1.0)
    units = (weight * _units(accepted.get(name)) for name, weight in told.per.items())
    tokens = round(told.base_tokens + sum(units))
    price = price_of(str(accepted.get("model", "")))
    sure = told.confidence * (1.0 if price is not None else UNKNOWN_PRICE_CONFIDENCE)
    return Estimated(
        tokens=tokens,
        cost_usd=tokens * (USD_PER_MILLION if price is None else price) / 1e6,
        seconds=tokens / 1000 * told.seconds_per_1000_tokens,
        confidence=sure,
    )


def _units(value: object) -> float:
    if isinstance(value, int | float):
        return float(value)
    return float(len(value)) if isinstance(value, str | list | dict) else 0.0
