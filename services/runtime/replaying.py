"""Makes a run again in a worker of its own, and reports what came of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from llmspell.v1 import run_pb2

from services.common.context import CallContext
from services.common.errors import ServiceError
from services.common.redaction import redact
from services.runtime.bridge import error_tree
from services.runtime.journal import packed_request, plain
from services.runtime.past import Past, PastCall
from services.runtime.readings import readings_of
from services.runtime.replay import STRICT, Plan, Replay, Stopped
from services.runtime.run_desk import RunDesk
from services.runtime.runs import Call, Output, Result, run_script


async def replay_run(
    desk: RunDesk, caller: CallContext, past: Past, plan: Plan
) -> AsyncGenerator[Output | run_pb2.ReplayReport, None]:
    """What is printed, then the report.

    Raises:
        ServiceError: RUN_QUEUE_FULL where no worker can be had.
    """
    spec = desk.spec_of(past, caller)
    begin = desk.clock.monotonic()
    ask = None if plan.mode in STRICT else desk.handling.bare(caller, spec)
    now_ns, start_ns = desk.clock.now_ns(), past.begin.start_time.ToNanoseconds()
    readings = readings_of(desk.clock, passed_ns=max(now_ns - start_ns, 0))
    replay = Replay(past, plan, readings, ask)
    report = run_pb2.ReplayReport(run_id=past.begin.run_id)
    try:
        async with aclosing(run_script(desk.pool, spec, replay, replay.read)) as events:
            async for event in events:
                if isinstance(event, Output):
                    replay.take_output(event.data)
                    yield event
                elif isinstance(event, Result):
                    report.json = event.json
                    replay.take_result(event.json)
    except Stopped:
        pass
    except ServiceError as error:
        replay.take_failure(error)
        told = error_tree(error)
        report.reason, report.message = told["reason"], told["message"]
    _fill(report, replay, desk.clock.monotonic() - begin)
    yield report


def _fill(report: run_pb2.ReplayReport, replay: Replay, elapsed_s: float) -> None:
    report.call_count, report.output_bytes = replay.number, replay.printed
    report.answered_count, report.asked_count = replay.answered, replay.asked
    report.refused_count = replay.refused
    report.elapsed.FromMicroseconds(round(elapsed_s * 1e6))
    if replay.difference is not None:
        report.difference.CopyFrom(replay.difference)
    if replay.stopped_at is not None:
        report.stopped = True
        number = replay.plan.stop_at
        report.call_count = number - 1
        stopped = call_message(number, _stopped(replay, number), content=True)
        report.stopped_call.CopyFrom(stopped)
    report.identical = replay.difference is None and not replay.plan.changes
    if replay.ended_early:
        report.message = "The run was ended there from outside; up to there it is the same."


def _stopped(replay: Replay, number: int) -> PastCall:
    """The call that the replay stopped at, as it was recorded if it was."""
    call = replay.stopped_at
    assert isinstance(call, Call)
    request = packed_request(call)
    if number <= len(replay.past.calls):
        recorded = replay.past.calls[number - 1]
        if (recorded.method, recorded.request) == (call.method, request):
            return recorded
    return PastCall(call.method, request, b"", 0, 0)


def call_message(number: int, call: PastCall, *, content: bool) -> run_pb2.RunCall:
    """A call as it is told, without what is marked as sensitive or looks like a credential."""
    message = run_pb2.RunCall(
        number=number, method=call.method, size_bytes=len(call.request) + len(call.payload)
    )
    message.start_time.FromNanoseconds(call.start_ns)
    message.end_time.FromNanoseconds(call.end_ns)
    answer: Any = msgspec.msgpack.decode(call.payload[1:]) if call.payload else {}
    if call.payload and call.payload[0]:
        message.failure_reason = str(answer.get("reason", ""))
    if content:
        message.request_json = told_json(msgspec.msgpack.decode(call.request)[1])
        message.answer_json = told_json(answer) if call.payload else ""
    return message


def told_json(tree: object) -> str:
    """A tree as it may be told to whoever may read journals."""
    return msgspec.json.encode(redact(_without_marked(plain(tree)))).decode()


_CONTENT = frozenset({"value", "json", "text", "raw", "data", "content"})
"""What a mark of sensitive values is about, of the fields beside it."""


def _without_marked(tree: object) -> object:
    """Without values that stand beside a mark of sensitive ones."""
    if isinstance(tree, dict):
        is_marked = tree.get("sensitive") is True
        return {
            name: "[SENSITIVE]" if is_marked and name in _CONTENT else _without_marked(value)
            for name, value in tree.items()
        }
    return [_without_marked(value) for value in tree] if isinstance(tree, list) else tree
