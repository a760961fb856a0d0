"""Interact: requests to inputs of an interactive run, and its events to answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

from llmspell.v1 import script_pb2 as pb

from services.common.errors import field_invalid, required
from services.common.limits import SCRIPT_BYTES_MAX
from services.runtime.interaction import Input, Interrupt, Piece, Question
from services.runtime.runs import Output, RunEvent
from services.runtime.told import Answer, Log

_LINE_MAX = 2**32 - 1
"""The worker says which line; the field is an uint32."""


async def start_of(requests: AsyncIterator[pb.InteractRequest]) -> pb.InteractStart:
    """The first request.

    Raises:
        ServiceError: FIELD_REQUIRED where it is another one, or there is none.
    """
    async for request in requests:
        if request.WhichOneof("input") == "start":
            return request.start
        break
    raise required("start")


async def inputs_of(requests: AsyncIterator[pb.InteractRequest]) -> AsyncIterator[Input]:
    """What follows it; what only keeps the stream alive is left out."""
    async for request in requests:
        match request.WhichOneof("input"):
            case "source":
                yield Piece(_text("source", request.source))
            case "check":
                yield Question(_text("check", request.check), about_names=False)
            case "complete":
                yield Question(_text("complete", request.complete), about_names=True)
            case "interrupt":
                yield Interrupt()
            case "start":
                raise field_invalid("start", "must be the first request and no other")


def _text(field: str, text: str) -> str:
    if len(text.encode()) > SCRIPT_BYTES_MAX:
        raise field_invalid(field, f"must be at most {SCRIPT_BYTES_MAX} bytes")
    return text


def response_of(event: RunEvent) -> pb.InteractResponse | None:
    """An event as it is told; None for one that is not."""
    if isinstance(event, Output):
        return pb.InteractResponse(output=pb.RunOutput(data=event.data))
    if isinstance(event, Log):
        return pb.InteractResponse(log=log_of(event))
    if isinstance(event, Answer):
        return pb.InteractResponse(answer=_answer(event))
    return None


def log_of(line: Log) -> pb.RunLog:
    """A line of a log."""
    return pb.RunLog(
        level=line.level, message=line.message, module=line.module, data_json=line.data_json
    )


def _answer(answer: Answer) -> pb.InteractAnswer:
    return pb.InteractAnswer(
        kind=f"KIND_{answer.kind.upper()}",
        text=answer.text,
        message=answer.message,
        reason=answer.reason,
        line=min(max(answer.line, 0), _LINE_MAX),
        traceback=answer.traceback,
        names=answer.names,
        start=answer.start,
    )
