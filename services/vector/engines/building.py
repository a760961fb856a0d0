"""The serving process's end of the builder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import msgspec

from services.vector.segments.builder import Done, Job

IDLE_S = 30.0
"""A builder that has nothing to do for so long ends, and gives its memory back."""

_decode = msgspec.json.Decoder(Done).decode


class BuildFailedError(Exception):
    """Nothing was built; the text says why."""


class Builder:
    """One builder process, started when it is needed; one job at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False

    async def build(self, job: Job) -> str:
        """Have a segment built; the digest of its file.

        Raises:
            BuildFailedError: nothing stands under the job's target.
        """
        async with self._turn:
            if self._closed:
                raise BuildFailedError("the engine is closing")
            process = await self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(msgspec.json.encode(job) + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
            except (OSError, asyncio.CancelledError):
                await self._stop()
                raise
            if not line:
                await self._stop()
                raise BuildFailedError("the builder ended")
            self._rest()
        done = _decode(line)
        if done.error:
            raise BuildFailedError(done.error)
        return done.digest

    async def prepare(self) -> None:
        """Start the process, which takes half a second to be ready, before there is a job."""
        async with self._turn:
            if not self._closed:
                await self._started()
                self._rest()

    async def close(self) -> None:
        """End the process, in the middle of a job if there is one."""
        self._closed = True
        await self._stop()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.vector.segments.builder",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[3],
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
        return self._process

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_S, self._kill)

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
