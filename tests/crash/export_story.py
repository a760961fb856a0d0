"""Exports a large artifact and imports it: `python -m tests.crash.export_story FOLDER MIB`.

Says the most memory that the process had at any time, in MiB: before, and after.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from services.common.clock import SystemClock
from services.state.artifact_model import Draft
from services.state.backup.transfer import Transfer
from tests.state_world import FullWorld

PIECE = os.urandom(1024**2)


def most_mib() -> int:
    """The most memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def main(folder: Path, size_mib: int) -> None:
    """There and back."""
    world = FullWorld("embedded", folder, clock=SystemClock())

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(size_mib):
            yield number.to_bytes(8, "big") + PIECE[8:]

    await world.store("a", "small", b"x")
    await world.taken_in("b", await world.exported("a"))
    before = most_mib()
    await world.artifacts.store("a", Draft(scope="global", name="large"), pieces())
    transfer = Transfer(world.backups)
    with transfer.aside() as path:
        await transfer.export_tenant("a", path)
        await transfer.import_tenant("c", path, replace=False, dry_run=False)
    sys.stdout.write(f"{before} {most_mib()}\n")
    await world.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
