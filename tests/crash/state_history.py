"""Writes to the state engine that can be told afterwards, and what must be found after a power cut.

Each of several writers does one operation after another, each determined by seed, writer and
number, and prints `WRITER NUMBER REVISION` once it is acknowledged. A writer has one operation in
flight at most. So after a power cut its keys hold what its first n operations leave, where n is
what was acknowledged, or one more; anything else is a loss, a half batch, or a write never sent.
Beside those of items there are writers of sessions, artifacts, events, journals, a migration and
backups (`state_writers`).

In the second half all wait for each other before each operation, so that nothing is being written
while acknowledgements are printed: what those stand for must be on disk by then.

`python -m tests.crash.state_history FOLDER SEED [FLAW]` writes; see FLAWS.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb

from services.common.clock import FakeClock
from services.state.engines import blobs
from services.state.items import Items
from services.state.model import Encoding, Value, Write
from tests.crash.state_writers import Areas, Writer, check_all, writers

WRITERS = 12
OPERATIONS = 40
EACH = 2
"""Writers of each kind beside those of items."""
CHANGES_KEPT = 300
LONG_NS = 10**18
SIZES = (0, 10, 200, 3000, 20_000)

Contents = dict[str, bytes]
Histories = Sequence[Sequence[Contents]]


def tenant_of(writer: int) -> str:
    """Two tenants share the store."""
    return ("acme", "acme2")[writer % 2]


def operation(seed: int, writer: int, number: int) -> list[Write]:
    """One operation; an empty list is an increment of the writer's counter."""
    rng = random.Random(f"{seed} {writer} {number}")
    if rng.random() < 0.2:
        return []
    return [_write(rng, writer, number) for _ in range(rng.randint(1, 6))]


def _write(rng: random.Random, writer: int, number: int) -> Write:
    scope, key = f"session:w{writer}", f"k{rng.randrange(8)}"
    if rng.random() < 0.25:
        return Write(scope, key, None)
    content = b"%d %d " % (writer, number) + rng.randbytes(rng.choice(SIZES))
    ttl_ns = LONG_NS if rng.random() < 0.3 else None
    return Write(scope, key, Value(Encoding.RAW, content), ttl_ns)


def history(seed: int, writer: int) -> list[Contents]:
    """What a writer's keys hold after 0, 1, 2, … operations."""
    states: list[Contents] = [{}]
    for number in range(OPERATIONS):
        contents = dict(states[-1])
        writes = operation(seed, writer, number)
        if not writes:
            contents["n"] = b"%d" % (int(contents.get("n", b"0")) + 1)
        for write in writes:
            contents.pop(write.key, None)
            if write.value is not None:
                contents[write.key] = write.value.content
        states.append(contents)
    return states


async def write_all(folder: Path, seed: int, *, sync: bool) -> None:
    """All writers at once, beside one whose items expire and are swept."""
    clock = FakeClock()
    areas = opened(folder, clock, sync=sync)
    others = writers(seed, operations=OPERATIONS, each=EACH)
    os.write(1, b"seed %d\n" % seed)
    together = asyncio.Barrier(WRITERS + sum(each.operations == OPERATIONS for each in others))
    async with asyncio.TaskGroup() as tasks:
        for writer in range(WRITERS):
            tasks.create_task(write_one(areas.items, seed, writer, together))
        for number, other in enumerate(others):
            tasks.create_task(write_other(areas, number, other, together))
        tasks.create_task(expire(areas.items, clock))
    await areas.close()


def opened(folder: Path, clock: FakeClock, *, sync: bool = True) -> Areas:
    """All areas as the process opens them, but for fewer changes that are kept."""
    return Areas(folder, clock, on_fatal=sys.exit, sync=sync, changes_kept=CHANGES_KEPT)


async def write_other(areas: Areas, index: int, writer: Writer, together: asyncio.Barrier) -> None:
    """Another writer's operations, each acknowledged."""
    for number in range(writer.operations):
        if writer.operations == OPERATIONS and number >= OPERATIONS // 2:
            await together.wait()
        await writer.do(areas, number)
        os.write(1, b"%d %d 0\n" % (WRITERS + index, number))


