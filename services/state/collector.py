"""Removes blobs that nobody needs, and never one that somebody needs or is adding.

A transaction that takes the last reference of a blob leaves a tombstone. Here the blob is doomed
first, so that nobody can begin to add it; then, if it is still without a reference, its file is
removed; then its tombstone is. Only who adds a blob can give it its first reference, and holds a
pin from before the file is in place until after that is committed (`Pins`). A crash in between
leaves a tombstone, and then all of this happens again, or a file without reference or tombstone,
which `sweep_orphans` finds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator

from services.common.expiry import SLICE
from services.state.artifact_step import ArtifactStep, dead_blobs, is_needed
from services.state.blob_format import BlobKey
from services.state.blobs import Blobs, Pins
from services.state.step import Keeper, Step

log = logging.getLogger(__name__)

_PAUSE_S = 0.01
"""Between two looks at files, so that a million of them take nobody's turn."""


class Collector:
    """The end of blobs."""

    def __init__(self, keeper: Keeper, blobs: Blobs, pins: Pins) -> None:
        self._keeper = keeper
        self.blobs = blobs
        self._pins = pins

    @property
    def pins(self) -> Pins:
        """Which blobs are being added, or are needed for another reason."""
        return self._pins

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit` blobs that nobody needs; how many."""
        with self._keeper.engine.read() as view:
            dead = [BlobKey(*each) for each in itertools.islice(dead_blobs(view), limit)]
        return await self.collect(dead) if dead else 0

    async def sweep_tenant(self, tenant: str) -> int:
        """Likewise a slice of one tenant's; how many."""
        with self._keeper.engine.read() as view:
            dead = [BlobKey(*each) for each in itertools.islice(dead_blobs(view, tenant), SLICE)]
        return await self.collect(dead) if dead else 0

    async def collect(self, keys: list[BlobKey]) -> int:
        """Remove those of the blobs that nobody needs or is adding; how many.

        Goes on to its end even if whoever asked has gone: a thread must not remove files that
        nobody dooms any more.
        """
        return await asyncio.shield(asyncio.ensure_future(self._collect(keys)))

    async def sweep_orphans(self) -> int:
        """Remove every file of a blob without a record, as a crash may leave; how many.

        Slow on purpose; once after each start is enough.
        """
        folders, total = self.blobs.stored(), 0
        while found := await asyncio.to_thread(_next, folders):
            with self._keeper.engine.read() as view:
                orphans = [key for key in found if not is_needed(view, *key)]
            if orphans:
                total += await self.collect(orphans)
            await asyncio.sleep(_PAUSE_S)
        if total:
            log.info("removed files that no artifact needs", extra={"files": total})
        return total

    async def _collect(self, keys: list[BlobKey]) -> int:
        with self._pins.doom(keys) as free:
            with self._keeper.engine.read() as view:
                doomed = [key for key in free if not is_needed(view, *key)]
            if doomed:
                await asyncio.to_thread(self.blobs.remove, doomed)
                await self._keeper.step(lambda step: _bury(step, doomed))
        return len(doomed)


def _bury(step: Step, keys: list[BlobKey]) -> None:
    artifacts = ArtifactStep(step)
    for key in keys:
        artifacts.bury(*key)


def _next(folders: Iterator[list[BlobKey]]) -> list[BlobKey]:
    """The next blobs that are there; none at the end."""
    return next((some for some in folders if some), [])
