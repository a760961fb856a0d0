"""RunService: what is known of runs, made again and gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

import msgspec
from llmspell.v1 import journal_pb2, run_pb2, run_pb2_grpc, script_pb2

from services.common.access import METHODS
from services.common.context import CallContext, current_context
from services.common.errors import Reason, ServiceError, field_invalid, required
from services.common.limits import (
    CALLS_AT_ONCE,
    DEADLINE_SECONDS_DEFAULT,
    DEADLINE_SECONDS_MAX,
    REPLAY_REPORTS_MAX,
)
from services.common.paging import PageTokens, page_size
from services.common.redaction import redact, redact_field
from services.runtime.bridge import error_tree
from services.runtime.past import Past, check_run_id, read_past, run_not_found
from services.runtime.replay import Change, Mode, Plan
from services.runtime.replaying import call_message, replay_run
from services.runtime.run_desk import RunDesk
from services.runtime.runs import Output, Reply
from services.runtime.servicers.script import CheckSession, run_message

_LIST = METHODS["/llmspell.v1.JournalService/ListJournals"]
_GET = METHODS["/llmspell.v1.JournalService/GetJournal"]
_DELETE = METHODS["/llmspell.v1.JournalService/DeleteJournal"]
_REPLAY_SECONDS = 60.0
_PAGE = 200


class RunServicer(run_pb2_grpc.RunServiceServicer):
    """Answers from journals and from the runs of this process."""

    def __init__(self, desk: RunDesk, check_session: CheckSession, page_tokens: PageTokens) -> None:
        """`check_session`: refuses a session in which nothing may be run."""
        self._desk = desk
        self._check_session = check_session
        self._page_tokens = page_tokens

    async def GetRun(  # noqa: N802
        self, request: run_pb2.GetRunRequest, context: object
    ) -> run_pb2.GetRunResponse:
        """One run."""
        del context
        return run_pb2.GetRunResponse(run=await self._get(current_context(), request.run_id))

    async def ListRuns(  # noqa: N802
        self, request: run_pb2.ListRunsRequest, context: object
    ) -> run_pb2.ListRunsResponse:
        """A page of runs."""
        del context
        caller, wanted = current_context(), set(request.statuses)
        bound_to = f"ListRuns\0{caller.tenant}\0{request.session_id}\0{sorted(wanted)}"
        token = ""
        if request.page_token:
            token = self._page_tokens.open(request.page_token, bound_to).decode()
        size = page_size(request.page_size)
        await self._desk.settle_all(caller.tenant)
        page = await self._journals(caller, request.session_id, size, token)
        runs = [self._message(caller, journal) for journal in page.journals]
        answer = run_pb2.ListRunsResponse(
            runs=[run for run in runs if not wanted or run.status in wanted]
        )
        if page.next_page_token:
            following = page.next_page_token.encode()
            answer.next_page_token = self._page_tokens.seal(bound_to, following)
        return answer

    async def ListRunCalls(  # noqa: N802
        self, request: run_pb2.ListRunCallsRequest, context: object
    ) -> run_pb2.ListRunCallsResponse:
        """A page of calls."""
        del context
        caller = current_context()
        bound_to = f"ListRunCalls\0{caller.tenant}\0{request.run_id}\0{request.content}"
        first = request.first_number or 1
        if request.page_token:
            first = int(self._page_tokens.open(request.page_token, bound_to))
        past = await self._past(caller, request.run_id)
        most = page_size(request.page_size)
        found = list(enumerate(past.calls[first - 1 : first - 1 + most], start=first))
        answer = run_pb2.ListRunCallsResponse(
            calls=[call_message(number, call, content=request.content) for number, call in found]
        )
        if first - 1 + most < len(past.calls):
            following = str(first + most).encode()
            answer.next_page_token = self._page_tokens.seal(bound_to, following)
        return answer

    async def CancelRun(  # noqa: N802
        self, request: run_pb2.CancelRunRequest, context: object
    ) -> run_pb2.CancelRunResponse:
        """End a run that goes on."""
        del context
        caller = current_context()
        cancelled = self._desk.cancel(caller.tenant, request.run_id)
        if not cancelled:
            await self._get(caller, request.run_id)
        return run_pb2.CancelRunResponse(cancelled=cancelled)

    async def DeleteRun(  # noqa: N802
        self, request: run_pb2.DeleteRunRequest, context: object
    ) -> run_pb2.DeleteRunResponse:
        """Erase a journal."""
        del context
        caller = current_context()
        await self._desk.settle(caller.tenant, request.run_id)
        if self._desk.running(caller.tenant, request.run_id) is not None:
            raise _goes_on(request.run_id)
        try:
            await self._get(caller, request.run_id)
        except ServiceError as error:
            if error.reason != Reason.RUN_NOT_FOUND:
                raise
            return run_pb2.DeleteRunResponse()
        delete = journal_pb2.DeleteJournalRequest(session_id=request.run_id)
        await self._ask(caller, _DELETE, delete, "journal.write")
        return run_pb2.DeleteRunResponse(deleted_count=1)

    async def ReplayRun(  # noqa: N802
        self, request: run_pb2.ReplayRunRequest, context: object
    ) -> AsyncGenerator[run_pb2.ReplayRunResponse, None]:
        """Make a run again."""
        del context
        caller = current_context()
        plan = _plan(request)
        past = await self._past(caller, request.run_id)
        started = script_pb2.RunStarted(run_id=request.run_id, journal=True)
        yield run_pb2.ReplayRunResponse(started=started)
        async with aclosing(replay_run(self._desk, caller, past, plan)) as events:
            async for event in events:
                if isinstance(event, Output):
                    output = script_pb2.RunOutput(data=event.data)
                    yield run_pb2.ReplayRunResponse(output=output)
                else:
                    yield run_pb2.ReplayRunResponse(report=event)

    async def ReplaySession(  # noqa: N802
        self, request: run_pb2.ReplaySessionRequest, context: object
    ) -> run_pb2.ReplaySessionResponse:
        """Make a session's runs again, the oldest first."""
        del context
        if not request.session_id:
            raise required("session_id")
        if request.mode == Mode.REPLAY_MODE_DEBUG:
            raise field_invalid("mode", "must be exact, simulate or modified for a whole session")
        caller, plan = current_context(), _plan(request)
        reports: list[run_pb2.ReplayReport] = []
        timeout_s = _timeout_s(request)
        try:
            async with asyncio.timeout(timeout_s):
                async for run_id in self._ended_runs(caller, request.session_id):
                    reports.append(await self._report(caller, run_id, plan))
                    if request.stop_on_error and not reports[-1].identical:
                        break
        except TimeoutError:
            raise ServiceError(
                Reason.DEADLINE_EXCEEDED,
                f"After {timeout_s:g} s {len(reports)} runs had been made again, and not all.",
            ) from None
        return run_pb2.ReplaySessionResponse(reports=reports)

    async def ResumeRun(  # noqa: N802
        self, request: run_pb2.ResumeRunRequest, context: object
    ) -> AsyncGenerator[run_pb2.ResumeRunResponse, None]:
        """Go on with a run that was lost."""
        del context
        caller = current_context()
        run = await self._get(caller, request.run_id)
        if run.begin.session_id:
            await self._check_session(run.begin.session_id)
        running, spec = await self._desk.resume(caller, request.run_id)
        async with aclosing(self._desk.events(running, spec)) as events:
            async for event in events:
                message = run_message(event, running.run_id)
                yield run_pb2.ResumeRunResponse.FromString(message.SerializeToString())

    async def _get(self, caller: CallContext, run_id: str) -> run_pb2.Run:
        check_run_id(run_id)
        await self._desk.settle(caller.tenant, run_id)
        asked = journal_pb2.GetJournalRequest(session_id=run_id)
        answer = await self._ask(caller, _GET, asked, "journal.read")
        journal = journal_pb2.GetJournalResponse.FromString(answer).journal
        running = self._desk.running(caller.tenant, run_id)
        if not journal.run_begin and running is not None:
            journal.run_begin = running.begin.SerializeToString()
        if not journal.run_begin:
            raise run_not_found(run_id)
        return self._message(caller, journal)

    def _message(self, caller: CallContext, journal: journal_pb2.Journal) -> run_pb2.Run:
        begin = run_pb2.RunBegin.FromString(journal.run_begin)
        run = run_pb2.Run(run_id=begin.run_id, begin=begin, journal_bytes=journal.size_bytes)
        run.status = run_pb2.RUN_STATUS_INTERRUPTED
        if journal.run_end:
            run.end.ParseFromString(journal.run_end)
            run.status = run.end.status
        if journal.HasField("last_time"):
            run.last_time.CopyFrom(journal.last_time)
        if self._desk.running(caller.tenant, begin.run_id) is not None:
            run.status = run_pb2.RUN_STATUS_RUNNING
            run.ClearField("end")
        _redact_arguments(run.begin)
        return run

    async def _past(self, caller: CallContext, run_id: str) -> Past:
        """The journal of a run that does not go on."""
        check_run_id(run_id)
        await self._desk.settle(caller.tenant, run_id)
        if self._desk.running(caller.tenant, run_id) is not None:
            raise _goes_on(run_id)
        return await read_past(self._desk.relay, caller, run_id)

    async def _report(self, caller: CallContext, run_id: str, plan: Plan) -> run_pb2.ReplayReport:
        past = await self._past(caller, run_id)
        async with aclosing(replay_run(self._desk, caller, past, plan)) as events:
            async for event in events:
                if isinstance(event, run_pb2.ReplayReport):
                    return event
        raise AssertionError("a replay ends with its report")

    async def _ended_runs(self, caller: CallContext, session_id: str) -> AsyncGenerator[str, None]:
        """Ids of a session's runs that do not go on, the oldest first."""
        found: list[str] = []
        token = ""
        await self._desk.settle_all(caller.tenant)
        while len(found) < REPLAY_REPORTS_MAX:
            page = await self._journals(caller, session_id, _PAGE, token)
            found += [journal.session_id for journal in page.journals]
            token = page.next_page_token
            if not token:
                break
        for run_id in reversed(found[:REPLAY_REPORTS_MAX]):
            await self._desk.settle(caller.tenant, run_id)
            if self._desk.running(caller.tenant, run_id) is None:
                yield run_id

    async def _journals(
        self, caller: CallContext, session_id: str, size: int, token: str
    ) -> journal_pb2.ListJournalsResponse:
        asked = journal_pb2.ListJournalsRequest(
            runs=True, session_id=session_id, page_size=size, page_token=token
        )
        answer = await self._ask(caller, _LIST, asked, "journal.read")
        return journal_pb2.ListJournalsResponse.FromString(answer)

    async def _ask(self, caller: CallContext, method: Any, request: Any, permission: str) -> bytes:
        """Ask the state process with no more than what is needed."""
        asker = caller.housekeeping(permission)
        return await self._desk.relay.call(
            method, request.SerializeToString(), asker, timeout_s=DEADLINE_SECONDS_DEFAULT
        )


