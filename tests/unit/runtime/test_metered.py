"""The one place that asks a model: reserves, asks, settles; every error tells what was spent."""

import asyncio

import pytest

from services.common.clock import SystemClock
from services.common.errors import Reason, ServiceError
from services.runtime.money.metered import Metered
from services.runtime.money.model import NANO, Price
from services.runtime.money.periods import Period
from services.runtime.money.prices import Prices
from services.runtime.money.tally import BudgetKey
from services.runtime.providers.model import (
    Capabilities,
    ChatAnswer,
    ChatRequest,
    Finish,
    Message,
    ModelFacts,
    Role,
    Usage,
)
from tests.state_engines import embedded_keeper
from tests.unit.runtime.money_world import DirectState, account, ledger

REQUEST = ChatRequest(model="", messages=[Message(role=Role.USER, text="How much is it?")])


class Provider:
    """Answers what a test says; keeps what it was asked."""

    name = "mill"
    capabilities = Capabilities()

    def __init__(self):
        self.asked = []
        self.body = self.answer
        self.usage = Usage(input_tokens=10, output_tokens=5)
        self.began = asyncio.Event()

    async def chat(self, request, *, hears=None):
        self.asked.append(request)
        return await self.body(request, hears)

    async def answer(self, request, hears):
        return ChatAnswer(text="So much.", usage=self.usage)

    async def full(self, request, hears):
        """As long as it may."""
        usage = Usage(input_tokens=10, output_tokens=request.max_tokens)
        return ChatAnswer(text="...", finish=Finish.LENGTH, usage=usage)

    async def endless(self, request, hears):
        """Says something, and no end."""
        if hears is not None:
            hears.text("word " * 16)
        self.began.set()
        await asyncio.sleep(600)

    # What a registry does.

    async def get(self, name, tenant, *, base_url="", api_key=""):
        if name != self.name:
            raise ServiceError(Reason.PROVIDER_NOT_FOUND, f"There is no provider {name}.")
        return self

    def split(self, model):
        name, _, rest = model.partition("/")
        return name, rest

    async def facts(self, model):
        return ModelFacts(name=model, output_tokens=2000)


class Listener:
    """Takes what it is told."""

    def __init__(self):
        self.pieces = []

    def text(self, piece, /):
        self.pieces.append(piece)

    def again(self, why, /):
        self.pieces.clear()


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
async def book(tmp_path):
    clock = SystemClock()
    keeper = embedded_keeper(tmp_path, clock, sync=False)
    made = ledger(DirectState(keeper), clock)
    yield made
    await made.close()
    keeper.engine.close()


@pytest.fixture
def metered(provider, book):
    own = {"mill/*": Price(input_usd=1000.0, output_usd=10_000.0)}
    return Metered(provider, book, Prices(SystemClock(), own=own), SystemClock())


async def budget(book, dollars):
    """A tenant's budget of so many dollars."""
    key = BudgetKey("tenant", Period.TOTAL)
    await book.set_budget("acme", key, nano=round(dollars * NANO), tokens=0)


async def spent(book):
    """US dollars spent of the tenant's budget."""
    (tally,) = await book.budgets("acme")
    assert tally.purse.reserved.nano == 0
    return tally.purse.spent.nano / NANO


async def failed(call, reason):
    """The error that it ends with."""
    with pytest.raises(ServiceError) as caught:
        await call
    assert caught.value.reason == reason
    return caught.value


async def test_an_answer_and_what_it_took(metered, provider, book):
    """Tokens as the provider says, money by the price; without a limit nothing is changed."""
    answer, took = await metered.chat(account(), "mill/big/one", REQUEST)
    assert answer.text == "So much."
    assert (took.input_tokens, took.output_tokens, took.estimated) == (10, 5, False)
    assert took.cost_usd == pytest.approx(0.06)
    assert provider.asked[0].model == "big/one"
    assert provider.asked[0].max_tokens is None


async def test_under_a_budget_the_answer_is_limited(metered, provider, book):
    """What is reserved is what the model may write: its own limit, or what the budget leaves."""
    await budget(book, 100)
    await metered.chat(account(), "mill/one", REQUEST)
    assert provider.asked[0].max_tokens == 2000
    await budget(book, 1)
    await metered.chat(account(), "mill/one", REQUEST)
    assert 64 <= provider.asked[1].max_tokens < 100
    assert await spent(book) == pytest.approx(0.12)


