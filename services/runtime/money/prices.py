"""What models cost: the operator's own prices first, then those of the data package.

The package (`genai-prices`) has them inside; nothing is asked over the network. A price that
changes is a new release of it, or a line in the operator's file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.runtime.money.model import FREE, Price

LOCAL_PROVIDERS = frozenset({"ollama", "llamacpp", "llama.cpp", "vllm", "local", "scripted"})
"""They run on the operator's own machines and cost nothing, unless the operator's file says so."""
_REMEMBERED_MAX = 10_000


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of the operator's file."""

    model: str
    input_usd_per_million: float = 0.0
    output_usd_per_million: float = 0.0
    cached_usd_per_million: float | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    prices: list[_Line] = []


class Prices:
    """Knows what a model costs."""

    def __init__(self, clock: Clock, *, own: Mapping[str, Price] | None = None) -> None:
        """`own`: the operator's prices, by `provider/model`; a star at the end is any rest."""
        self._clock = clock
        self._own = own or {}
        self._starts = sorted(
            (name[:-1] for name in self._own if name.endswith("*")), key=len, reverse=True
        )
        self._remembered: dict[tuple[str, str, int], Price | None] = {}

    def mixed(self, model: str) -> float | None:
        """US dollars a million tokens of `provider/model`, of which a quarter are written."""
        provider, slash, name = model.partition("/")
        price = self.of(provider, name) if slash else self.of("openai", model)
        if price is None:
            return None
        return (3 * price.input_usd + price.output_usd) / 4

    def of(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model today; None where it is not known."""
        own = self._of_operator(f"{provider}/{model}")
        if own is not None:
            return own
        if provider in LOCAL_PROVIDERS:
            return FREE
        seconds = self._clock.now_ns() // 10**9
        key = (provider, model, seconds // 3600)  # some prices hold at some hours only
        if key not in self._remembered:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[key] = _packaged(provider, model, datetime.fromtimestamp(seconds, UTC))
        return self._remembered[key]

    def _of_operator(self, name: str) -> Price | None:
        if name in self._own:
            return self._own[name]
        start = next((start for start in self._starts if name.startswith(start)), None)
        return None if start is None else self._own[f"{start}*"]


def read_prices(file: str) -> Mapping[str, Price]:
    """The operator's prices from a TOML file; an empty name means that there are none.

    Raises:
        ServiceError: CONFIG_INVALID where it cannot be read or an entry is wrong.
    """
    if not file:
        return {}
    try:
        read = msgspec.convert(tomllib.loads(Path(file).read_text("utf-8")), _File)
        return {line.model: _own_price(line) for line in read.prices}
    except (OSError, ValueError) as error:
        raise ServiceError(
            Reason.CONFIG_INVALID,
            f"The prices cannot be read from {file}: {error}.",
            key="runtime.prices_file",
            file=file,
        ) from None


def _own_price(line: _Line) -> Price:
    cached = line.cached_usd_per_million
    figures = (line.input_usd_per_million, line.output_usd_per_million, cached or 0.0)
    if not all(0 <= figure < 1e6 for figure in figures):  # noqa: PLR2004  (a dollar a token)
        raise ValueError(f"a price of {line.model} is not from 0 to a million US dollars")
    if "/" not in line.model:
        raise ValueError(f"{line.model!r} is not PROVIDER/MODEL")
    return Price(input_usd=figures[0], output_usd=figures[1], cached_usd=cached)


def _packaged(provider: str, model: str, when: datetime) -> Price | None:
    # Half a megabyte of it is imported when the first price is asked for, not at the start.
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    told = found.get_prices(when)
    price = _price(told, 0)
    if price is None:
        return None
    tiers = [(start, _price(told, start + 1) or price) for start in sorted(_starts(told))]
    return Price(
        input_usd=price.input_usd,
        output_usd=price.output_usd,
        cached_usd=price.cached_usd,
        tiers=tuple(tiers),
    )


_PARTS = ("input_mtok", "output_mtok", "cache_read_mtok")


def _starts(told: Any) -> set[int]:
    """From how many tokens on another price holds."""
    parts = (getattr(told, part, None) for part in _PARTS)
    return {tier.start for part in parts for tier in getattr(part, "tiers", ())}


def _price(told: Any, input_tokens: int) -> Price | None:
    figures = [_figure(getattr(told, part, None), input_tokens) for part in _PARTS]
    if figures[0] is None and figures[1] is None:
        return None
    return Price(input_usd=figures[0] or 0.0, output_usd=figures[1] or 0.0, cached_usd=figures[2])


def _figure(part: Any, input_tokens: int) -> float | None:
    if part is None:
        return None
    held = getattr(part, "base", part)
    for tier in getattr(part, "tiers", ()):
        if input_tokens > tier.start:
            held = tier.price
    return float(held)