def _goes_on(run_id: str) -> ServiceError:
    return ServiceError(
        Reason.RUN_NOT_RESUMABLE,
        f"Run {run_id} goes on; wait for its end, or cancel it.",
        run_id=run_id,
        status="running",
    )


def _timeout_s(request: run_pb2.ReplaySessionRequest) -> float:
    if not request.HasField("timeout"):
        return _REPLAY_SECONDS
    seconds = request.timeout.ToMicroseconds() / 1e6
    if not 0 < seconds <= DEADLINE_SECONDS_MAX:
        raise field_invalid(
            "timeout", f"must be more than 0 and at most {DEADLINE_SECONDS_MAX:g} s"
        )
    return seconds


def _plan(request: Any) -> Plan:
    """How a run is to be made again.

    Raises:
        ServiceError: FIELD_INVALID, FIELD_REQUIRED.
    """
    mode = request.mode or Mode.REPLAY_MODE_EXACT
    stop_at = getattr(request, "stop_at_call", 0)
    if mode not in Mode.values():
        raise field_invalid("mode", "must be exact, simulate, modified or debug")
    if request.modifications and mode != Mode.REPLAY_MODE_MODIFIED:
        raise field_invalid("modifications", "go with mode modified only")
    if bool(stop_at) != (mode == Mode.REPLAY_MODE_DEBUG):
        raise field_invalid("stop_at_call", "goes with mode debug, and must be set there")
    return Plan(mode, _changes(request.modifications), stop_at)


