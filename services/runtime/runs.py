"""One run of a script: from a worker to a result, an error with a reason, or a kill.

The worker may be in a stranger's hands, so everything that counts is counted here: time, output,
calls. Nothing is queued: the next frame is read when the consumer asks for the next event, so a
slow consumer slows the script and no memory grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.common import limits
from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.runtime.frames import FrameError, Kind, RunOrder, check_tree
from services.runtime.pool import Worker, WorkerLimits, WorkerPool

logger = logging.getLogger(__name__)

MEMORY_BYTES_MIN = limits.MIB
"""Least memory a run can be given; the order itself must fit."""

_NAME_LENGTH_MAX = 200
_TEXT_LENGTH_MAX = 2048
"""Of a script's own words in an error: with their encodings they must fit a call's trailers."""
_EXIT_SECONDS = 5.0
_CHECK_SECONDS = 5.0
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

    def __post_init__(self) -> None:
        for name in ("wall_s", "cpu_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise field_invalid(f"limits.{name}", "must be a positive number of seconds")
        if self.memory_bytes < MEMORY_BYTES_MIN:
            raise field_invalid("limits.memory_bytes", f"must be at least {MEMORY_BYTES_MIN}")
        if self.output_bytes < 0 or self.calls_max < 0:
            raise field_invalid("limits", "must not be negative")

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


@dataclass(frozen=True, slots=True)
class Call:
    """A script asks for a method of the contract. Nothing in it can be trusted."""

    method: str
    """Such as `llmspell.v1.StateService/GetState`."""
    tenant: str | None
    """A tenant the script asks to act for, instead of the run's own."""
    args: dict[str, Any]
    """Plain tree: None, bool, int, float, str, bytes, list, dict with text keys."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The host's answer to a call."""

    ok: bool
    """Whether it was done."""
    tree: object
    """The response as a plain tree; else a map of `code`, `reason`, `message`, `metadata`."""


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


RunEvent = Output | Result
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
    pool: WorkerPool, spec: RunSpec, call: CallHandler
) -> AsyncGenerator[RunEvent, None]:
    """Run a script in a worker of its own; closing or cancelling the iterator kills it.

    Args:
        pool: Where the worker comes from; waits while all places are taken.
        spec: What to run.
        call: Answers the script's calls, one at a time. What it raises ends the run and passes on.

    Yields:
        `Output` as the script prints, then one `Result`.

    Raises:
        ServiceError: FIELD_INVALID or LIMIT_EXCEEDED before anything runs; SCRIPT_SYNTAX,
            SCRIPT_FAILED, RUN_TIME_LIMIT, RUN_CPU_LIMIT, RUN_MEMORY_LIMIT, RUN_OUTPUT_LIMIT,
            RUN_CALL_LIMIT or RUN_WORKER_LOST.
    """
    order = _order(spec, check=False)
    async with pool.worker(spec.limits.worker) as worker:
        with _Run(worker, spec).on_the_clock() as run:
            async for event in run.events(order, call):
                yield event


async def check_script(pool: WorkerPool, source: str | bytes, name: str = "script") -> None:
    """Compile a script in a worker without running it.

    Raises:
        ServiceError: SCRIPT_SYNTAX with file, line and text; otherwise as `run_script`.
    """
    spec = RunSpec(source, name, limits=RunLimits(wall_s=_CHECK_SECONDS))
    order = _order(spec, check=True)
    async with pool.worker(spec.limits.worker) as worker:
        with _Run(worker, spec).on_the_clock() as run:
            async for _ in run.events(order, _no_calls):
                pass


async def _no_calls(_: Call) -> Reply:
    raise ServiceError(Reason.RUN_WORKER_LOST, "A script that is only checked made a call.")


def _order(spec: RunSpec, *, check: bool) -> bytes:
    """The RUN frame's payload, after every check that needs no worker."""
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
    arguments = msgspec.msgpack.encode(
        {"positional": list(spec.positional), "named": dict(spec.named)}
    )
    if len(arguments) > limits.SCRIPT_ARGUMENT_BYTES_MAX:
        raise limit_exceeded(
            "arguments", len(arguments), limits.SCRIPT_ARGUMENT_BYTES_MAX, "bytes together"
        )
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
    }
    return RunOrder(header, source, arguments).payload()


