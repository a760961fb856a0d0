"""Whether a condition is met. What an agent or a function says is asked once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from services.common.errors import Reason, ServiceError
from services.runtime.workflows.expressions import are_equal, evaluate
from services.runtime.workflows.interpolate import as_text, interpolate
from services.runtime.workflows.model import (
    AllOf,
    AnyOf,
    Asked,
    Classified,
    Condition,
    Constant,
    Ended,
    Expression,
    Not,
    OutputContains,
    OutputEquals,
    SharedEquals,
    SharedExists,
)
from services.runtime.workflows.results import Status
from services.runtime.workflows.scope import Scope


class Asks(Protocol):
    """Asks what no data can tell."""

    async def classify(self, condition: Classified, text: str, path: str) -> bool:
        """Whether an agent takes a text for what is expected."""

    async def function_says(self, function: str, scope: Scope, path: str) -> bool:
        """What a function of the caller says."""


async def is_met(  # noqa: PLR0911  (one for each kind)
    condition: Condition | None, scope: Scope, asks: Asks, path: str
) -> bool:
    """Whether it is met; none is.

    `path` is where it stands, different for each condition of a run, so that an answer can be kept.

    Raises:
        ServiceError: WORKFLOW_INVALID where it says nothing, and what asking raises.
    """
    match condition:
        case None:
            return True
        case Not(inner):
            return not await is_met(inner, scope, asks, path)
        case AllOf(several):
            return not await _some(several, scope, asks, path, wanted=False)
        case AnyOf(several):
            return await _some(several, scope, asks, path, wanted=True)
        case Classified():
            return await asks.classify(condition, _text(condition, scope), path)
        case Asked(function):
            return await asks.function_says(function, scope, path)
    return _data_say(condition, scope)


async def _some(
    several: Sequence[Condition | None], scope: Scope, asks: Asks, path: str, *, wanted: bool
) -> bool:
    """Whether one of them is as wanted; those after it are not asked."""
    for number, inner in enumerate(several):
        if await is_met(inner, scope, asks, f"{path}.{number}") is wanted:
            return True
    return False


def _text(condition: Classified, scope: Scope) -> str:
    if condition.input:
        return as_text(interpolate(condition.input, scope))
    return as_text(scope.last.output) if scope.last is not None else ""


def _data_say(condition: Condition, scope: Scope) -> bool:  # noqa: PLR0911  (one for each kind)
    match condition:
        case Constant(value):
            return value
        case SharedEquals(key, value):
            return key in scope.shared and are_equal(scope.shared[key], value)
        case SharedExists(key):
            return key in scope.shared
        case Expression(text):
            return evaluate(text, scope)
        case Ended(step, well):
            result = scope.result(step)
            wanted = Status.COMPLETED if well else Status.FAILED
            return result is not None and result.status is wanted
        case OutputEquals(step, value):
            return are_equal(_output(step, scope), value)
        case OutputContains(step, text):
            return _contains(_output(step, scope), text)
    raise ServiceError(Reason.WORKFLOW_INVALID, "A condition says nothing.")


def _output(step: str, scope: Scope) -> Any:
    result = scope.result(step)
    return result.output if result is not None and result.success else None


def _contains(output: Any, text: str) -> bool:
    if output is None:
        return False
    if isinstance(output, list) and text in output:
        return True
    return text in as_text(output)
