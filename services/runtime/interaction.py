"""An interactive run: one worker that is given its source piece by piece, until nobody gives more.

What the pieces before have left is there for the next. Each piece has the limits of a run of its
own; processor time and memory are those of all pieces together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.common import limits
from services.common.errors import Reason, ServiceError, limit_exceeded
from services.runtime.frames import Kind
from services.runtime.pool import Worker, WorkerPool
from services.runtime.readings import Readings
from services.runtime.runs import Call, CallHandler, Reply, Run, RunEvent, RunSpec, order_of
from services.runtime.told import Answer, read_answer
from services.runtime.watch import Watch

INTERRUPT_SECONDS = 2.0
"""How long a piece may take to end once it is told to; then its worker is killed."""

_RUN, _QUESTION = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Piece:
    """Lua to run."""

    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What to say of a text without running it."""

    text: str
    about_names: bool
    """Which names may stand at its end; else whether it is a whole piece."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The piece that runs is to end."""


Input = Piece | Question | Interrupt


async def interact(
    pool: WorkerPool,
    spec: RunSpec,
    inputs: AsyncIterator[Input],
    call: CallHandler,
    readings: Readings | None = None,
) -> AsyncGenerator[RunEvent, None]:
    """Serve inputs one after the other until there are no more, or the script ends the run.

    Args:
        pool: Where the worker comes from.
        spec: As of a run; its source is not used. Its limits are those of each piece.
        inputs: What to do. An interrupt is heeded while a piece runs.
        call: Answers the script's calls.
        readings: Tells it time and memory; None: as this machine has them.

    Yields:
        For each piece `Output` and `Log` as they come, then one `Answer`; for each question one
        `Answer`. A last `Result` where the script ended the run by itself.

    Raises:
        ServiceError: as `runs.run_script`; RUN_TIME_LIMIT where nothing is asked for too long.
    """
    cpu_s = spec.limits.cpu_s * limits.INTERACT_CPU_FACTOR
    spec = replace(spec, source="", limits=replace(spec.limits, cpu_s=cpu_s))
    order = order_of(spec, check=False, interactive=True)
    async with pool.worker(spec.limits.worker, spec.tenant, turns=pool.talks) as worker:
        talk = _Talk(worker, spec, pool, call, readings)
        await talk.begin(order)
        async with aclosing(_serve(talk, inputs)) as events:
            async for event in events:
                yield event


async def _serve(talk: _Talk, inputs: AsyncIterator[Input]) -> AsyncGenerator[RunEvent, None]:
    waiting: asyncio.Queue[Piece | Question | None] = asyncio.Queue(1)
    reading = asyncio.create_task(_read(talk, inputs, waiting))
    try:
        while not talk.has_ended and (given := await _next(waiting)) is not None:
            async with aclosing(talk.serve(given)) as events:
                async for event in events:
                    yield event
        if reading.done():
            await reading  # it raises why there are no more
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(
    talk: _Talk, inputs: AsyncIterator[Input], waiting: asyncio.Queue[Piece | Question | None]
) -> None:
    try:
        async for given in inputs:
            if isinstance(given, Interrupt):
                await talk.interrupt()
            else:
                await waiting.put(given)
    finally:
        await waiting.put(None)


async def _next(waiting: asyncio.Queue[Piece | Question | None]) -> Piece | Question | None:
    idle_s = limits.INTERACT_IDLE_SECONDS
    try:
        async with asyncio.timeout(idle_s):
            return await waiting.get()
    except TimeoutError:
        raise ServiceError(
            Reason.RUN_TIME_LIMIT,
            f"Nothing was asked of the run for {idle_s:g} s, so it ended.",
            limit=idle_s,
        ) from None