class _Run:
    """What is counted while one run goes on."""

    def __init__(self, worker: Worker, spec: RunSpec) -> None:
        self._worker = worker
        self._name = spec.name
        self._limits = spec.limits
        self._calls = 0
        self._output_bytes = 0
        self._expired = False

    @contextlib.contextmanager
    def on_the_clock(self) -> Iterator[_Run]:
        """Kill the worker at the deadline, whatever this process is waiting for."""
        loop = asyncio.get_running_loop()
        self._begin = loop.time()
        self._deadline = self._begin + self._limits.wall_s
        timer = loop.call_at(self._deadline, self._expire)
        try:
            yield self
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        self._worker.kill()

    async def events(self, order: bytes, call: CallHandler) -> AsyncIterator[RunEvent]:
        """Give the order and follow the worker to its last word."""
        try:
            await self._worker.send(Kind.RUN, order)
            kind = Kind.RUN
            while kind is not Kind.RESULT:
                kind, payload = await self._worker.receive()
                event = await self._take(kind, payload, call)
                if event is not None:
                    yield event
        except FrameError as error:
            logger.warning("worker %d broke the protocol: %s", self._worker.pid, error)
            self._worker.kill()
            raise await self._lost() from None
        except EOFError:
            raise await self._lost() from None

    async def _take(self, kind: Kind, payload: bytes, call: CallHandler) -> RunEvent | None:
        if kind is Kind.OUTPUT:
            return self._output(payload)
        if kind is Kind.CALL:
            await self._answer(payload, call)
            return None
        if kind is Kind.RESULT:
            return self._result(payload)
        if kind is Kind.FAILURE:
            raise self._failed(payload)
        raise FrameError(f"{kind.name} from a worker that is running")

    def _output(self, data: bytes) -> Output:
        self._output_bytes += len(data)
        if self._output_bytes > self._limits.output_bytes:
            limit = self._limits.output_bytes
            raise _over(Reason.RUN_OUTPUT_LIMIT, f"printed more than {limit} bytes", limit)
        return Output(data)

    async def _answer(self, payload: bytes, handler: CallHandler) -> None:
        self._calls += 1
        if self._calls > self._limits.calls_max:
            limit = self._limits.calls_max
            raise _over(Reason.RUN_CALL_LIMIT, f"made more than {limit} calls", limit)
        call = _parse_call(payload)
        deadline = asyncio.timeout_at(self._deadline)
        try:
            async with deadline:
                reply = await handler(call)
        except TimeoutError:
            if not deadline.expired():
                raise
            self._expire()
            raise self._too_long() from None
        await self._worker.send(Kind.REPLY, *_encode_reply(reply))

    def _result(self, payload: bytes) -> Result:
        try:
            msgspec.json.decode(payload, type=msgspec.Raw)
            text = payload.decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise FrameError("a result that is not JSON") from None
        elapsed = asyncio.get_running_loop().time() - self._begin
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
        if self._expired:
            return self._too_long()
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                end = await self._worker.wait()
        except TimeoutError:
            self._worker.kill()
            end = await self._worker.wait()
        if end.status == -signal.SIGXCPU or (end.cpu_seconds or 0.0) > self._limits.cpu_s:
            limit = math.ceil(self._limits.cpu_s)
            return _over(Reason.RUN_CPU_LIMIT, f"used more than {limit} s of processor time", limit)
        if end.status == -signal.SIGSYS:
            logger.error("worker %d made a forbidden system call", self._worker.pid)
        how = {} if end.status is None else {"status": end.status}
        return ServiceError(
            Reason.RUN_WORKER_LOST, "The worker ended unexpectedly; the run did not finish.", **how
        )


def _over(reason: Reason, what: str, limit: float) -> ServiceError:
    return ServiceError(reason, f"The run {what}.", limit=limit)


def _parse_call(payload: bytes) -> Call:
    try:
        # Depth and count are known before anything is built from a stranger's bytes.
        check_tree(payload, depth_max=limits.FRAME_DEPTH_MAX + 1, nodes_max=limits.FRAME_NODES_MAX)
        frame = msgspec.msgpack.decode(payload, type=_CallFrame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FrameError("a call that is not one") from None
    return Call(frame.method, frame.tenant, frame.args)


def _encode_reply(reply: Reply) -> tuple[bytes, bytes]:
    body = msgspec.msgpack.encode(reply.tree)
    if len(body) < limits.FRAME_BYTES_MAX:
        return (_DONE if reply.ok else _REFUSED), body
    limit = str(limits.FRAME_BYTES_MAX)
    refusal = {
        "code": "RESOURCE_EXHAUSTED",
        "reason": Reason.Name(Reason.MESSAGE_TOO_LARGE),
        "message": f"The answer takes {len(body)} bytes; a script can be given {limit}.",
        "metadata": {"limit": limit},
    }
    return _REFUSED, msgspec.msgpack.encode(refusal)
