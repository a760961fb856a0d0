"""Runs as a whole: with or without a journal, again, and further.

A run with a journal is known here while it goes on, and for the moment after in which its end is
still being written. What is known of all others stands in the state process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import msgspec
from blake3 import blake3
from llmspell.v1 import run_pb2

from services.common import limits
from services.common.clock import Clock
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError, reason_name
from services.common.relay import Relay
from services.common.run_entries import RUN_BEGIN, RUN_END, RUN_PREFIX, RUN_RESUME, RUN_SOURCE
from services.runtime.book import Book
from services.runtime.bridge import error_tree
from services.runtime.handling import Handling, Hooked
from services.runtime.journal import Journaled
from services.runtime.past import Past, read_past
from services.runtime.pool import WorkerPool
from services.runtime.readings import Readings, readings_of
from services.runtime.runs import (
    Output,
    Result,
    RunEvent,
    RunLimits,
    RunSpec,
    run_script,
)

_SEEDS = struct.Struct("<qq")
_SECOND_NS = 10**9
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CHANCE_MAX = 2**50 - 1
_LOST_REASONS = frozenset({Reason.RUN_WORKER_LOST, Reason.RUN_JOURNAL_LOST})
_UNMADE_REASONS = frozenset({Reason.RUN_DIVERGED, Reason.RUN_OUTCOME_UNKNOWN})
"""A resumed run that ended so is as it was before."""
_RESUME_MARGIN_S = 10.0
SETTLED = "settled"
"""In a RunEnd's metadata: no write was being made when the run was interrupted."""


@dataclass(slots=True)
class Running:
    """A run that goes on, and has a journal."""

    run_id: str
    tenant: str
    begin: run_pb2.RunBegin
    book: Book
    caller: CallContext
    readings: Readings
    past: Past | None = None
    journaled: Journaled | None = None
    task: asyncio.Task[object] | None = None
    is_cancelled: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    output_bytes: int = 0
    digest: blake3 = field(default_factory=blake3)


