"""RunService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from llmspell import _scripts
from llmspell._contract import Call, Page
from llmspell._kept_run_types import (
    Modification,
    ReplayDifference,
    ReplayMode,
    ReplayReport,
    Run,
    RunCall,
    RunStatus,
)
from llmspell._values import from_timestamp, to_duration
from llmspell.errors import InvalidArgument
from llmspell.types import RunEvent, RunOutput, RunStarted
from llmspell.v1 import run_pb2 as pb
from llmspell.v1 import script_pb2

_STATUS, _MODE = "RUN_STATUS_", "REPLAY_MODE_"


def get(run_id: str) -> Call[Run]:
    """What is known of a run."""
    return Call(pb.GetRunRequest(run_id=run_id), lambda answer: _run(answer.run))


def list_runs(session: str, statuses: Iterable[RunStatus]) -> Call[Page[Run]]:
    """A page of runs."""
    numbers = [_number(pb.RunStatus, _STATUS, status, "statuses") for status in statuses]
    return Call(
        pb.ListRunsRequest(session_id=session, statuses=numbers),
        lambda answer: Page([_run(each) for each in answer.runs], answer.next_page_token),
    )


def list_calls(run_id: str, first_number: int, *, content: bool) -> Call[Page[RunCall]]:
    """A page of a run's calls."""
    request = pb.ListRunCallsRequest(run_id=run_id, first_number=first_number, content=content)
    return Call(
        request, lambda answer: Page([_call(each) for each in answer.calls], answer.next_page_token)
    )


def cancel(run_id: str) -> Call[bool]:
    """End a run; whether it went on."""
    return Call(pb.CancelRunRequest(run_id=run_id), lambda answer: answer.cancelled)


def delete(run_id: str) -> Call[int]:
    """Erase a run's journal; 1 where it was there."""
    return Call(pb.DeleteRunRequest(run_id=run_id), lambda answer: answer.deleted_count)


def replay(
    run_id: str, mode: ReplayMode, modifications: Iterable[Modification], stop_at_call: int
) -> Call[RunStarted | RunOutput | ReplayReport | None]:
    """Make a run again; one event an answer, None for a kind that this client does not know."""
    request = pb.ReplayRunRequest(
        run_id=run_id,
        mode=_number(pb.ReplayMode, _MODE, mode, "mode"),
        modifications=[_modification(each) for each in modifications],
        stop_at_call=stop_at_call,
    )
    return Call(request, _replay_event)


def replay_session(
    session: str,
    mode: ReplayMode,
    modifications: Iterable[Modification],
    *,
    stop_on_error: bool,
    timeout_s: float | None,
) -> Call[list[ReplayReport]]:
    """Make a session's runs again."""
    request = pb.ReplaySessionRequest(
        session_id=session,
        mode=_number(pb.ReplayMode, _MODE, mode, "mode"),
        modifications=[_modification(each) for each in modifications],
        stop_on_error=stop_on_error,
        timeout=to_duration(timeout_s, "replay_s"),
    )
    return Call(request, lambda answer: [_report(each) for each in answer.reports])


def resume(run_id: str) -> Call[RunEvent | None]:
    """Go on with a run; events as of any run."""
    return Call(
        pb.ResumeRunRequest(run_id=run_id),
        lambda answer: _scripts.event(
            script_pb2.RunScriptResponse.FromString(answer.SerializeToString())
        ),
    )


def _number(enum: Any, prefix: str, word: str, field: str) -> Any:
    try:
        return enum.Value(prefix + word.upper())
    except ValueError:
        known = ", ".join(name.removeprefix(prefix).lower() for name in enum.keys()[1:])
        raise InvalidArgument(
            f"{field} must be of {known}, not {word!r}.", metadata={"field": field}
        ) from None


def _word(enum: Any, prefix: str, number: int) -> str:
    return cast("str", enum.Name(number)).removeprefix(prefix).lower()


def _modification(modification: Modification) -> pb.ReplayModification:
    message = pb.ReplayModification(
        call_number=modification.call_number, method=modification.method, path=modification.path
    )
    if modification.reason:
        message.reason = modification.reason
    else:
        message.json = json.dumps(modification.answer)
    return message


def _run(message: pb.Run) -> Run:
    begin, end = message.begin, message.end
    start = from_timestamp(begin, "start_time")
    assert start is not None
    return Run(
        run_id=message.run_id,
        status=cast("RunStatus", _word(pb.RunStatus, _STATUS, message.status)),
        name=begin.name,
        session_id=begin.session_id,
        args=tuple(begin.positional_arguments),
        named=dict(sorted(begin.named_arguments.items())),
        source_digest=begin.source_digest,
        start_time=start,
        end_time=from_timestamp(end, "end_time"),
        expire_time=from_timestamp(begin, "expire_time"),
        call_count=end.call_count,
        output_bytes=end.output_bytes,
        reason=end.reason,
        message=end.message,
        value=json.loads(end.json or "null"),
        journal_bytes=message.journal_bytes,
    )


def _call(message: pb.RunCall) -> RunCall:
    return RunCall(
        number=message.number,
        method=message.method,
        failure_reason=message.failure_reason,
        start_time=from_timestamp(message, "start_time"),
        end_time=from_timestamp(message, "end_time"),
        size_bytes=message.size_bytes,
        request=json.loads(message.request_json or "null"),
        answer=json.loads(message.answer_json or "null"),
    )


def _replay_event(answer: pb.ReplayRunResponse) -> RunStarted | RunOutput | ReplayReport | None:
    match answer.WhichOneof("event"):
        case "started":
            return RunStarted(answer.started.run_id, answer.started.journal)
        case "output":
            return RunOutput(answer.output.data)
        case "report":
            return _report(answer.report)
        case _:
            return None


def _report(message: pb.ReplayReport) -> ReplayReport:
    difference = None
    if message.HasField("difference"):
        differs = message.difference
        difference = ReplayDifference(
            what=differs.what,
            call_number=differs.call_number,
            output_offset=differs.output_offset,
            recorded=differs.recorded,
            replayed=differs.replayed,
        )
    return ReplayReport(
        run_id=message.run_id,
        identical=message.identical,
        difference=difference,
        call_count=message.call_count,
        output_bytes=message.output_bytes,
        stopped_call=_call(message.stopped_call) if message.stopped else None,
        value=json.loads(message.json or "null"),
        reason=message.reason,
        message=message.message,
        elapsed_s=message.elapsed.ToNanoseconds() / 1e9,
        answered_count=message.answered_count,
        asked_count=message.asked_count,
        refused_count=message.refused_count,
    )
