"""A tenant that attacks without pause: the corpus round and round, so many at once.

`STORM_KEY=KEY python -m tests.performance.storm ADDRESS AT_ONCE`, until it is ended.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from tests.integration.attacks import Attack, Caller, corpus


async def _attack(mallory: Caller, attacks: itertools.cycle[Attack]) -> None:
    while True:
        await mallory.attack(next(attacks), {})


async def _main(address: str, at_once: int) -> None:
    mallory = Caller(address, os.environ["STORM_KEY"])
    short = [attack for attack in corpus() if attack.wall_s <= 3 or "held" not in attack.expects]
    attacks = itertools.cycle(short)
    await asyncio.gather(*(_attack(mallory, attacks) for _ in range(at_once)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