def _changes(modifications: Sequence[run_pb2.ReplayModification]) -> list[Change]:
    if len(modifications) > CALLS_AT_ONCE:
        raise field_invalid("modifications", f"must be at most {CALLS_AT_ONCE}")
    return [_change(each, f"modifications[{at}]") for at, each in enumerate(modifications)]


def _change(modification: run_pb2.ReplayModification, place: str) -> Change:
    if not modification.call_number and not modification.method:
        raise required(f"{place}.call_number")
    path = modification.path.split(".") if modification.path else []
    if not all(path):
        raise field_invalid(f"{place}.path", "must be names with dots between them")
    reply = _modified(modification, place)
    if not path and reply.ok and not isinstance(reply.tree, dict):
        raise field_invalid(f"{place}.json", "must be a JSON object where it is all of the answer")
    return Change(modification.call_number, modification.method, path, reply)


def _modified(modification: run_pb2.ReplayModification, place: str) -> Reply:
    kind = modification.WhichOneof("answer")
    if kind is None:
        raise required(f"{place}.json")
    if kind == "json":
        try:
            return Reply(ok=True, tree=msgspec.json.decode(modification.json))
        except (msgspec.DecodeError, RecursionError):
            raise field_invalid(f"{place}.json", "must be JSON") from None
    if modification.path:
        raise field_invalid(f"{place}.path", "goes with json only")
    try:
        reason = cast("Reason", Reason.Value(modification.reason))
    except ValueError:
        raise field_invalid(f"{place}.reason", "must be one, such as ITEM_NOT_FOUND") from None
    error = ServiceError(reason, "The answer of this call was replaced.")
    return Reply(ok=False, tree=error_tree(error))


def _redact_arguments(begin: run_pb2.RunBegin) -> None:
    for name, value in begin.named_arguments.items():
        begin.named_arguments[name] = redact_field(name, value)
    begin.positional_arguments[:] = redact(list(begin.positional_arguments))
    begin.ClearField("facts_json")  # of use to a replay only
