"""The loop that gives back the room of expired records."""

import asyncio

from services.common.errors import Reason, ServiceError
from services.vector import expiry


class Storage:
    """Counts its sweeps; says what it is told to."""

    def __init__(self, answers):
        self.answers = answers
        self.limits = []
        self.done = asyncio.Event()

    async def sweep(self, limit):
        """The next answer."""
        self.limits.append(limit)
        if not self.answers:
            self.done.set()
            return 0
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_it_goes_on_at_once_while_slices_are_full(monkeypatch):
    """Full slices follow each other without a pause; a failure is a pause, not the end."""
    pauses = []
    sleep = asyncio.sleep

    async def note(seconds):
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(expiry.asyncio, "sleep", note)
    full = ServiceError(Reason.STORAGE_FULL, "The disk is full; nothing was written.")
    storage = Storage([expiry.SLICE, expiry.SLICE, 3, full])
    task = asyncio.create_task(expiry.sweep_forever(storage, 7.0))
    await storage.done.wait()
    task.cancel()
    assert pauses[:4] == [0, 0, 7.0, 7.0]
    assert set(storage.limits) == {expiry.SLICE}
