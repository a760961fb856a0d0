"""ScriptService: translates a request into a run, and a run's events into a stream."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import script_pb2, script_pb2_grpc, session_pb2

from services.common.access import METHODS, decide
from services.common.context import CallContext, current_context
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
from services.runtime.facts import ToolRules, facts_of
from services.runtime.interaction import interact
from services.runtime.run_desk import RunDesk
from services.runtime.runs import (
    Output,
    Result,
    RunEvent,
    RunLimits,
    RunSpec,
    check_script,
)
from services.runtime.servicers.interactive import inputs_of, log_of, response_of, start_of
from services.runtime.told import Log, Metrics

_NAME_LENGTH_MAX = 128
DEFAULT_NAME = "script"
_NO_TOOLS = ToolRules()
_GET_SESSION = METHODS["/llmspell.v1.SessionService/GetSession"]
CheckSession = Callable[[str], Awaitable[None]]
_OPEN = (session_pb2.SESSION_STATUS_ACTIVE, session_pb2.SESSION_STATUS_SUSPENDED)


class ScriptServicer(script_pb2_grpc.ScriptServiceServicer):
    """Runs scripts in the pool's workers, on behalf of the caller and with its permissions."""

    def __init__(
        self,
        desk: RunDesk,
        most: RunLimits,
        *,
        globals_off: frozenset[str] = frozenset(),
        rules: ToolRules = _NO_TOOLS,
        providers: Callable[[str], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """Make it.

        Args:
            desk: Where runs are made.
            most: The deployment's limits; a request may ask for less.
            globals_off: Globals that read as nil.
            rules: What `Config` says of tools.
            providers: What it says of the providers of a tenant.
        """
        self._globals_off = globals_off
        self._rules = rules
        self._providers = providers
        self._desk = desk
        self._most = most

    async def CheckScript(  # noqa: N802
        self, request: script_pb2.CheckScriptRequest, context: object
    ) -> script_pb2.CheckScriptResponse:
        """Compile without running."""
        del context
        source, name = _source(request.source), _name(request.name)
        await check_script(self._desk.pool, source, name, tenant=current_context().tenant)
        return script_pb2.CheckScriptResponse()

    async def RunScript(  # noqa: N802
        self, request: script_pb2.RunScriptRequest, context: object
    ) -> AsyncGenerator[script_pb2.RunScriptResponse, None]:
        """Run, and stream what happens."""
        del context
        caller = current_context()
        spec = self._spec(request, caller)
        if spec.session_id:
            await self.check_session(spec.session_id)
        has_journal = request.journal if request.HasField("journal") else bool(spec.session_id)
        if has_journal:
            running, spec = self._desk.begin(caller, spec)
            run_id, stream = running.run_id, self._desk.events(running, spec)
        else:
            run_id, stream = caller.request_id, self._desk.plain(caller, spec)
        # Closed here, so that the worker of a caller who has gone dies now.
        async with aclosing(stream) as events:
            async for event in events:
                yield run_message(event, run_id, has_journal=has_journal)

    async def Interact(  # noqa: N802
        self, request_iterator: AsyncIterator[script_pb2.InteractRequest], context: object
    ) -> AsyncGenerator[script_pb2.InteractResponse, None]:
        """Run piece by piece, and stream what happens. No journal is kept of it."""
        del context
        caller = current_context()
        start = await start_of(request_iterator)
        spec = self.told(_unsourced(start, self._most, caller.tenant), caller)
        if spec.session_id:
            await self.check_session(spec.session_id)
        started = script_pb2.RunStarted(run_id=caller.request_id)
        yield script_pb2.InteractResponse(started=started)
        inputs = inputs_of(request_iterator)
        async with (
            self._desk.handling.hooked(caller, spec) as hooked,
            aclosing(interact(self._desk.pool, spec, inputs, hooked)) as events,
        ):
            async for event in events:
                if (response := response_of(event)) is not None:
                    yield response

    def _spec(self, request: script_pb2.RunScriptRequest, caller: CallContext) -> RunSpec:
        spec = _unsourced(request, self._most, caller.tenant)
        return self.told(replace(spec, source=_source(request.source)), caller)

    def told(self, spec: RunSpec, caller: CallContext) -> RunSpec:
        """The run with what it is told of itself, and without what is off."""
        usable = self._providers(caller.tenant)
        facts = facts_of(caller, spec.limits, self._globals_off, self._rules, usable)
        return replace(spec, facts=facts, globals_off=self._globals_off)

    async def check_session(self, session_id: str) -> None:
        """Refuse a session that is not there, that the caller may not see, or that has ended."""
        caller = current_context()
        decide(caller, _GET_SESSION)
        request = session_pb2.GetSessionRequest(session_id=session_id).SerializeToString()
        answer = await self._desk.relay.call(
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


def _unsourced(
    request: script_pb2.RunScriptRequest | script_pb2.InteractStart, most: RunLimits, tenant: str
) -> RunSpec:
    """A run that has no source yet."""
    count = len(request.positional_arguments) + len(request.named_arguments)
    if count > SCRIPT_ARGUMENTS_MAX:
        raise limit_exceeded("arguments", count, SCRIPT_ARGUMENTS_MAX)
    texts = itertools.chain(request.positional_arguments, *request.named_arguments.items())
    size = sum(len(text.encode()) for text in texts)
    if size > SCRIPT_ARGUMENT_BYTES_MAX:
        raise limit_exceeded("arguments", size, SCRIPT_ARGUMENT_BYTES_MAX, "bytes")
    return RunSpec(
        source="",
        tenant=tenant,
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
        max_cost_usd=asked.max_cost_usd,
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


def run_message(
    event: RunEvent | None, run_id: str, *, has_journal: bool = True
) -> script_pb2.RunScriptResponse:
    """What happened in a run, as it is told; None: it began."""
    if event is None:
        started = script_pb2.RunStarted(run_id=run_id, journal=has_journal)
        return script_pb2.RunScriptResponse(started=started)
    if isinstance(event, Output):
        return script_pb2.RunScriptResponse(output=script_pb2.RunOutput(data=event.data))
    if isinstance(event, Log):
        return script_pb2.RunScriptResponse(log=log_of(event))
    if isinstance(event, Metrics):
        return script_pb2.RunScriptResponse(metrics=script_pb2.RunMetrics(json=event.json))
    assert isinstance(event, Result)
    elapsed = Duration()
    elapsed.FromMicroseconds(round(event.elapsed_s * 1e6))
    result = script_pb2.RunResult(
        json=event.json,
        elapsed=elapsed,
        call_count=event.call_count,
        output_bytes=event.output_bytes,
    )
    return script_pb2.RunScriptResponse(result=result)
