"""ScriptService: translates a request into a run, and a run's events into a stream."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import script_pb2, script_pb2_grpc, session_pb2

from services.common.access import METHODS, decide
from services.common.context import current_context
from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    limit_exceeded,
    required,
)
from services.common.limits import (
    DEADLINE_SECONDS_DEFAULT,
    SCRIPT_ARGUMENT_BYTES_MAX,
    SCRIPT_ARGUMENTS_MAX,
    SCRIPT_BYTES_MAX,
)
from services.common.relay import Relay
from services.runtime.bridge import Bridge, LooksUp
from services.runtime.pool import WorkerPool
from services.runtime.runs import Output, Result, RunLimits, RunSpec, check_script, run_script

_NAME_LENGTH_MAX = 128
DEFAULT_NAME = "script"
_GET_SESSION = METHODS["/llmspell.v1.SessionService/GetSession"]
_OPEN = (session_pb2.SESSION_STATUS_ACTIVE, session_pb2.SESSION_STATUS_SUSPENDED)


class ScriptServicer(script_pb2_grpc.ScriptServiceServicer):
    """Runs scripts in the pool's workers, on behalf of the caller and with its permissions."""

    def __init__(self, pool: WorkerPool, relay: Relay, tenants: LooksUp, most: RunLimits) -> None:
        """`most`: the deployment's limits; a request may ask for less."""
        self._pool = pool
        self._relay = relay
        self._tenants = tenants
        self._most = most

    async def CheckScript(  # noqa: N802
        self, request: script_pb2.CheckScriptRequest, context: object
    ) -> script_pb2.CheckScriptResponse:
        """Compile without running."""
        del context
        await check_script(self._pool, _source(request.source), _name(request.name))
        return script_pb2.CheckScriptResponse()

    async def RunScript(  # noqa: N802
        self, request: script_pb2.RunScriptRequest, context: object
    ) -> AsyncGenerator[script_pb2.RunScriptResponse, None]:
        """Run, and stream what happens."""
        del context
        caller = current_context()
        spec = _spec(request, self._most)
        if spec.session_id:
            await self._check_session(spec.session_id)
        bridge = Bridge(self._relay, self._tenants, caller, timeout_s=spec.limits.wall_s)
        started = script_pb2.RunStarted(run_id=caller.request_id)
        yield script_pb2.RunScriptResponse(started=started)
        # Closed here, so that the worker of a caller who has gone dies now.
        async with aclosing(run_script(self._pool, spec, bridge)) as events:
            async for event in events:
                yield _response(event)

    async def _check_session(self, session_id: str) -> None:
        """Refuse a session that is not there, that the caller may not see, or that has ended."""
        caller = current_context()
        decide(caller, _GET_SESSION)
        request = session_pb2.GetSessionRequest(session_id=session_id).SerializeToString()
        answer = await self._relay.call(
            _GET_SESSION, request, caller, timeout_s=DEADLINE_SECONDS_DEFAULT
        )
        status = session_pb2.GetSessionResponse.FromString(answer).session.status
        if status not in _OPEN:
            word = session_pb2.SessionStatus.Name(status).removeprefix("SESSION_STATUS_").lower()
            raise ServiceError(
                Reason.SESSION_ENDED,
                f"Session {session_id} is {word}; nothing more is run in it.",
                session_id=session_id,
                status=word,
            )


def _spec(request: script_pb2.RunScriptRequest, most: RunLimits) -> RunSpec:
    count = len(request.positional_arguments) + len(request.named_arguments)
    if count > SCRIPT_ARGUMENTS_MAX:
        raise limit_exceeded("arguments", count, SCRIPT_ARGUMENTS_MAX)
    texts = itertools.chain(request.positional_arguments, *request.named_arguments.items())
    size = sum(len(text.encode()) for text in texts)
    if size > SCRIPT_ARGUMENT_BYTES_MAX:
        raise limit_exceeded("arguments", size, SCRIPT_ARGUMENT_BYTES_MAX, "bytes")
    return RunSpec(
        source=_source(request.source),
        name=_name(request.name),
        positional=tuple(request.positional_arguments),
        named=dict(request.named_arguments),
        limits=_limits(request.limits, most),
        session_id=request.session_id,
    )


def _source(text: str) -> str:
    if not text.strip():
        raise required("source")
    size = len(text.encode())
    if size > SCRIPT_BYTES_MAX:
        raise limit_exceeded("source", size, SCRIPT_BYTES_MAX, "bytes")
    return text


def _name(text: str) -> str:
    if len(text) > _NAME_LENGTH_MAX or not text.isprintable():
        raise field_invalid("name", f"must be at most {_NAME_LENGTH_MAX} printable characters")
    return text or DEFAULT_NAME


def _limits(asked: script_pb2.RunLimits, most: RunLimits) -> RunLimits:
    return RunLimits(
        wall_s=_seconds("limits.wall_time", asked, "wall_time", most.wall_s),
        cpu_s=_seconds("limits.cpu_time", asked, "cpu_time", most.cpu_s),
        memory_bytes=_at_most("limits.memory_bytes", asked.memory_bytes, most.memory_bytes),
        output_bytes=_at_most("limits.output_bytes", asked.output_bytes, most.output_bytes),
        calls_max=most.calls_max,
    )


def _seconds(field: str, asked: script_pb2.RunLimits, name: str, most: float) -> float:
    if name not in {field.name for field, _ in asked.ListFields()}:
        return most
    seconds: float = getattr(asked, name).ToMicroseconds() / 1e6
    if not 0 < seconds <= most:
        raise field_invalid(field, f"must be more than 0 and at most {most:g} seconds")
    return seconds


def _at_most(field: str, asked: int, most: int) -> int:
    if asked > most:
        raise limit_exceeded(field, asked, most, "bytes")
    return asked or most


def _response(event: Output | Result) -> script_pb2.RunScriptResponse:
    if isinstance(event, Output):
        return script_pb2.RunScriptResponse(output=script_pb2.RunOutput(data=event.data))
    elapsed = Duration()
    elapsed.FromMicroseconds(round(event.elapsed_s * 1e6))
    result = script_pb2.RunResult(
        json=event.json,
        elapsed=elapsed,
        call_count=event.call_count,
        output_bytes=event.output_bytes,
    )
    return script_pb2.RunScriptResponse(result=result)
