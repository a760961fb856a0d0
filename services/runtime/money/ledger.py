"""Reserves what a call of a model may cost at most, before it is made, and settles it after.

A reservation is made within what this process has claimed of each budget (`tally`), mostly without
a write. Settling is one write to state, which calls that end together share; it has been flushed to
disk before the call's answer is given out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.standing import LooksUp
from services.runtime.money.book import Book, budget_place
from services.runtime.money.model import FREE, NANO, Account, Amount, Price, Purse, Spent
from services.runtime.money.periods import day_of
from services.runtime.money.shelf import BudgetRecord, Calls, Shelf
from services.runtime.money.tally import BudgetKey, Tally
from services.runtime.providers.model import Usage

log = logging.getLogger(__name__)

_RETRY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a call of a model may take."""

    model: str
    """As `provider/model`."""
    price: Price | None
    """None: not known; then only tokens count."""
    input_tokens: int
    """At most."""
    output_tokens_max: int
    output_tokens_min: int = 1
    """With fewer it makes no sense."""

    def amount(self, output_tokens: int) -> Amount:
        """What it takes at most where it may write so much."""
        nano = (self.price or FREE).nano(self.input_tokens, output_tokens)
        return Amount(nano, self.input_tokens + output_tokens)

    def affordable(self, free: Amount) -> int:
        """How much it may write for that; less than nothing where even reading is too much."""
        held = (self.price or FREE).at(self.input_tokens)
        by_tokens = free.tokens - self.input_tokens
        left = free.nano - held.nano(self.input_tokens, 0)
        if left < 0 or not held.output_usd:
            return by_tokens if left >= 0 else -1
        return min(by_tokens, int(left / (held.output_usd * 1000)))