async def test_an_answer_that_the_budget_cut_off_is_an_error(metered, provider, book):
    """It names the budget and what the call took all the same; nothing is overspent."""
    await budget(book, 1)
    provider.body = provider.full
    error = await failed(metered.chat(account(), "mill/one", REQUEST), Reason.BUDGET_EXHAUSTED)
    assert error.metadata["budget"] == "tenant/total"
    assert float(error.metadata["cost_usd"]) == pytest.approx(await spent(book))
    assert 0.9 < await spent(book) <= 1
    error = await failed(metered.chat(account(), "mill/one", REQUEST), Reason.BUDGET_EXHAUSTED)
    assert (error.metadata["tokens"], error.metadata["cost_usd"]) == ("0", "0")
    assert len(provider.asked) == 1


async def test_an_answer_that_its_own_limit_cut_off_is_an_answer(metered, provider, book):
    """`max_tokens` of the request is no budget."""
    await budget(book, 100)
    provider.body = provider.full
    request = ChatRequest(model="", messages=REQUEST.messages, max_tokens=20)
    answer, _ = await metered.chat(account(), "mill/one", request)
    assert answer.finish is Finish.LENGTH


@pytest.mark.parametrize(
    ("reason", "told", "heard", "tokens"),
    [
        (Reason.PROVIDER_UNAVAILABLE, {}, "", 0),
        (Reason.PROVIDER_RATE_LIMITED, {}, "", 0),
        (Reason.PROVIDER_UNAVAILABLE, {"tokens": 30}, "", 30),
        (Reason.PROVIDER_UNAVAILABLE, {}, "twelve bytes", 12 + 3),
        (Reason.PROVIDER_ANSWER_INVALID, {}, "", 12),
    ],
)
async def test_a_failed_call_tells_what_it_took(  # noqa: PLR0917
    metered, provider, book, reason, told, heard, tokens
):
    """As the provider says; else what was read and heard; nothing where it did not get so far."""

    async def fail(request, hears):
        if heard:
            hears.text(heard)
        raise ServiceError(reason, "No.", **told)

    await budget(book, 100)
    provider.body = fail
    error = await failed(
        metered.chat(account(), "mill/one", REQUEST, hears=Listener() if heard else None), reason
    )
    assert error.metadata["tokens"] == str(tokens)
    assert float(error.metadata["cost_usd"]) == pytest.approx(await spent(book))
    assert (await spent(book) > 0) == (tokens > 0)


async def test_a_cancelled_call_counts_what_was_heard(metered, provider, book):
    """What it read and said before is spent, and nothing stays reserved."""
    await budget(book, 100)
    provider.body = provider.endless
    asking = asyncio.create_task(metered.chat(account(), "mill/one", REQUEST, hears=Listener()))
    await provider.began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await spent(book) == pytest.approx(12 * 0.001 + 20 * 0.01)


async def test_tries_that_broke_off_are_paid_for(metered, provider, book):
    """A stream that is made again has been read twice, and what was heard of the first was said."""

    async def twice(request, hears):
        hears.text("twelve bytes")
        hears.again("it broke")
        return ChatAnswer(text="So much.", usage=provider.usage)

    provider.body = twice
    _, took = await metered.chat(account(), "mill/one", REQUEST, hears=Listener())
    assert (took.input_tokens, took.output_tokens, took.estimated) == (22, 8, True)


async def test_unknown_provider(metered):
    """The error says so, and that nothing was spent."""
    error = await failed(metered.chat(account(), "none/x", REQUEST), Reason.PROVIDER_NOT_FOUND)
    assert (error.metadata["tokens"], error.metadata["cost_usd"]) == ("0", "0")


async def test_a_hundred_at_once_never_spend_more_than_there_is(metered, provider, book):
    """However many ask together, the budget holds, and no more is refused than must be."""
    await budget(book, 3)
    provider.usage = Usage(input_tokens=10, output_tokens=9)
    request = ChatRequest(model="", messages=REQUEST.messages, max_tokens=10)
    asking = [metered.chat(account(), "mill/one", request) for _ in range(100)]
    ended = await asyncio.gather(*asking, return_exceptions=True)
    refused = [end for end in ended if isinstance(end, ServiceError)]
    assert {end.reason for end in refused} == {Reason.BUDGET_EXHAUSTED}
    assert 2.8 <= await spent(book) <= 3
