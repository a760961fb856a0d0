"""ScriptService.Interact: inputs → requests, answers → values. No I/O."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping

from llmspell._contract import AwaitedExchange, Exchange
from llmspell._run_types import (
    InteractAnswer,
    InteractEvent,
    InteractInput,
    InteractInputs,
    RunLog,
    RunOutput,
    RunStarted,
)
from llmspell.errors import InvalidArgument
from llmspell.v1 import script_pb2 as pb


def start(
    name: str, args: Iterable[str], named: Mapping[str, str] | None, session: str
) -> pb.InteractRequest:
    """The first request."""
    begin = pb.InteractStart(
        name=name, positional_arguments=args, named_arguments=named, session_id=session
    )
    return pb.InteractRequest(start=begin)


def interact(begin: pb.InteractRequest, inputs: InteractInputs) -> Exchange[InteractEvent | None]:
    """An interactive run; None for an event that this client does not know."""
    if isinstance(inputs, AsyncIterable):
        raise InvalidArgument("inputs must not be awaited here.", metadata={"field": "inputs"})
    return Exchange(pb.InteractRequest, _requests(begin, inputs), _event)


def awaited(
    begin: pb.InteractRequest, inputs: InteractInputs
) -> Exchange[InteractEvent | None] | AwaitedExchange[InteractEvent | None]:
    """Likewise, where inputs may have to be awaited."""
    if isinstance(inputs, AsyncIterable):
        return AwaitedExchange(pb.InteractRequest, _awaited(begin, inputs), _event)
    return interact(begin, inputs)


def _requests(
    begin: pb.InteractRequest, inputs: Iterable[InteractInput]
) -> Iterator[pb.InteractRequest]:
    yield begin
    for given in inputs:
        yield _request(given)


async def _awaited(
    begin: pb.InteractRequest, inputs: AsyncIterable[InteractInput]
) -> AsyncIterator[pb.InteractRequest]:
    yield begin
    async for given in inputs:
        yield _request(given)


def _request(given: InteractInput) -> pb.InteractRequest:
    match given.kind:
        case "source":
            return pb.InteractRequest(source=given.text)
        case "check":
            return pb.InteractRequest(check=given.text)
        case "complete":
            return pb.InteractRequest(complete=given.text)
        case "interrupt":
            return pb.InteractRequest(interrupt=pb.InteractInterrupt())
        case "alive":
            return pb.InteractRequest(alive=pb.InteractAlive())
    raise InvalidArgument(f"There is no input {given.kind!r}.", metadata={"field": "kind"})


def _event(answer: pb.InteractResponse) -> InteractEvent | None:
    match answer.WhichOneof("event"):
        case "started":
            return RunStarted(answer.started.run_id)
        case "output":
            return RunOutput(answer.output.data)
        case "log":
            return log_of(answer.log)
        case "answer":
            return _answer(answer.answer)
        case _:
            return None


def log_of(message: pb.RunLog) -> RunLog:
    """A line of a log."""
    return RunLog(
        level=message.level,
        message=message.message,
        module=message.module,
        data=json.loads(message.data_json) if message.data_json else None,
    )


def _answer(message: pb.InteractAnswer) -> InteractAnswer:
    kind = pb.InteractAnswer.Kind.Name(message.kind).removeprefix("KIND_").lower()
    return InteractAnswer(
        kind=kind,
        text=message.text,
        message=message.message,
        reason=message.reason,
        line=message.line,
        traceback=message.traceback,
        names=tuple(message.names),
        start=message.start,
    )
