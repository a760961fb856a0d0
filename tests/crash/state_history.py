"""Writes to the state engine that can be told afterwards, and what must be found after a power cut.

Each of several writers does one operation after another, each determined by seed, writer and
number, and prints `WRITER NUMBER REVISION` once it is acknowledged. A writer has one operation in
flight at most. So after a power cut its keys hold what its first n operations leave, where n is
what was acknowledged, or one more; anything else is a loss, a half batch, or a write never sent.

`python -m tests.crash.state_history FOLDER SEED [nosync|nometasync]` writes.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb

from services.common.clock import FakeClock
from services.state.items import Items
from services.state.model import Encoding, Value, Write
from tests.crash.state_invariants import check_state
from tests.state_engines import embedded_items

WRITERS = 12
OPERATIONS = 40
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
    engine = embedded_items(folder, clock, on_fatal=sys.exit, sync=sync, changes_kept=CHANGES_KEPT)
    os.write(1, b"seed %d\n" % seed)
    async with asyncio.TaskGroup() as tasks:
        for writer in range(WRITERS):
            tasks.create_task(write_one(engine, seed, writer))
        tasks.create_task(expire(engine, clock))
    await engine.close()


async def write_one(engine: Items, seed: int, writer: int) -> None:
    """One writer's operations, each acknowledged."""
    tenant = tenant_of(writer)
    for number in range(OPERATIONS):
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
    return lambda folder, lines: asyncio.run(_check(folder, lines[1:], histories))


async def _check(folder: Path, lines: Sequence[str], histories: Histories) -> None:
    engine = embedded_items(folder, FakeClock(), on_fatal=sys.exit, changes_kept=CHANGES_KEPT)
    with engine._engine.read() as view:
        check_state(view)
    await _check_acknowledged(engine, [tuple(map(int, line.split())) for line in lines], histories)
    before = await engine.revision()
    changed = await engine.set("acme", "global", "one more", Value(Encoding.TEXT, b"x"))
    assert changed.revision == before + 1
    await engine.close()


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


def leave_headers_unflushed() -> None:
    """Let LMDB flush its pages, and not the header that names them."""
    opening = lmdb.open
    lmdb.open = lambda path, **options: opening(path, **(options | {"metasync": False}))


if __name__ == "__main__":
    if "nometasync" in sys.argv[3:]:
        leave_headers_unflushed()
    asyncio.run(write_all(Path(sys.argv[1]), int(sys.argv[2]), sync="nosync" not in sys.argv[3:]))