class Reservation:
    """What is held for one call, until it is settled or released."""

    def __init__(self, ledger: Ledger, book: Book, account: Account, wish: Wish) -> None:
        self._ledger = ledger
        self._book = book
        self._account = account
        self._wish = wish
        self._purses: Sequence[Purse] = ()
        self._tallies: Sequence[Tally] = ()
        self._amount = Amount()
        self._secured = False
        self._open = False
        self.day = ""
        """Of UTC, which it counts for."""
        self.output_tokens = wish.output_tokens_max
        """What the model may write for it."""

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit that it draws from."""
        return bool(self._purses)

    def hold(self, tallies: Sequence[Tally], day: str, output_tokens: int) -> None:
        """Take it out of all that it draws from; at once, or not at all."""
        self.day, self.output_tokens, self._open = day, output_tokens, True
        self._tallies = tallies
        self._purses = (*self._account.limits, *(tally.purse for tally in tallies))
        self._amount = self._wish.amount(output_tokens)
        for purse in self._purses:
            purse.reserved += self._amount
        for tally in tallies:
            tally.headroom = self._amount

    def secure(self) -> bool:
        """Whether the claims in state cover it."""
        if all(tally.secures(self._amount) for tally in self._tallies):
            for tally in self._tallies:
                tally.secured += self._amount
            self._secured = True
        return self._secured

    def fits(self) -> bool:
        """Whether its budgets are there still, and hold it after others' claims were read again."""
        return all(
            self._book.has(tally) and tally.purse.free().covers(Amount()) for tally in self._tallies
        )

    def cut(self) -> ServiceError:
        """That the answer ended where a limit did."""
        narrow = min(self._purses, key=lambda purse: self._wish.affordable(purse.free()))
        return exhausted(narrow, self._wish, "cut off an answer of")

    def release(self) -> None:
        """Give it back: nothing was spent. Twice is once."""
        if not self._open:
            return
        self._open = False
        for purse in self._purses:
            purse.reserved -= self._amount
        for tally in self._tallies if self._secured else ():
            tally.secured -= self._amount
        self._book.tell_change()

    def count(self, usage: Usage) -> Spent:
        """Count what was spent, in memory only; it is written soon."""
        spent = self._count(usage)
        self._ledger.write_soon(self._book)
        return spent

    async def settle(self, usage: Usage) -> Spent:
        """Count what was spent. When this returns it is on disk, unless state is away for long."""
        spent = self._count(usage)
        await self._ledger.write(self._book)
        return spent

    def _count(self, usage: Usage) -> Spent:
        price = self._wish.price
        nano = (price or FREE).nano(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        spent = Spent(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            cost_usd=nano / NANO,
            estimated=usage.estimated or price is None,
        )
        self.release()
        amount = Amount(nano, usage.input_tokens + usage.output_tokens)
        for purse in self._account.limits:
            purse.spent += amount
        self._book.settle(self._account, self.day, self._wish.model, spent, nano)
        return spent


class Ledger:
    """All tenants' money in this process."""

    def __init__(
        self, calls: Calls, clock: Clock, *, lane: str = "", tenants: LooksUp | None = None
    ) -> None:
        """`lane`: names this process among all that write; empty: a new name.

        `tenants`: what the operator lets each of them spend in a month; None: what it likes.
        """
        self._tenants = tenants
        self._calls = calls
        self._clock = clock
        self._lane = lane or secrets.token_hex(6)
        self._books: dict[str, Book] = {}
        self._tasks: dict[Book, asyncio.Task[None]] = {}

    async def is_limited(self, account: Account) -> bool:
        """Whether any limit holds for what this account spends."""
        if account.limits:
            return True
        budgets = await self._book(account.context.tenant).budgets()
        return any(key.concerns(account.agent) for key in budgets)

    async def reserve(self, account: Account, wish: Wish, *, wait_s: float = 0.0) -> Reservation:
        """Hold what a call may cost at most.

        Where calls under way hold what it needs, it waits for them, `wait_s` seconds at most; then
        it takes what there is, if that is enough for `output_tokens_min`.

        Raises:
            ServiceError: BUDGET_EXHAUSTED where a limit has no room; SERVICE_UNAVAILABLE where
                budgets cannot be read.
        """
        book = self._book(account.context.tenant)
        until, looked = self._clock.monotonic() + wait_s, False
        while True:
            day = day_of(self._clock.now_ns())
            tallies = await book.tallies(account.agent, day)
            purses = (*account.limits, *(tally.purse for tally in tallies))
            output_tokens, narrow = _room(wish, purses)
            left_s = until - self._clock.monotonic()
            if narrow is not None and narrow.reserved.tokens and left_s > 0:
                await _wait(book.changed(), left_s)
                continue
            if narrow is not None and tallies and not looked:
                await book.look_again(tallies)
                looked = True
                continue
            if narrow is not None and output_tokens < wish.output_tokens_min:
                raise exhausted(narrow, wish)
            reservation = Reservation(self, book, account, wish)
            reservation.hold(tallies, day, output_tokens)
            if await self._secure(book, reservation):
                return reservation

    async def budgets(self, tenant: str) -> Sequence[Tally]:
        """All budgets of a tenant in order, with what is spent of them."""
        tallies = await self._book(tenant).all_tallies(day_of(self._clock.now_ns()))
        return sorted(tallies, key=lambda tally: tally.budget)

    async def set_budget(self, tenant: str, key: BudgetKey, *, nano: int, tokens: int) -> Tally:
        """Set a budget or change it; it holds at once here, elsewhere within seconds."""
        book = self._book(tenant)
        batch = book.shelf.batch()
        batch.put(budget_place(key), BudgetRecord(nano, tokens, self._clock.now_ns()))
        await book.shelf.write(batch)
        tallies = await self.budgets(tenant)
        return next(tally for tally in tallies if tally.budget == key)

    async def delete_budget(self, tenant: str, key: BudgetKey) -> bool:
        """Remove a budget; whether it was there."""
        book = self._book(tenant)
        was_there = key in await book.budgets(again=True)
        if was_there:
            batch = book.shelf.batch()
            batch.remove(budget_place(key))
            await book.shelf.write(batch)
            await book.budgets(again=True)
        return was_there

    async def written(self, tenant: str) -> Shelf:
        """The tenant's records, with all that this process has counted."""
        book = self._book(tenant)
        await book.write()
        return book.shelf

    async def purge(self, tenant: str) -> tuple[int, int]:
        """Erase what is kept of a tenant; how many records there were, and how many are left."""
        return await self._book(tenant, forget=True).end()

    async def write(self, book: Book) -> None:
        """Write what was counted; where state is away it is tried again beside."""
        try:
            await book.write()
        except ServiceError as error:
            log.warning("usage waits to be written", extra={"why": error.message})
            self.write_soon(book)

    def write_soon(self, book: Book) -> None:
        """Write beside, and try until it is done."""
        if book not in self._tasks:
            task = self._tasks[book] = asyncio.create_task(self._keep_writing(book))
            task.add_done_callback(lambda _: self._tasks.pop(book, None))

    async def close(self) -> None:
        """Write all and let claims go, so that nothing is lost to a restart."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        closing = (book.close() for book in self._books.values())
        for failure in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(failure, Exception):
                log.warning("usage was not written", extra={"why": str(failure)})

    async def _secure(self, book: Book, reservation: Reservation) -> bool:
        """Whether state knows that it may be spent; else another process was quicker."""
        try:
            while not reservation.secure():
                if not reservation.fits():
                    reservation.release()
                    return False
                await book.write()
        except BaseException:
            reservation.release()
            raise
        return True

    def _book(self, tenant: str, *, forget: bool = False) -> Book:
        book = self._books.get(tenant)
        if book is None:
            book = Book(Shelf(self._calls, tenant), self._clock, self._lane, self._tenants)
            self._books[tenant] = book
        if forget:
            del self._books[tenant]
        return book

    async def _keep_writing(self, book: Book) -> None:
        while book.is_dirty:
            try:
                await book.write()
            except ServiceError:
                await asyncio.sleep(_RETRY_S)


def exhausted(purse: Purse, wish: Wish, what: str = "has no room for a call of") -> ServiceError:
    """A limit has no room; what it is and what is spent of it."""
    free, need = purse.free(), wish.amount(wish.output_tokens_min)
    facts = _tokens(purse) if need.tokens > free.tokens else _money(purse)
    text = (
        f"The budget {purse.name} {what} {wish.model}: of {facts['limit']} {facts['unit']} "
        f"{facts['spent']} are spent and {facts['reserved']} held by calls under way."
    )
    return ServiceError(
        Reason.BUDGET_EXHAUSTED, text, budget=purse.name, **facts, tokens=0, cost_usd=0
    )


def _tokens(purse: Purse) -> Mapping[str, object]:
    held = purse.taken.tokens - purse.spent.tokens
    return {
        "unit": "tokens",
        "limit": purse.limit_tokens,
        "spent": purse.spent.tokens,
        "reserved": held,
    }


def _money(purse: Purse) -> Mapping[str, object]:
    held = purse.taken.nano - purse.spent.nano
    return {
        "unit": "USD",
        "limit": usd_text(purse.limit_nano),
        "spent": usd_text(purse.spent.nano),
        "reserved": usd_text(held),
    }


def usd_text(nano: int) -> str:
    """US dollars without zeros at the end, such as `0.0125`."""
    return f"{nano / NANO:.9f}".rstrip("0").rstrip(".")


def _room(wish: Wish, purses: Sequence[Purse]) -> tuple[int, Purse | None]:
    """How much may be written, and what narrows that."""
    most, narrow = wish.output_tokens_max, None
    for purse in purses:
        affordable = wish.affordable(purse.free())
        if affordable < most:
            most, narrow = affordable, purse
    return most, narrow


async def _wait(waiter: asyncio.Future[None], seconds: float) -> None:
    await asyncio.wait((waiter,), timeout=seconds)
