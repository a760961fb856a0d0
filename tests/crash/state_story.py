"""A story of the state engine for tests/crash/faults.py: batches, ends, compaction, a restart.

Then come a session with its checkpoints, artifacts, events, a journal, a migration and a backup
(`state_writers`), and another restart. What is refused is asked for once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from services.common import store
from services.common.clock import FakeClock
from services.state.items import Items
from services.state.model import Encoding, Value, Write
from tests.crash.faults import Ledger, told
from tests.crash.state_writers import (
    Areas,
    ArtifactWriter,
    BackupWriter,
    EventWriter,
    JournalWriter,
    MigrationWriter,
    SessionWriter,
    Writer,
)

TENANTS = ("acme", "globex")
SCOPE = "session:items"
SHORT_NS = 5 * 10**9
SIZE = 3000

Contents = dict[str, bytes]


def content(tenant: str, key: str, version: int) -> bytes:
    """Another one for each tenant, key and version."""
    return f"{tenant} {key} {version} ".encode().ljust(SIZE, b".")


def put(tenant: str, keys: Sequence[str], version: int, ttl_ns: int | None = None) -> list[Write]:
    """A batch of values."""
    return [
        Write(SCOPE, key, Value(Encoding.RAW, content(tenant, key, version)), ttl_ns)
        for key in keys
    ]


def names(first: int, last: int) -> list[str]:
    """Keys by number."""
    return [f"k{n}" for n in range(first, last)]


BATCHES: list[Callable[[str], list[Write]]] = [
    lambda tenant: put(tenant, names(0, 40), 0),
    lambda tenant: put(tenant, names(20, 50), 1),
    lambda tenant: put(tenant, ["short1", "short2"], 0, SHORT_NS),
    lambda tenant: [Write(SCOPE, key, None) for key in names(0, 45)],
    lambda tenant: put(tenant, names(3, 6), 2),
]
"""What each tenant writes. Behind the last but one the file is loose, and is made smaller."""
SWEEP, COMPACT = len(BATCHES), len(BATCHES) + 1


def after(tenant: str, done: Sequence[int]) -> Contents:
    """What a tenant's keys hold after some of the batches."""
    contents: Contents = {}
    for number in done:
        for write in BATCHES[number](tenant):
            contents.pop(write.key, None)
            if write.value is not None:
                contents[write.key] = write.value.content
    return contents


OTHERS = 1000
"""From here on the numbers are those of other writers, each with so many."""


def others() -> list[Writer]:
    """Who writes beside items; the first one goes through a session's whole life."""
    lives = [(SessionWriter, SessionWriter.STEPS), (ArtifactWriter, 6), (EventWriter, 3)]
    lives += [(JournalWriter, 2), (MigrationWriter, 2), (BackupWriter, 1)]
    return [kind(1, 0, operations) for kind, operations in lives]


def opened(folder: Path, clock: FakeClock) -> Areas:
    """All areas as the service opens them, but for the size from which a file is made smaller."""
    store.COMPACT_BYTES_MIN = 64 * 1024
    return Areas(folder, clock, on_fatal=store.exit_on_fatal)


def numbered(batch: int, tenant: str) -> int:
    """One number for both."""
    return batch * len(TENANTS) + TENANTS.index(tenant)


def split(numbers: Sequence[int], tenant: str) -> list[int]:
    """The batches of a tenant."""
    mine = TENANTS.index(tenant)
    items = [number for number in numbers if number < OTHERS]
    found = [number // len(TENANTS) for number in items if number % len(TENANTS) == mine]
    return [number for number in found if number < len(BATCHES)]


async def tell(folder: Path, ledger: Ledger) -> None:
    """Write as two tenants in turn, sweep what has ended, compact, and go on after a restart."""
    clock, answered = FakeClock(), []
    areas = opened(folder, clock)
    engine = areas.items
    for batch in range(len(BATCHES)):
        for tenant in TENANTS:
            number = numbered(batch, tenant)
            if await ledger.ask(number, engine.batch(tenant, [], BATCHES[batch](tenant))):
                answered.append(number)
            await compare(engine, answered, ended=False)
        if batch == len(BATCHES) - 2:
            await ledger.ask(numbered(COMPACT, TENANTS[0]), engine._engine.compact())
            await compare(engine, answered, ended=False)
    clock.advance(10)
    await ledger.ask(numbered(SWEEP, TENANTS[0]), engine.sweep())
    await compare(engine, answered, ended=True)
    await areas.close()
    areas = opened(folder, clock)
    await compare(areas.items, answered, ended=True)
    await tell_others(areas, ledger)
    await areas.close()
    areas = opened(folder, clock)
    await compare(areas.items, answered, ended=True)
    for writer in others():
        await writer.check(areas, writer.operations, writer.operations)
    await areas.close()


async def tell_others(areas: Areas, ledger: Ledger) -> None:
    """One operation of each after the other; one that is refused is asked for again."""
    made = others()
    for number in range(max(writer.operations for writer in made)):
        for place, writer in enumerate(made, 1):
            if number < writer.operations:
                asked = OTHERS * place + number
                while not await ledger.ask(asked, writer.do(areas, number)):
                    pass
                await writer.check(areas, number + 1, number + 1)


async def compare(engine: Items, answered: Sequence[int], *, ended: bool) -> None:
    """Each tenant has what it was told it has, and nothing else."""
    for tenant in TENANTS:
        mine = after(tenant, split(answered, tenant))
        assert await held(engine, tenant) == visible(mine, ended=ended), tenant


async def held(engine: Items, tenant: str) -> Contents:
    """What a tenant finds."""
    page = await engine.list(tenant, SCOPE, limit=200)
    return {item.key: item.value.content for item in page.items if item.value is not None}


def visible(contents: Contents, *, ended: bool) -> Contents:
    """What of it has not ended."""
    return {k: v for k, v in contents.items() if not (ended and k.startswith("short"))}


async def check(folder: Path, lines: Sequence[str]) -> None:
    """All that was answered is there; the last that was asked for is, or nothing of it."""
    clock = FakeClock()
    clock.advance(100)
    answered, unknown = told(lines)
    areas = opened(folder, clock)
    engine = areas.items
    areas.check()
    for tenant in TENANTS:
        maybe = [answered, answered if unknown is None else [*answered, unknown]]
        left = [after(tenant, split(each, tenant)) for each in maybe]
        assert await held(engine, tenant) in [visible(each, ended=True) for each in left], tenant
    await areas.recover()
    for place, writer in enumerate(others(), 1):
        done = sum(number // OTHERS == place for number in answered)
        more = unknown is not None and unknown // OTHERS == place
        await writer.check(areas, done, done + more)
    while await engine.sweep():
        pass
    areas.check_tidy()
    await engine.batch("acme", [], put("acme", ["one more"], 0))
    await areas.close()
