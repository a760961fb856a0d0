"""ScriptService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from llmspell._contract import Call
from llmspell._interact import log_of
from llmspell._values import to_duration
from llmspell.errors import InvalidArgument
from llmspell.types import (
    RunEvent,
    RunLimits,
    RunMetrics,
    RunOutput,
    RunResult,
    RunStarted,
)
from llmspell.v1 import script_pb2 as pb

_UINT64 = range(2**64)


def run(
    source: str,
    *,
    name: str,
    args: Iterable[str],
    named: Mapping[str, str] | None,
    limits: RunLimits | None,
    session: str,
    journal: bool | None = None,
) -> Call[RunEvent | None]:
    """Run a script; one event an answer, None for a kind that this client does not know."""
    request = pb.RunScriptRequest(
        source=source,
        name=name,
        positional_arguments=args,
        named_arguments=named,
        limits=None if limits is None else _limits(limits),
        session_id=session,
        journal=journal,
    )
    return Call(request, event)


def check(source: str, name: str) -> Call[None]:
    """Compile a script without running it."""
    return Call(pb.CheckScriptRequest(source=source, name=name), lambda _: None)


def _limits(limits: RunLimits) -> pb.RunLimits:
    return pb.RunLimits(
        wall_time=to_duration(limits.wall_s, "limits.wall_s"),
        cpu_time=to_duration(limits.cpu_s, "limits.cpu_s"),
        memory_bytes=_byte_count(limits.memory_bytes, "limits.memory_bytes"),
        output_bytes=_byte_count(limits.output_bytes, "limits.output_bytes"),
        max_cost_usd=limits.max_cost_usd or 0.0,
    )


def _byte_count(count: int | None, path: str) -> int:
    if count is None:
        return 0
    if count < 1 or count not in _UINT64:
        raise InvalidArgument(f"{path} must be positive, not {count}.", metadata={"field": path})
    return count


def event(answer: pb.RunScriptResponse) -> RunEvent | None:
    """What happened in a run; None for a kind that this client does not know."""
    match answer.WhichOneof("event"):
        case "started":
            return RunStarted(answer.started.run_id, answer.started.journal)
        case "output":
            return RunOutput(answer.output.data)
        case "log":
            return log_of(answer.log)
        case "metrics":
            return RunMetrics(**json.loads(answer.metrics.json))
        case "result":
            return _result(answer.result)
        case _:
            return None


def _result(message: pb.RunResult) -> RunResult:
    return RunResult(
        value=json.loads(message.json or "null"),
        elapsed_s=message.elapsed.ToNanoseconds() / 1e9,
        call_count=message.call_count,
        output_bytes=message.output_bytes,
    )
