"""One tenant's money in this process: budgets, what is left of them, what is not written yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.limits import BATCH_OPERATIONS_MAX
from services.common.standing import LooksUp
from services.common.tenants import tenant_not_found
from services.runtime.money.model import Account, Amount, Purse, Spent, to_nano
from services.runtime.money.periods import Period
from services.runtime.money.rows import Row, Rows
from services.runtime.money.shelf import (
    BUDGETS,
    DAYS,
    RUNS,
    Batch,
    BudgetRecord,
    ClaimRecord,
    RowRecord,
    Shelf,
)
from services.runtime.money.tally import OPERATOR, BudgetKey, Tally, rows_prefix

_OPERATORS = BudgetKey(OPERATOR, Period.MONTH)
BUDGETS_READ_S = 5.0
"""How old budgets may be that another process may have set."""
RACES_MAX = 100
RUN_ROWS_S = 30 * 24 * 3600
_CLAIMS_S = {Period.DAY: 7 * 24 * 3600, Period.MONTH: 62 * 24 * 3600, Period.TOTAL: 0}
"""How long claims are kept: past the end of what they count in."""

Written = Callable[[int], None]
"""Is told the revision of what was written."""


class Book:
    """One tenant's; everything that waits does so under one lock, everything else is at once."""

    def __init__(
        self, shelf: Shelf, clock: Clock, lane: str, tenants: LooksUp | None = None
    ) -> None:
        self._tenants = tenants
        self._ceiling = 0
        self.shelf = shelf
        self.tenant = shelf.tenant
        self._clock = clock
        self._lane = lane
        self._rows = Rows(lane)
        self._tallies: dict[tuple[BudgetKey, str], Tally] = {}
        self._budgets: dict[BudgetKey, BudgetRecord] | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()
        self._asked = self._written = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.is_closed = False
        """Whether its tenant is gone: nothing more is written."""

    @property
    def is_dirty(self) -> bool:
        """Whether something is not written yet."""
        return bool(self._rows.dirty()) and not self.is_closed

    async def budgets(self, *, again: bool = False) -> dict[BudgetKey, BudgetRecord]:
        """All budgets; `again`: as they are now, else as they were five seconds ago at most."""
        ceiling = await self._find_ceiling()
        if again or self._are_old() or ceiling != self._ceiling:
            async with self._lock:
                if again or self._are_old() or ceiling != self._ceiling:
                    self._ceiling = ceiling
                    await self._read_budgets()
        return self._budgets or {}

    async def _find_ceiling(self) -> int:
        """What the operator lets the tenant spend in a month, in billionths; 0: what it likes."""
        record = None if self._tenants is None else await self._tenants.get(self.tenant)
        return 0 if record is None else to_nano(record.limits.monthly_cost_usd)

    async def tallies(self, agent: str, day: str) -> Sequence[Tally]:
        """Those of the budgets that what this agent spends on that day counts for."""
        budgets = await self.budgets()
        return [await self._tally(key, day) for key in budgets if key.concerns(agent)]

    def has(self, tally: Tally) -> bool:
        """Whether it counts still: its budget was not removed."""
        return self._tallies.get((tally.budget, tally.window)) is tally

    async def all_tallies(self, day: str) -> Sequence[Tally]:
        """Those of all budgets, with what others claim now."""
        budgets = await self.budgets(again=True)
        tallies = [await self._tally(key, day) for key in budgets]
        await self.look_again(tallies)
        return tallies

    async def look_again(self, tallies: Iterable[Tally]) -> None:
        """See what other processes claim now."""
        async with self._lock:
            for tally in tallies:
                await self._read_claims(tally)

    def settle(self, account: Account, day: str, model: str, spent: Spent, nano: int) -> None:
        """Count what a call took, in all that it concerns."""
        amount = Amount(nano, spent.input_tokens + spent.output_tokens)
        self._rows.add(day, account, model, spent, nano)
        for tally in self._tallies.values():
            if tally.concerns(account.agent, day):
                tally.purse.spent += amount

    async def write(self) -> None:
        """Write what is not written yet; whoever asks meanwhile is served by one write together.

        Raises:
            ServiceError: what the state process answered.
        """
        self._asked += 1
        asked = self._asked
        async with self._lock:
            if self._written < asked:
                await self._write()

    async def close(self) -> None:
        """Write all, and claim no more than is spent."""
        async with self._lock:
            for tally in self._tallies.values():
                tally.headroom = Amount()
            await self._write()

    async def end(self) -> tuple[int, int]:
        """Erase all; how many records there were and are. Nothing is written after it."""
        async with self._lock:
            self.is_closed = True
            return await self.shelf.clear(), await self.shelf.count()

    def changed(self) -> asyncio.Future[None]:
        """Done when something is given back."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def tell_change(self) -> None:
        """Let those look again who wait for money."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _are_old(self) -> bool:
        age_s = self._clock.monotonic() - self._read_at
        return self._budgets is None or age_s >= BUDGETS_READ_S

    async def _read_budgets(self) -> None:
        now = self._clock.monotonic()
        kept, _ = await self.shelf.list(BUDGETS, BudgetRecord)
        self._budgets = {_budget_key(one.key): one.record for one in kept}
        if self._ceiling:
            self._budgets[_OPERATORS] = BudgetRecord(self._ceiling, 0, 0)
        self._read_at = now
        for where, tally in list(self._tallies.items()):
            record = self._budgets.get(tally.budget)
            if record is None:
                del self._tallies[where]
            else:
                tally.purse.limit_nano = record.limit_nano
                tally.purse.limit_tokens = record.limit_tokens
        self.tell_change()

    async def _tally(self, key: BudgetKey, day: str) -> Tally:
        found = Tally(key, day, Purse(name=str(key)))
        place = (key, found.window)
        if place in self._tallies:
            return self._tallies[place]
        async with self._lock:
            if place not in self._tallies:
                await self._begin(place, found)
            return self._tallies[place]

    async def _begin(self, place: tuple[BudgetKey, str], tally: Tally) -> None:
        """Learn what was spent before; from here on it is counted here."""
        record = (self._budgets or {}).get(tally.budget)
        if record is not None:
            tally.purse.limit_nano = record.limit_nano
            tally.purse.limit_tokens = record.limit_tokens
        while self._rows.dirty():
            await self._write()
        self._forget_past(tally.day)
        self._tallies[place] = tally
        try:
            rows, _ = await self.shelf.list(DAYS + rows_prefix(tally), RowRecord)
            tally.read_rows(rows, self._lane)
            await self._read_claims(tally)
        except BaseException:
            del self._tallies[place]
            raise

    def _forget_past(self, day: str) -> None:
        for place, tally in list(self._tallies.items()):
            if not tally.purse.reserved.tokens and not tally.concerns_day(day):
                del self._tallies[place]

    async def _read_claims(self, tally: Tally) -> None:
        kept, gate = await self.shelf.list(tally.prefix, ClaimRecord)
        tally.read_claims(kept, gate, self._lane)

    async def _write(self) -> None:
        asked = self._asked
        for _ in range(RACES_MAX):
            if self.is_closed:
                raise tenant_not_found(self.tenant)
            if await self._write_once():
                self._written = asked
                return
        raise ServiceError(
            Reason.OVERLOADED, "Too many processes change this tenant's budgets at once; try again."
        )

    async def _write_once(self) -> bool:
        """Whether all that was to be written is; else others have claimed meanwhile."""
        raised = [tally for tally in self._tallies.values() if self._grows(tally)]
        for batch, told in self._batches():
            revision = await self.shelf.write(batch)
            if revision is None:
                for tally in raised:
                    await self._read_claims(tally)
                return False
            for tell in told:
                tell(revision)
        return True

    @staticmethod
    def _grows(tally: Tally) -> bool:
        return not tally.claim.covers(tally.want())

    def _batches(self) -> Iterable[tuple[Batch, Sequence[Written]]]:
        batch, told = self.shelf.batch(), list[Written]()
        for tally in tuple(self._tallies.values()):
            self._put_claim(batch, told, tally)
            if len(batch.writes) + len(batch.checks) > BATCH_OPERATIONS_MAX - 3:
                yield batch, told
                batch, told = self.shelf.batch(), []
        for row in self._rows.dirty():
            self._put_row(batch, told, row)
            if len(batch.writes) + len(batch.checks) > BATCH_OPERATIONS_MAX - 3:
                yield batch, told
                batch, told = self.shelf.batch(), []
        if batch.writes:
            yield batch, told

    def _put_claim(self, batch: Batch, told: list[Written], tally: Tally) -> None:
        want, grows = tally.want(), self._grows(tally)
        if want == tally.claim and not tally.unsure:
            return
        ttl_s = _CLAIMS_S[tally.budget.period]
        if grows:
            batch.unchanged(tally.gate_key, tally.gate)
            batch.put(tally.gate_key, ClaimRecord(0, 0), ttl_s=ttl_s)
        else:
            tally.claim = want  # state may have it from now on, whatever it answers
        tally.unsure = True
        record = ClaimRecord(want.nano, want.tokens)
        batch.put(f"{tally.prefix}{self._lane}", record, ttl_s=ttl_s)

        def written(revision: int) -> None:
            tally.claim, tally.unsure = want, False
            tally.gate = revision if grows else tally.gate

        told.append(written)

    def _put_row(self, batch: Batch, told: list[Written], row: Row) -> None:
        changes = row.changes
        batch.put(row.key, row.record, ttl_s=RUN_ROWS_S if row.key.startswith(RUNS) else 0)
        told.append(lambda _: self._rows.kept(row, changes))


def _budget_key(key: str) -> BudgetKey:
    period, _, subject = key.removeprefix(BUDGETS).partition("/")
    return BudgetKey(subject, Period(period))


def budget_place(key: BudgetKey) -> str:
    """Where a budget is kept."""
    return f"{BUDGETS}{key.period}/{key.subject}"