class RunDesk:
    """Runs of all tenants in this process."""

    def __init__(
        self,
        pool: WorkerPool,
        relay: Relay,
        clock: Clock,
        handling: Handling,
        *,
        most: RunLimits,
        globals_off: frozenset[str] = frozenset(),
        kept_s: Callable[[str], float] = lambda _: limits.RUN_JOURNAL_SECONDS,
    ) -> None:
        """`most`, `globals_off`: the deployment's now.

        `kept_s`: how long a tenant's journals are kept that belong to no session, in seconds.
        """
        self._kept_s = kept_s
        self._most = most
        self._globals_off = globals_off
        self.pool = pool
        self.relay = relay
        self.clock = clock
        self.handling = handling
        self._active: dict[tuple[str, str], Running] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def running(self, tenant: str, run_id: str) -> Running | None:
        """A run that goes on or is being closed."""
        return self._active.get((tenant, run_id))

    def spec_of(self, past: Past, caller: CallContext) -> RunSpec:
        """What was run, within what this deployment gives."""
        return spec_of(past, caller.tenant, self._most, self._globals_off)

    async def settle(self, tenant: str, run_id: str) -> None:
        """Wait until a run that has ended is closed."""
        running = self.running(tenant, run_id)
        if running is not None and running.task is None:
            await running.closed.wait()

    async def settle_all(self, tenant: str) -> None:
        """Wait until what is known of a tenant's runs is on disk."""
        for running in [each for each in self._active.values() if each.tenant == tenant]:
            if running.task is None:
                await running.closed.wait()
            else:
                with contextlib.suppress(ServiceError):  # the run itself will be told
                    await running.book.write()

    def cancel(self, tenant: str, run_id: str) -> bool:
        """End a run that goes on; whether it did."""
        running = self.running(tenant, run_id)
        if running is None or running.task is None:
            return False
        running.is_cancelled = True
        running.task.cancel()
        return True

    async def close(self) -> None:
        """Wait for the ends that are being written."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=limits.DEADLINE_SECONDS_DEFAULT)

    async def plain(
        self, caller: CallContext, spec: RunSpec
    ) -> AsyncGenerator[RunEvent | None, None]:
        """What happens in a run without a journal; None: it begins."""
        yield None
        async with (
            self.handling.hooked(caller, spec) as hooked,
            aclosing(run_script(self.pool, spec, hooked)) as events,
        ):
            async for event in events:
                if isinstance(event, Result):
                    await hooked.settle()
                yield event

    def begin(self, caller: CallContext, spec: RunSpec) -> tuple[Running, RunSpec]:
        """A new run with a journal, and what is to be run."""
        now_ns = self.clock.now_ns()
        run_id = new_run_id(now_ns, caller.member)
        seeds = spec.seeds or _SEEDS.unpack(os.urandom(_SEEDS.size))
        facts = dict(spec.facts) | {"run_id": run_id} if spec.facts else {}
        spec = replace(spec, seeds=seeds, facts=facts)
        begin = begin_of(run_id, spec, now_ns, kept_s=self._kept_s(caller.tenant))
        book = Book(self.relay, caller, run_id, self.clock)
        book.note(RUN_BEGIN, begin.SerializeToString(deterministic=True))
        book.note(RUN_SOURCE, _source(spec))
        readings = readings_of(self.clock)
        return self._open(caller, begin=begin, book=book, readings=readings), spec

    async def resume(self, caller: CallContext, run_id: str) -> tuple[Running, RunSpec]:
        """A run to go on with, and what is to be run.

        Raises:
            ServiceError: RUN_NOT_FOUND, RUN_NOT_RESUMABLE.
        """
        await self.settle(caller.tenant, run_id)
        if self.running(caller.tenant, run_id) is not None:
            raise not_resumable(run_id, "running", "It goes on.")
        past = await read_past(self.relay, caller, run_id)
        self._check_resumable(past)
        if self.running(caller.tenant, run_id) is not None:  # somebody else was quicker
            raise not_resumable(run_id, "running", "It goes on.")
        spec = self.spec_of(past, caller)
        book = Book(self.relay, caller, run_id, self.clock, written=past.entry_count)
        book.note(RUN_RESUME, b"")
        passed_ns = max(self.clock.now_ns() - past.begin.start_time.ToNanoseconds(), 0)
        readings = readings_of(self.clock, passed_ns=passed_ns)
        running = self._open(caller, begin=past.begin, book=book, readings=readings, past=past)
        return running, spec

    async def events(
        self, running: Running, spec: RunSpec
    ) -> AsyncGenerator[RunEvent | None, None]:
        """What happens in a run with a journal; its end is written when this ends, however.

        Yields:
            None: it begins; then as `run_script`.

        Raises:
            ServiceError: as `run_script`; CANCELLED; RUN_DIVERGED, RUN_OUTCOME_UNKNOWN,
                RUN_JOURNAL_LOST.
        """
        running.task = asyncio.current_task()
        end = run_pb2.RunEnd(status=run_pb2.RUN_STATUS_INTERRUPTED)
        try:
            yield None
            async with self.handling.hooked(running.caller, spec) as hooked:
                handler = self._journaled(running, hooked)
                async with aclosing(run_script(self.pool, spec, handler, handler.read)) as events:
                    async for event in events:
                        if isinstance(event, Output):
                            _take_output(running, event.data)
                        elif isinstance(event, Result):
                            await hooked.settle()
                            _note_result(end, event)
                        yield event
        except ServiceError as error:
            if error.reason in _UNMADE_REASONS:
                end = run_pb2.RunEnd()
            else:
                _note_failure(end, error)
            raise
        except asyncio.CancelledError:
            if not running.is_cancelled:
                raise
            running.task.uncancel()  # type: ignore[union-attr]  # we run in one
            raise ServiceError(Reason.CANCELLED, "The run was cancelled.") from None
        finally:
            self._end(running, end)

    def _open(
        self,
        caller: CallContext,
        *,
        begin: run_pb2.RunBegin,
        book: Book,
        readings: Readings,
        past: Past | None = None,
    ) -> Running:
        running = Running(begin.run_id, caller.tenant, begin, book, caller, readings, past)
        running.task = asyncio.current_task()
        self._active[caller.tenant, begin.run_id] = running
        return running

    def _journaled(self, running: Running, hooked: Hooked) -> Journaled:
        running.journaled = Journaled(
            hooked,
            running.readings,
            running.book,
            self.clock,
            run_id=running.run_id,
            past=running.past,
            is_harmless=self.handling.is_harmless,
        )
        return running.journaled

    def _end(self, running: Running, end: run_pb2.RunEnd) -> None:
        running.task = None
        if running.is_cancelled and end.status == run_pb2.RUN_STATUS_INTERRUPTED:
            end.status = run_pb2.RUN_STATUS_CANCELLED
        journaled = running.journaled
        if end.status == run_pb2.RUN_STATUS_INTERRUPTED and not (journaled and journaled.open_call):
            end.metadata[SETTLED] = "yes"
        end.call_count = journaled.number if journaled else 0
        end.output_bytes = running.output_bytes
        end.output_digest = running.digest.hexdigest()
        end.end_time.FromNanoseconds(self.clock.now_ns())
        closing = asyncio.create_task(self._close(running, end))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, running: Running, end: run_pb2.RunEnd) -> None:
        try:
            running.book.stop()
            if end.status != run_pb2.RUN_STATUS_UNSPECIFIED:
                running.book.note(RUN_END, end.SerializeToString(deterministic=True))
                running.book.stop()
                await running.book.write()
        except ServiceError:
            pass  # it is logged; the run can be resumed
        finally:
            self._active.pop((running.tenant, running.run_id), None)
            running.closed.set()

    def _check_resumable(self, past: Past) -> None:
        run_id, end = past.begin.run_id, past.end
        if past.is_cut:
            raise not_resumable(run_id, "interrupted", "Its journal was too much to keep whole.")
        if end is not None and end.status != run_pb2.RUN_STATUS_INTERRUPTED:
            raise not_resumable(run_id, status_word(end.status), "It has ended.")
        if end is not None and SETTLED in end.metadata:
            return
        # What was made and not kept is made again under its request id, if that is remembered.
        wall_s = past.begin.limits.wall_time.ToMicroseconds() / 1e6
        safe_s = limits.REQUEST_REMEMBERED_SECONDS - wall_s - _RESUME_MARGIN_S
        if self.clock.now_ns() - past.last_ns > safe_s * _SECOND_NS:
            raise not_resumable(
                run_id,
                "interrupted",
                f"It was lost more than {safe_s:.0f} seconds ago: a write that it made last would "
                "be made twice.",
            )


def new_run_id(now_ns: int, member: str = "") -> str:
    """An id: microseconds, so that ids are in order of time, 50 bits of chance, and this process.

    `member`: how the caller tells it from others; calls that name the run come here then.
    """
    chance = int.from_bytes(os.urandom(7)) & _CHANCE_MAX
    return f"{RUN_PREFIX}{_digits(now_ns // 1000, 11)}{_digits(chance, 10)}{member}"


def _digits(number: int, count: int) -> str:
    """To the base of 32, in digits that sort as the numbers do."""
    places = range(5 * (count - 1), -1, -5)
    return "".join(_ALPHABET[number >> place & 31] for place in places)


def begin_of(
    run_id: str, spec: RunSpec, now_ns: int, *, kept_s: float = limits.RUN_JOURNAL_SECONDS
) -> run_pb2.RunBegin:
    """What the journal keeps of how a run began; `kept_s`: for how long, without a session."""
    most = spec.limits
    begin = run_pb2.RunBegin(
        run_id=run_id,
        name=spec.name,
        positional_arguments=spec.positional,
        named_arguments=dict(spec.named),
        session_id=spec.session_id,
        seeds=spec.seeds or (),
        source_digest=blake3(_source(spec)).hexdigest(),
        globals_off=sorted(spec.globals_off),
        facts_json=msgspec.json.encode(spec.facts).decode(),
    )
    begin.limits.memory_bytes, begin.limits.output_bytes = most.memory_bytes, most.output_bytes
    begin.limits.wall_time.FromMicroseconds(round(most.wall_s * 1e6))
    begin.limits.cpu_time.FromMicroseconds(round(most.cpu_s * 1e6))
    begin.start_time.FromNanoseconds(now_ns)
    if not spec.session_id:
        begin.expire_time.FromNanoseconds(now_ns + round(kept_s * _SECOND_NS))
    return begin


def spec_of(past: Past, tenant: str, most: RunLimits, globals_off: frozenset[str]) -> RunSpec:
    """What was run; never with more than the deployment gives now, whatever the journal says.

    Raises:
        ServiceError: FIELD_INVALID where the journal has limits that are none.
    """
    begin = past.begin
    limits_then = RunLimits(
        wall_s=min(begin.limits.wall_time.ToMicroseconds() / 1e6, most.wall_s),
        cpu_s=min(begin.limits.cpu_time.ToMicroseconds() / 1e6, most.cpu_s),
        memory_bytes=min(begin.limits.memory_bytes, most.memory_bytes),
        output_bytes=min(begin.limits.output_bytes, most.output_bytes),
        calls_max=most.calls_max,
    )
    try:
        facts = msgspec.json.decode(begin.facts_json or "{}", type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        facts = {}
    return RunSpec(
        source=past.source,
        name=begin.name,
        positional=tuple(begin.positional_arguments),
        named=dict(begin.named_arguments),
        limits=limits_then,
        session_id=begin.session_id,
        seeds=(begin.seeds[0], begin.seeds[1]),
        globals_off=frozenset(begin.globals_off) | globals_off,
        facts=facts,
        tenant=tenant,
    )


def status_word(status: int) -> str:
    """A status as people read it."""
    return run_pb2.RunStatus.Name(status).removeprefix("RUN_STATUS_").lower()


def not_resumable(run_id: str, status: str, why: str) -> ServiceError:
    """A run cannot be gone on with."""
    return ServiceError(
        Reason.RUN_NOT_RESUMABLE,
        f"Run {run_id} cannot be resumed. {why}",
        run_id=run_id,
        status=status,
    )


def _source(spec: RunSpec) -> bytes:
    return spec.source.encode() if isinstance(spec.source, str) else spec.source


def _take_output(running: Running, data: bytes) -> None:
    """Keep what is printed; what was kept before the run was lost must come again as it was.

    Raises:
        ServiceError: RUN_DIVERGED.
    """
    start = running.output_bytes
    running.output_bytes += len(data)
    running.digest.update(data)
    if running.past is not None:
        known = bytes(running.past.output[start : running.output_bytes])
        if data[: len(known)] != known:
            raise ServiceError(
                Reason.RUN_DIVERGED,
                "The resumed run prints something else than it did before it was lost, within the "
                f"{len(known)} bytes from {start} on.",
                offset=start,
            )
        data = data[len(known) :]
    if data:
        running.book.note_output(data)


def _note_result(end: run_pb2.RunEnd, result: Result) -> None:
    end.status = run_pb2.RUN_STATUS_SUCCEEDED
    end.json = result.json


def _note_failure(end: run_pb2.RunEnd, error: ServiceError) -> None:
    told = error_tree(error)
    if error.reason not in _LOST_REASONS:
        end.status = run_pb2.RUN_STATUS_FAILED
    end.reason, end.message = reason_name(error.reason), told["message"]
    end.metadata.update({name: str(value) for name, value in told["metadata"].items()})
