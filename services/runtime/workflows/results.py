"""What came of steps and of workflows, and what they have spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.common.errors import Reason, ServiceError, reason_name, reason_named
from services.runtime.money.model import NOTHING_SPENT, Spent

MEMO = "memo"
"""Kind of what is kept within a step and is none itself."""
_MESSAGE_LENGTH_MAX = 2048
_METADATA_MAX = 32


class Status(StrEnum):
    """How it is with a workflow or step; the contract's names in lower case."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARTIALLY_COMPLETED = "partially_completed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {Status.PENDING, Status.RUNNING, Status.INTERRUPTED}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something did not succeed."""

    reason: str
    """Empty: what a function of the caller raised."""
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: ServiceError) -> Failure:
        """Of an error, within bounds."""
        known = list(error.metadata.items())[:_METADATA_MAX]
        metadata = {name: told[:_MESSAGE_LENGTH_MAX] for name, told in known}
        return cls(reason_name(error.reason), error.message[:_MESSAGE_LENGTH_MAX], metadata)

    def error(self) -> ServiceError:
        """The same as an error; SCRIPT_FAILED where it has no reason of the contract."""
        reason = reason_named(self.reason, Reason.SCRIPT_FAILED)
        return ServiceError(reason, self.message, **self.metadata)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of one step."""

    path: str
    name: str
    kind: str
    status: Status
    output: Any = None
    failure: Failure | None = None
    attempts: int = 0
    start_ns: int = 0
    end_ns: int = 0
    spent: Spent = NOTHING_SPENT
    input: Any = None
    is_compensation: bool = False
    shared: Mapping[str, Any] = field(default_factory=dict)
    """What it put into shared data."""
    receipt: str = ""
    """While it goes on: what its execution is known by on the machine that makes it."""

    @property
    def success(self) -> bool:
        """Whether it did what it should."""
        return self.status is Status.COMPLETED

    def told(self) -> Mapping[str, Any]:
        """As references see it: without an output where it gave none."""
        told: dict[str, Any] = {
            "success": self.success,
            "status": self.status.value,
            "attempts": self.attempts,
        }
        if self.failure is not None:
            told["error"] = self.failure.message
        if self.status in {Status.COMPLETED, Status.PARTIALLY_COMPLETED}:
            told["output"] = self.output
        return told


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """What came of a workflow."""

    execution_id: str
    name: str
    kind: str
    status: Status
    output: Any = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[StepResult] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    failure: Failure | None = None
    spent: Spent = NOTHING_SPENT
    elapsed_s: float = 0.0
    shared_data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether all went well."""
        return self.status is Status.COMPLETED