async def write_one(engine: Items, seed: int, writer: int, together: asyncio.Barrier) -> None:
    """One writer's operations, each acknowledged."""
    tenant = tenant_of(writer)
    for number in range(OPERATIONS):
        if number >= OPERATIONS // 2:
            await together.wait()
        writes = operation(seed, writer, number)
        if writes:
            revision = (await engine.batch(tenant, [], writes)).revision
        else:
            revision = (await engine.increment(tenant, f"session:w{writer}", "n", 1)).revision
        os.write(1, b"%d %d %d\n" % (writer, number, revision))


async def expire(engine: Items, clock: FakeClock) -> None:
    """Items that end and are swept, and now and then a whole tenant that is purged."""
    for number in range(OPERATIONS):
        key, value = f"s{number % 7}", Value(Encoding.TEXT, b"x" * number)
        await engine.set("sweeps", "global", key, value, ttl_ns=5 * 10**9)
        clock.advance(1)
        await engine.sweep(2)
        if number % 10 == 9:
            await engine.purge("sweeps")


def checker(acknowledged: Sequence[str]) -> Callable[[Path, Sequence[str]], None]:
    """What raises unless a folder holds all that was acknowledged, and nothing by halves."""
    seed = int(acknowledged[0].removeprefix("seed "))
    histories = [history(seed, writer) for writer in range(WRITERS)]
    others = writers(seed, operations=OPERATIONS, each=EACH)
    return lambda folder, lines: asyncio.run(_check(folder, lines[1:], histories, others))


async def _check(
    folder: Path, lines: Sequence[str], histories: Histories, others: Sequence[Writer]
) -> None:
    areas = opened(folder, FakeClock())
    areas.check()
    await areas.recover()
    told = [tuple(map(int, line.split())) for line in lines]
    await _check_acknowledged(areas.items, told, histories)
    done = Counter(writer for writer, *_ in told)
    counts = [done[WRITERS + index] for index in range(len(others))]
    await check_all(areas, others, counts, 1)
    areas.check_tidy()
    before = await areas.items.revision()
    changed = await areas.items.set("acme", "global", "one more", Value(Encoding.TEXT, b"x"))
    assert changed.revision == before + 1
    await areas.close()


async def _check_acknowledged(
    engine: Items, lines: Sequence[tuple[int, ...]], histories: Histories
) -> None:
    assert await engine.revision() >= max((revision for *_, revision in lines), default=0)
    for writer, states in enumerate(histories):
        done = sum(line[0] == writer for line in lines)
        found = await _contents(engine, writer)
        assert found in states[done : done + 2], f"writer {writer}: {done} were acknowledged"


async def _contents(engine: Items, writer: int) -> Contents:
    page = await engine.list(tenant_of(writer), f"session:w{writer}", limit=100)
    assert page.after is None
    return {item.key: item.value.content for item in page.items if item.value is not None}


def nosync() -> None:
    """Nothing of the database is flushed; see `write_all`."""


def nometasync() -> None:
    """Let LMDB flush its pages, and not the header that names them."""
    opening = lmdb.open
    lmdb.open = lambda path, **options: opening(path, **(options | {"metasync": False}))


def noblobsync() -> None:
    """The bytes of an artifact are not flushed before its record is committed."""
    blobs.FolderUpload.finish = _unflushed(blobs.FolderUpload.finish)


def nonamesync() -> None:
    """Nor the name that they have."""
    blobs._flush = lambda folder: None


def _unflushed(finish: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def without(upload: Any) -> Any:
        flush, os.fsync = os.fsync, lambda descriptor: None
        try:
            return finish(upload)
        finally:
            os.fsync = flush

    return without


FLAWS = {flaw.__name__: flaw for flaw in (nosync, nometasync, noblobsync, nonamesync)}

if __name__ == "__main__":
    for flaw in sys.argv[3:]:
        FLAWS[flaw]()
    asyncio.run(write_all(Path(sys.argv[1]), int(sys.argv[2]), sync="nosync" not in sys.argv[3:]))
