"""One run of a script: from a worker to a result, an error with a reason, or a kill.

The worker may be in a stranger's hands, so everything that counts is counted here: time, output,
calls. Nothing is queued: the next frame is read when the consumer asks for the next event, so a
slow consumer slows the script and no memory grows.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import struct
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.common import limits
from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.runtime.claims import Claim
from services.runtime.frames import FrameError, Kind, RunOrder, check_tree
from services.runtime.pool import Worker, WorkerLimits, WorkerPool
from services.runtime.readings import Readings, Telling
from services.runtime.shares import CALL_SECONDS, FRAME_SECONDS, READING_SECONDS
from services.runtime.told import Answer, Log, Metrics, read_log, read_metrics
from services.runtime.turns import Turns
from services.runtime.watch import Cause, Watch

logger = logging.getLogger(__name__)

MEMORY_BYTES_MIN = limits.MIB
"""Least memory a run can be given; the order itself must fit."""

_NAME_LENGTH_MAX = 200
_TEXT_LENGTH_MAX = 2048
"""Of a script's own words in an error: with their encodings they must fit a call's trailers."""
_CHECK_SECONDS = 5.0
_READ_AGAIN = 4
_SERVICE_SECONDS = {Kind.CALL: CALL_SECONDS, Kind.READING: READING_SECONDS}
_SEEDS = struct.Struct("<qq")
_DONE, _REFUSED = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of one run."""

    wall_s: float = limits.RUN_WALL_SECONDS
    """Seconds on the clock, calls and waiting for the consumer included."""
    cpu_s: float = limits.RUN_CPU_SECONDS
    """Seconds on the processor; the kernel counts whole ones, so it is rounded up."""
    memory_bytes: int = limits.RUN_MEMORY_BYTES
    """Lua heap beyond the empty VM's."""
    output_bytes: int = limits.RUN_OUTPUT_BYTES
    """Printed bytes."""
    calls_max: int = limits.RUN_CALLS_MAX
    """Calls to the host."""
    max_cost_usd: float = 0.0
    """US dollars that models may cost which it asks; 0: only budgets hold."""

    def __post_init__(self) -> None:
        for name in ("wall_s", "cpu_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise field_invalid(f"limits.{name}", "must be a positive number of seconds")
        if self.memory_bytes < MEMORY_BYTES_MIN:
            raise field_invalid("limits.memory_bytes", f"must be at least {MEMORY_BYTES_MIN}")
        if self.output_bytes < 0 or self.calls_max < 0:
            raise field_invalid("limits", "must not be negative")
        if not 0 <= self.max_cost_usd < math.inf:
            raise field_invalid("limits.max_cost_usd", "must be 0 or more US dollars")

    @property
    def worker(self) -> WorkerLimits:
        """The part that the kernel keeps."""
        return WorkerLimits(self.memory_bytes, math.ceil(self.cpu_s))


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to run."""

    source: str | bytes
    """Lua 5.4 text, at most 256 KiB."""
    name: str = "script"
    """Name in messages."""
    positional: Sequence[str] = ()
    """Read as ARGS[1] and arg[1]."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Read as ARGS.NAME."""
    limits: RunLimits = RunLimits()
    """Limits of this run."""
    session_id: str = ""
    """The run's current session; empty: none."""
    seeds: tuple[int, int] | None = None
    """What `math.random` starts from, two numbers of 64 bits; None: from the kernel's."""
    globals_off: frozenset[str] = frozenset()
    """Names of globals that read as nil."""
    tenant: str = ""
    """Whose turn it is when places are scarce."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What `Config` shows: plain values, no secret among them."""


@dataclass(frozen=True, slots=True)
class Call:
    """A script asks for a method of the contract. Nothing in it can be trusted."""

    method: str
    """Such as `llmspell.v1.StateService/GetState`."""
    tenant: str | None
    """A tenant the script asks to act for, instead of the run's own."""
    args: dict[str, Any]
    """Plain tree: None, bool, int, float, str, bytes, list, dict with text keys."""
    worker_pid: int = field(default=0, compare=False)
    """Of the worker that asks; 0: none. Not said by it."""
    claim: Claim | None = field(default=None, compare=False)
    """Where it is to be done once; no script's is."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The host's answer to a call."""

    ok: bool
    """Whether it was done."""
    tree: object
    """The response as a plain tree; else a map of `code`, `reason`, `message`, `metadata`."""
    packed: bytes = b""
    """The same as the worker gets it, see `pack_reply`; empty: it is yet to be packed."""


@dataclass(frozen=True, slots=True)
class Output:
    """The script printed."""

    data: bytes
    """As printed; need not be UTF-8."""


@dataclass(frozen=True, slots=True)
class Result:
    """The run ended well. Always the last event."""

    json: str
    """What the chunk returned, as JSON text."""
    elapsed_s: float
    """Seconds from the worker's start on it."""
    call_count: int
    """Calls to the host."""
    output_bytes: int
    """Printed bytes."""


RunEvent = Output | Log | Metrics | Answer | Result
CallHandler = Callable[[Call], Awaitable[Reply]]


class _Failure(msgspec.Struct):
    """What a FAILURE frame holds, as far as a hostile worker may say."""

    kind: str
    message: str = ""
    line: int | None = None
    traceback: str | None = None
    reason: str | None = None


class _CallFrame(msgspec.Struct):
    method: str
    args: dict[str, Any]
    tenant: str | None = None


async def run_script(
    pool: WorkerPool,
    spec: RunSpec,
    call: CallHandler,
    readings: Readings | None = None,
    *,
    turns: Turns | None = None,
) -> AsyncGenerator[RunEvent, None]:
    """Run a script in a worker of its own; closing or cancelling the iterator kills it.

    Args:
        pool: Where the worker comes from; waits for the tenant's turn while places are taken.
        spec: What to run.
        call: Answers the script's calls, one at a time. What it raises ends the run and passes on.
        readings: Tells it time and memory; None: as this machine has them.
        turns: What its place is of; None: the runs' own.

    Yields:
        `Output` as the script prints and `Log` as it logs, perhaps `Metrics`, then one `Result`.

    Raises:
        ServiceError: FIELD_INVALID or LIMIT_EXCEEDED before anything runs; SCRIPT_SYNTAX,
            SCRIPT_FAILED, RUN_QUEUE_FULL, RUN_TENANT_LIMIT, RUN_TIME_LIMIT, RUN_CPU_LIMIT,
            RUN_MEMORY_LIMIT, RUN_OUTPUT_LIMIT, RUN_CALL_LIMIT or RUN_WORKER_LOST.
    """
    order = order_of(spec, check=False)
    async with pool.worker(spec.limits.worker, spec.tenant, turns=turns) as worker:
        run = Run(worker, spec, pool, readings)
        with run.watch.on_the_clock():
            async for event in run.events(order, call):
                yield event


async def check_script(
    pool: WorkerPool, source: str | bytes, name: str = "script", *, tenant: str = ""
) -> None:
    """Compile a script in a worker without running it.

    Raises:
        ServiceError: SCRIPT_SYNTAX with file, line and text; otherwise as `run_script`.
    """
    spec = RunSpec(source, name, limits=RunLimits(wall_s=_CHECK_SECONDS), tenant=tenant)
    order = order_of(spec, check=True)
    async with pool.worker(spec.limits.worker, spec.tenant) as worker:
        run = Run(worker, spec, pool)
        with run.watch.on_the_clock():
            async for _ in run.events(order, _no_calls):
                pass


async def _no_calls(_: Call) -> Reply:
    raise ServiceError(Reason.RUN_WORKER_LOST, "A script that is only checked made a call.")


def order_of(spec: RunSpec, *, check: bool, interactive: bool = False) -> bytes:
    """The RUN frame's payload, after every check that needs no worker.

    Args:
        spec: What to run.
        check: Only compile it.
        interactive: Its source comes later, piece by piece.
    """
    source = spec.source.encode() if isinstance(spec.source, str) else spec.source
    if len(source) > limits.SCRIPT_BYTES_MAX:
        raise limit_exceeded("source", len(source), limits.SCRIPT_BYTES_MAX, "bytes")
    if source.startswith(b"\x1b"):
        raise field_invalid("source", "must be Lua text, not bytecode")
    if not spec.name.isprintable() or not 0 < len(spec.name) <= _NAME_LENGTH_MAX:
        raise field_invalid("name", f"must be 1 to {_NAME_LENGTH_MAX} printable characters")
    count = len(spec.positional) + len(spec.named)
    if count > limits.SCRIPT_ARGUMENTS_MAX:
        raise limit_exceeded("arguments", count, limits.SCRIPT_ARGUMENTS_MAX)
    given = {"positional": list(spec.positional), "named": dict(spec.named)}
    size = len(msgspec.msgpack.encode(given))
    if size > limits.SCRIPT_ARGUMENT_BYTES_MAX:
        raise limit_exceeded("arguments", size, limits.SCRIPT_ARGUMENT_BYTES_MAX, "bytes together")
    arguments = msgspec.msgpack.encode(given | {"facts": spec.facts, "interactive": interactive})
    kept = {
        "memory_bytes": spec.limits.memory_bytes,
        "output_bytes": spec.limits.output_bytes,
        "frame_bytes": limits.FRAME_BYTES_MAX,
        "depth": limits.FRAME_DEPTH_MAX,
        "nodes": limits.FRAME_NODES_MAX,
    }
    header = {
        "name": spec.name,
        "check": check,
        "limits": kept,
        "session": spec.session_id,
        "seeds": spec.seeds or _seeds(),
        "off": sorted(spec.globals_off),
    }
    return RunOrder(header, source, arguments).payload()


def _seeds() -> tuple[int, int]:
    """Workers are copies of one VM, so chance comes from here."""
    return _SEEDS.unpack(os.urandom(_SEEDS.size))


class Run:
    """What is counted while one run goes on."""

    def __init__(
        self, worker: Worker, spec: RunSpec, pool: WorkerPool, readings: Readings | None = None
    ) -> None:
        self._worker = worker
        self._shares, self._budgets = pool.shares, pool.budgets
        self._tenant = spec.tenant
        self._telling = Telling(readings)
        self._name = spec.name
        self._limits = spec.limits
        self._calls = 0
        self._output_bytes = 0
        self._measured = False
        self.watch = Watch(worker, wall_s=spec.limits.wall_s, cpu_s=spec.limits.cpu_s)

    async def events(self, order: bytes, call: CallHandler) -> AsyncIterator[RunEvent]:
        """Give the order and follow the worker to its last word."""
        async for event in self.follow(Kind.RUN, order, call, until=Kind.RESULT):
            yield event

    async def follow(
        self, kind: Kind, payload: bytes, call: CallHandler, *, until: Kind
    ) -> AsyncIterator[RunEvent]:
        """Send a frame, and follow the worker until it sends one of this kind, or its last word."""
        try:
            await self._worker.send(kind, payload)
            while kind not in (until, Kind.RESULT):
                await self._shares.wait(self._tenant)
                kind, payload = await self._worker.receive()
                event = await self.take(kind, payload, call)
                if event is not None:
                    yield event
        except FrameError as error:
            logger.warning("worker %d broke the protocol: %s", self._worker.pid, error)
            self._worker.kill()
            raise await self._lost() from None
        except EOFError:
            raise await self._lost() from None

    async def take(self, kind: Kind, payload: bytes, call: CallHandler) -> RunEvent | None:
        """What a frame tells; None where it is answered here."""
        self._shares.use(self._tenant, _SERVICE_SECONDS.get(kind, FRAME_SECONDS))
        if kind is Kind.OUTPUT:
            return self._output(payload)
        if kind is Kind.LOG:
            self._count_output(len(payload))
            return read_log(payload)
        if kind is Kind.METRICS:
            return self._metrics(payload)
        if kind is Kind.CALL:
            await self._answer(payload, call)
            return None
        if kind is Kind.READING:
            await self._worker.send(Kind.TOLD, self._telling.answer(payload))
            return None
        if kind is Kind.RESULT:
            return self._result(payload)
        if kind is Kind.FAILURE:
            raise self._failed(payload)
        raise FrameError(f"{kind.name} from a worker that is running")

    def _metrics(self, payload: bytes) -> Metrics:
        if self._measured:
            raise FrameError("metrics for the second time")
        self._measured = True
        return read_metrics(payload)

    def _output(self, data: bytes) -> Output:
        if not data:
            raise FrameError("output of nothing")
        self._count_output(len(data))
        return Output(data)

    def _count_output(self, size: int) -> None:
        self._output_bytes += size
        self._budgets.spend(self._tenant, output_bytes=size)
        if self._output_bytes > self._limits.output_bytes:
            limit = self._limits.output_bytes
            raise _over(Reason.RUN_OUTPUT_LIMIT, f"printed more than {limit} bytes", limit)
        self._budgets.check(self._tenant)

    async def _answer(self, payload: bytes, handler: CallHandler) -> None:
        self._calls += 1
        if self._calls > self._limits.calls_max:
            limit = self._limits.calls_max
            raise _over(Reason.RUN_CALL_LIMIT, f"made more than {limit} calls", limit)
        self._budgets.spend(self._tenant, calls=1)
        self._budgets.check(self._tenant)
        begin = time.perf_counter()
        call = _parse_call(payload, self._worker.pid)
        # What follows (translating, sending on) takes a multiple of what reading it took.
        self._shares.use(self._tenant, _READ_AGAIN * (time.perf_counter() - begin))
        deadline = asyncio.timeout_at(self.watch.deadline)
        try:
            async with deadline:
                reply = await handler(call)
        except TimeoutError:
            if not deadline.expired():
                raise
            self.watch.expire()
            raise self._too_long() from None
        await self._worker.send(Kind.REPLY, reply.packed or pack_reply(reply))

    def _result(self, payload: bytes) -> Result:
        try:
            msgspec.json.decode(payload, type=msgspec.Raw)
            text = payload.decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise FrameError("a result that is not JSON") from None
        elapsed = asyncio.get_running_loop().time() - self.watch.begin
        return Result(text, elapsed, self._calls, self._output_bytes)

    def _failed(self, payload: bytes) -> ServiceError:
        try:
            failure = msgspec.json.decode(payload, type=_Failure)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise FrameError("a failure that is not JSON") from None
        if failure.kind == "memory":
            limit = self._limits.memory_bytes
            return _over(Reason.RUN_MEMORY_LIMIT, f"used more than {limit} bytes of memory", limit)
        reason = Reason.SCRIPT_SYNTAX if failure.kind == "syntax" else Reason.SCRIPT_FAILED
        known = {"line": failure.line, "cause": failure.reason, "traceback": failure.traceback}
        metadata = {
            name: str(value)[:_TEXT_LENGTH_MAX]
            for name, value in known.items()
            if value is not None
        }
        message = self._located(failure)[:_TEXT_LENGTH_MAX]
        return ServiceError(reason, message, name=self._name, **metadata)

    def _located(self, failure: _Failure) -> str:
        """The message with file and line in front, where Lua has not put them there."""
        if failure.line is None or f":{failure.line}: " in failure.message:
            return failure.message
        return f"{self._name}:{failure.line}: {failure.message}"

    def _too_long(self) -> ServiceError:
        limit = self._limits.wall_s
        return _over(Reason.RUN_TIME_LIMIT, f"took longer than {limit:g} s and was killed", limit)

    async def _lost(self) -> ServiceError:
        """Why the worker is gone without a last word."""
        cause, status = await self.watch.cause()
        if cause is Cause.TIME:
            return self._too_long()
        if cause is Cause.CPU:
            limit = math.ceil(self._limits.cpu_s)
            return _over(Reason.RUN_CPU_LIMIT, f"used more than {limit} s of processor time", limit)
        how = {} if status is None else {"status": status}
        return ServiceError(
            Reason.RUN_WORKER_LOST, "The worker ended unexpectedly; the run did not finish.", **how
        )


def _over(reason: Reason, what: str, limit: float) -> ServiceError:
    return ServiceError(reason, f"The run {what}.", limit=limit)


def _parse_call(payload: bytes, worker_pid: int) -> Call:
    try:
        # Depth and count are known before anything is built from a stranger's bytes.
        check_tree(payload, depth_max=limits.FRAME_DEPTH_MAX + 1, nodes_max=limits.FRAME_NODES_MAX)
        frame = msgspec.msgpack.decode(payload, type=_CallFrame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("a call that is not one") from None
    return Call(frame.method, frame.tenant, frame.args, worker_pid)


def pack_reply(reply: Reply) -> bytes:
    """A REPLY frame's payload; a refusal where the answer is more than a script can be given."""
    body = msgspec.msgpack.encode(reply.tree)
    if len(body) < limits.FRAME_BYTES_MAX:
        return (_DONE if reply.ok else _REFUSED) + body
    limit = str(limits.FRAME_BYTES_MAX)
    refusal = {
        "code": "RESOURCE_EXHAUSTED",
        "reason": Reason.Name(Reason.MESSAGE_TOO_LARGE),
        "message": f"The answer takes {len(body)} bytes; a script can be given {limit}.",
        "metadata": {"limit": limit},
    }
    return _REFUSED + msgspec.msgpack.encode(refusal)
