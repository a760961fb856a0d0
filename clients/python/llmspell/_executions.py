"""ExecutionService, and what all executions tell: answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from google.protobuf.duration_pb2 import Duration

from llmspell._contract import Call
from llmspell._execution_types import (
    AgentToolCall,
    ExecutionCallback,
    ExecutionEvent,
    ExecutionEventKind,
    ExecutionFailure,
    Spent,
    StepResult,
    WorkflowStatus,
)
from llmspell._values import from_duration, from_fields, from_timestamp, from_value, to_value
from llmspell.errors import InvalidArgument, LLMSpellError, Unavailable
from llmspell.v1 import execution_pb2 as pb

T = TypeVar("T")

WAIT_S = 20
"""How long one call waits for news; short of what proxies end."""
_MARGIN_S = 10.0
_STATUS, _KIND = "WORKFLOW_STATUS_", "CALLBACK_KIND_"
_MESSAGE_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Progress(Generic[T]):
    """The news of an execution."""

    execution_id: str
    output: T | None
    """Set where it has ended."""
    callbacks: list[ExecutionCallback] = field(default_factory=list)
    events: list[ExecutionEvent] = field(default_factory=list)


def wait() -> Duration:
    """How long one call waits for news."""
    return Duration(seconds=WAIT_S)


TIMEOUT_S = WAIT_S + _MARGIN_S
"""Of a call that waits so."""


def go_on(
    execution_id: str,
    results: Iterable[pb.CallbackResult],
    read: Callable[[pb.ExecutionProgress], Progress[T]],
    *,
    with_events: bool,
) -> Call[Progress[T]]:
    """Give results and wait for news."""
    request = pb.ContinueExecutionRequest(
        execution_id=execution_id, results=results, wait=wait(), with_events=with_events
    )
    return Call(request, lambda answer: read(answer.progress), timeout_s=TIMEOUT_S)


PAUSES_S = (0.1, 0.2, 0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 5.0)
"""Between tries to go on with what was lost: a process that is started again takes some seconds."""


def is_lost(error: LLMSpellError) -> bool:
    """Whether the execution may have gone with its process, and not ended."""
    return isinstance(error, Unavailable) or error.reason == "EXECUTION_NOT_FOUND"


def may_come_back(error: Unavailable) -> bool:
    """Whether somebody answered, or did until now: then a process is away that will be back."""
    return "failed to connect" not in error.metadata.get("transport", "")


def cancel(execution_id: str) -> Call[bool]:
    """End one; whether it went on."""
    request = pb.CancelExecutionRequest(execution_id=execution_id)
    return Call(request, lambda answer: answer.cancelled)


# Callbacks.


@dataclass(frozen=True, slots=True)
class Functions:
    """What a program lends to an execution."""

    by_name: Mapping[str, Callable[..., Any]]
    named_arguments: bool = False
    """Whether they are called with named arguments, and not with one mapping."""

    def call(self, callback: ExecutionCallback) -> Any:
        """Do what a callback wants.

        Raises:
            InvalidArgument: there is nothing of the name.
        """
        found = self.by_name.get(callback.name)
        if found is None:
            raise InvalidArgument(
                f"There is no {callback.kind} {callback.name!r} among the functions."
            )
        return found(**callback.arguments) if self.named_arguments else found(callback.arguments)


def tell(
    events: Iterable[ExecutionEvent], on_event: Callable[[ExecutionEvent], object] | None
) -> None:
    """Tell whoever listens."""
    if on_event is not None:
        for event in events:
            on_event(event)


def succeeded(callback: ExecutionCallback, value: Any) -> pb.CallbackResult:
    """What a function gave; a value that cannot travel is its failure."""
    try:
        told = to_value(value, f"the result of {callback.name}")
    except InvalidArgument as error:
        return failed(callback, error)
    return pb.CallbackResult(callback_id=callback.callback_id, value=told)


def failed(callback: ExecutionCallback, error: Exception) -> pb.CallbackResult:
    """What a function raised."""
    failure = pb.ExecutionFailure(message=f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH_MAX])
    if isinstance(error, LLMSpellError):
        failure = pb.ExecutionFailure(reason=error.reason, message=str(error))
        failure.metadata.update(error.metadata)
    return pb.CallbackResult(callback_id=callback.callback_id, failure=failure)


# Reading.


def read_callback(message: pb.Callback) -> ExecutionCallback:
    """A callback."""
    kind = pb.CallbackKind.Name(message.kind).removeprefix(_KIND).lower()
    return ExecutionCallback(
        callback_id=message.callback_id,
        kind="tool" if kind == "tool" else "function",
        name=message.name,
        arguments=from_fields(message.arguments.fields),
        path=message.path,
    )


def read_spent(message: pb.Spent) -> Spent:
    """Tokens and money."""
    return Spent(
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        cached_tokens=message.cached_tokens,
        cost_usd=message.cost_usd,
        estimated=message.estimated,
        model_calls=message.model_calls,
        tool_calls=message.tool_calls,
    )


def read_failure(message: Any) -> ExecutionFailure | None:
    """The failure of a message, None where it has none."""
    if not message.HasField("failure"):
        return None
    failure = message.failure
    return ExecutionFailure(failure.reason, failure.message, dict(failure.metadata))


def read_status(number: int) -> WorkflowStatus:
    """The word of a status."""
    word = pb.WorkflowStatus.Name(cast("Any", number)).removeprefix(_STATUS).lower()
    return cast("WorkflowStatus", word)


def read_tool_call(message: pb.AgentToolCall) -> AgentToolCall:
    """A tool call."""
    return AgentToolCall(
        call_id=message.call_id,
        tool=message.tool,
        arguments=from_fields(message.arguments.fields),
        result=from_value(message.result),
        failure=read_failure(message),
        elapsed_s=from_duration(message, "elapsed") or 0.0,
    )


def read_step(message: pb.StepResult) -> StepResult:
    """A step's result."""
    return StepResult(
        path=message.path,
        name=message.name,
        kind=message.kind,
        status=read_status(message.status),
        output=from_value(message.output),
        failure=read_failure(message),
        attempts=message.attempts,
        start_time=from_timestamp(message, "start_time"),
        end_time=from_timestamp(message, "end_time"),
        spent=read_spent(message.spent),
        input=from_value(message.input),
        is_compensation=message.is_compensation,
    )


def read_event(message: pb.ExecutionEvent) -> ExecutionEvent | None:
    """An event, None of a kind that this client does not know."""
    kind = message.WhichOneof("event")
    if kind is None:
        return None
    value = getattr(message, kind)
    return ExecutionEvent(
        number=message.number,
        path=message.path,
        time=from_timestamp(message, "time"),
        kind=cast("ExecutionEventKind", kind),
        text=value if isinstance(value, str) else "",
        tool=read_tool_call(value) if isinstance(value, pb.AgentToolCall) else None,
        step=read_step(value) if isinstance(value, pb.StepResult) else None,
        spent=read_spent(value) if isinstance(value, pb.Spent) else None,
    )


def read_events(progress: pb.ExecutionProgress) -> list[ExecutionEvent]:
    """The events of news."""
    return [event for event in map(read_event, progress.events) if event is not None]
