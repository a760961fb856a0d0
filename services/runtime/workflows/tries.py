"""What the failure of a step's try means: whether another makes sense, and what it has cost."""

from __future__ import annotations

from services.common.errors import Reason, ServiceError
from services.common.limits import REQUEST_REMEMBERED_SECONDS
from services.common.status import status_code
from services.runtime.money.model import NOTHING_SPENT, Spent

_ID_MARGIN_S = 60.0
_USELESS_CODES = {"INVALID_ARGUMENT", "PERMISSION_DENIED", "UNIMPLEMENTED", "UNAUTHENTICATED"}
_USELESS = {
    Reason.WORKFLOW_REFERENCE_MISSING,
    Reason.WORKFLOW_STEP_UNKNOWN,
    Reason.BUDGET_EXHAUSTED,
    Reason.LIMIT_EXCEEDED,
    Reason.TOOL_NOT_FOUND,
    Reason.AGENT_NOT_FOUND,
    Reason.WORKFLOW_NOT_FOUND,
    Reason.TEMPLATE_NOT_FOUND,
}


def is_worth_another_try(error: ServiceError) -> bool:
    """Whether trying again may help: not where the step itself is wrong, or may not."""
    return error.reason not in _USELESS and status_code(error.reason).name not in _USELESS_CODES


def spent_in_vain(error: ServiceError) -> Spent:
    """What an agent spent that failed, as its error says."""
    told = error.metadata
    try:
        return Spent(
            input_tokens=int(told.get("input_tokens", told.get("tokens", 0))),
            output_tokens=int(told.get("output_tokens", 0)),
            cost_usd=float(told.get("cost_usd", 0.0)),
        )
    except ValueError:
        return NOTHING_SPENT


def step_unknown(path: str) -> ServiceError:
    """Nobody knows whether a step was done."""
    return ServiceError(
        Reason.WORKFLOW_STEP_UNKNOWN,
        f"The step {path} had begun when its process was lost, and nobody knows whether "
        "it was done. It is not done twice; give it a retry where that is right.",
        step=path,
    )


def is_remembered(begun_ns: int, now_ns: int) -> bool:
    """Whether who was asked to do something under a request id still knows of it."""
    passed_s = (now_ns - begun_ns) / 1e9
    return 0 <= passed_s < REQUEST_REMEMBERED_SECONDS - _ID_MARGIN_S


def too_long(path: str, limit_s: float) -> ServiceError:
    """A step took longer than it may."""
    return ServiceError(
        Reason.WORKFLOW_TIME_LIMIT,
        f"The step {path} took longer than {limit_s:g} s.",
        step=path,
        limit_s=limit_s,
    )