class _Talk(Run):
    """The worker of one interactive run."""

    def __init__(
        self,
        worker: Worker,
        spec: RunSpec,
        pool: WorkerPool,
        call: CallHandler,
        readings: Readings | None,
    ) -> None:
        super().__init__(worker, spec, pool, readings)
        self.has_ended = False
        self._turns = pool.turns
        self._call = call
        self._calling: asyncio.Future[Reply] | None = None
        self._is_interrupted = False
        self._is_late = False
        self._is_running = False

    async def begin(self, order: bytes) -> None:
        """Give the order and wait until the worker asks for its first piece."""
        with self.watch.on_the_clock():
            async for _ in self.follow(Kind.RUN, order, self._call, until=Kind.ANSWER):
                pass

    async def serve(self, given: Piece | Question) -> AsyncGenerator[RunEvent, None]:
        """Run a piece, or ask about a text, in a place of its own: people think for long."""
        answer = None
        async with self._turns.place(self._tenant), aclosing(self._serve(given)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    answer = event  # the last, and told once the place is free
                else:
                    yield event
        if answer is not None:
            yield answer

    async def _serve(self, given: Piece | Question) -> AsyncGenerator[RunEvent, None]:
        self._calls = self._output_bytes = 0
        self._is_interrupted = self._is_late = False
        limit_s, cpu_s = self._limits.wall_s, self._limits.cpu_s
        self.watch = Watch(self._worker, wall_s=limit_s + INTERRUPT_SECONDS, cpu_s=cpu_s)
        timer = asyncio.get_running_loop().call_later(limit_s, self._end_late)
        self._is_running = True
        try:
            with self.watch.on_the_clock():
                frames = self.follow(Kind.PIECE, _payload(given), self._asked, until=Kind.ANSWER)
                async for event in frames:
                    yield self._explained(event)
        finally:
            self._is_running = False
            timer.cancel()

    async def take(self, kind: Kind, payload: bytes, call: CallHandler) -> RunEvent | None:
        """As of any run; and the answers between pieces."""
        if kind is Kind.ANSWER:
            return read_answer(payload)
        self.has_ended = kind is Kind.RESULT
        return await super().take(kind, payload, call)

    async def interrupt(self) -> None:
        """End the piece that runs; a second one, or one that is not heeded, ends the worker."""
        if not self._is_running:
            return
        if self._is_interrupted:
            self._worker.kill()
            return
        self._is_interrupted = True
        if self._calling is not None:
            self._calling.cancel()
        await self._worker.send(Kind.INTERRUPT)
        watch = self.watch
        asyncio.get_running_loop().call_later(INTERRUPT_SECONDS, self._kill_if_still, watch)

    def _kill_if_still(self, watch: Watch) -> None:
        if self._is_running and self.watch is watch:
            self._worker.kill()

    def _end_late(self) -> None:
        self._is_late = True
        self._ending = asyncio.ensure_future(self.interrupt())

    async def _asked(self, call: Call) -> Reply:
        """The answer to a call; where an interrupt comes first, that it was cancelled."""
        self._calling = asyncio.ensure_future(self._call(call))
        try:
            return await self._calling
        except asyncio.CancelledError:
            if not self._is_interrupted:  # it is the whole run that is cancelled
                raise
            tree = {"code": "CANCELLED", "reason": "CANCELLED", "message": "interrupted"}
            return Reply(ok=False, tree=tree | {"metadata": {}})
        finally:
            self._calling = None

    def _explained(self, event: RunEvent) -> RunEvent:
        if not (self._is_late and isinstance(event, Answer) and event.kind == "failed"):
            return event
        text = f"took longer than {self._limits.wall_s:g} s and was interrupted"
        return replace(event, message=text, reason=Reason.Name(Reason.RUN_TIME_LIMIT))


def _payload(given: Piece | Question) -> bytes:
    text = given.text.encode()
    if len(text) > limits.SCRIPT_BYTES_MAX:
        raise limit_exceeded("source", len(text), limits.SCRIPT_BYTES_MAX, "bytes")
    if isinstance(given, Piece):
        return _RUN + text
    return _QUESTION + (b"c" if given.about_names else b"k") + text
