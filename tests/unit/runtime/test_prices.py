"""Prices from the data package and from the operator's file; tokens by length."""

import json

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.runtime.money.model import FREE, Price
from services.runtime.money.prices import Prices, read_prices
from services.runtime.money.tokens import (
    estimate_request,
    estimate_tokens,
    most_of_request,
    most_tokens,
)
from services.runtime.providers.model import ChatRequest, Image, Message, Role, ToolOffer, ToolUse
from services.vector.embedding.local import load_tokenizer

FILE = """
[[prices]]
model = "openai/gpt-4o-mini"
input_usd_per_million = 9.0
output_usd_per_million = 18.0

[[prices]]
model = "mill/*"
output_usd_per_million = 2.5
cached_usd_per_million = 0.5
"""


@pytest.fixture
def prices():
    return Prices(FakeClock(1_790_000_000 * 10**9))


def test_prices_of_the_package(prices):
    """A known model has one, dated names of it too; an unknown one and an unknown provider none."""
    mini = prices.of("openai", "gpt-4o-mini")
    assert (mini.input_usd, mini.output_usd, mini.cached_usd) == (0.15, 0.6, 0.075)
    assert prices.of("openai", "gpt-4o-mini-2024-07-18") == mini
    assert prices.of("openrouter", "openai/gpt-4o").output_usd == 10
    assert prices.of("openai", "text-embedding-3-small").input_usd == 0.02
    assert prices.of("openai", "no-such-model") is None
    assert prices.of("nobody", "gpt-4o") is None


def test_a_price_that_rises_with_length(prices):
    """From a length on, another price holds for all tokens."""
    price = prices.of("anthropic", "claude-sonnet-4-5")
    assert price.nano(200_000, 0) == 200_000 * 3_000
    assert price.nano(200_001, 0) == 200_001 * 6_000


def test_local_models_cost_nothing(prices):
    """Whatever they are called."""
    assert prices.of("ollama", "llama3") is FREE
    assert prices.of("scripted", "any") is FREE


def test_the_operators_prices_come_first(tmp_path):
    """For one model, or for all of a provider, even of a local one."""
    (tmp_path / "prices.toml").write_text(FILE)
    own = read_prices(str(tmp_path / "prices.toml"))
    prices = Prices(FakeClock(), own=own)
    assert prices.of("openai", "gpt-4o-mini") == Price(input_usd=9.0, output_usd=18.0)
    assert prices.of("mill", "any") == Price(output_usd=2.5, cached_usd=0.5)
    assert prices.of("millions", "any") is None
    assert read_prices("") == {}


@pytest.mark.parametrize(
    "wrong",
    [
        '[[prices]]\nmodel = "a/b"\ninput = 1',
        '[[prices]]\nmodel = "a/b"\ninput_usd_per_million = -1.0',
        '[[prices]]\nmodel = "a"',
        "[[prices",
        None,
    ],
)
def test_a_wrong_file_is_refused(tmp_path, wrong):
    """With its name, before anything starts."""
    file = tmp_path / "prices.toml"
    if wrong is not None:
        file.write_text(wrong)
    with pytest.raises(ServiceError) as caught:
        read_prices(str(file))
    assert caught.value.reason == Reason.CONFIG_INVALID
    assert caught.value.metadata["file"] == str(file)


def test_money_is_exact():
    """Sums in billionths of a dollar, rounded up, what was in the cache at its own price."""
    price = Price(input_usd=0.15, output_usd=0.6, cached_usd=0.075)
    assert price.nano(1000, 100) == 210_000
    assert price.nano(1000, 0, 1000) == 75_000
    assert price.nano(1, 0, 1) == 75
    assert Price(input_usd=0.0375).nano(1, 0) == 38
    assert Price(input_usd=1.0).nano(10, 0, 99) == 10_000


TEXTS = [
    "The quick brown fox jumps over the lazy dog. " * 20,
    "def f(x):\n    return {k: v for k, v in x.items() if v is not None}\n" * 20,
    "0123456789abcdef" * 40,
    "你好世界今天天气很好" * 20,
    "🙂🚀" * 40,
]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_at_most(text):
    """A real tokenizer never makes more of a text than is reserved for it."""
    real = len(load_tokenizer().encode(text, add_special_tokens=False).ids)
    assert real <= most_tokens(text)
    assert estimate_tokens(text) <= most_tokens(text)


def test_tokens_of_a_request():
    """All of it counts: messages, pictures, calls of tools, tools, a schema."""
    plain = ChatRequest(model="m", messages=[Message(role=Role.USER, text="a" * 400)])
    assert estimate_request(plain) == 108
    picture = Image(mime_type="image/png", data=b"x")
    use = ToolUse(call_id="1", name="calculator", arguments=json.dumps({"input": "1+1"}))
    full = ChatRequest(
        model="m",
        messages=[
            Message(role=Role.USER, text="a" * 400, images=[picture]),
            Message(role=Role.ASSISTANT, tool_uses=[use]),
        ],
        tools=[ToolOffer(name="calculator", description="Counts.", parameters={"type": "object"})],
        answer_schema={"type": "object"},
    )
    assert 1700 < estimate_request(full) < most_of_request(full)
