"""What is kept of a run, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.common.errors import Reason, ServiceError
from services.runtime.workflows.kept import LEASE, RUN, STATE
from services.runtime.workflows.records import EndRecord, LeaseRecord, RunRecord, result_of
from services.runtime.workflows.results import Status, StepResult, WorkflowResult
from services.runtime.workflows.shelf import Shelf, run_scope

_KINDS: dict[str, type[Any]] = {RUN: RunRecord, LEASE: LeaseRecord, STATE: EndRecord}


@dataclass(frozen=True, slots=True)
class Past:
    """A run as it is kept."""

    record: RunRecord
    lease: LeaseRecord
    lease_revision: int
    end: EndRecord | None
    steps: Sequence[StepResult]
    """In the order in which they began; one that was begun and has no end is running."""

    def result(self, *, goes_on: bool) -> WorkflowResult:
        """What is known of it; `goes_on`: whether a process is at it."""
        result = result_of(self.record, self.end, self.steps)
        if self.end is None and not goes_on:
            return replace(result, status=Status.INTERRUPTED)
        return result


def _kind_of(key: str) -> type[Any] | None:
    return StepResult if key.startswith("step:") else _KINDS.get(key)


async def read_past(shelf: Shelf, tenant: str, execution_id: str) -> Past | None:
    """What is kept of a run; None where nothing is."""
    records: dict[str, Any] = {}
    steps: list[StepResult] = []
    lease_revision = 0
    async for found in shelf.all(tenant, run_scope(execution_id), _kind_of):
        if isinstance(found.record, StepResult):
            steps.append(found.record)
            continue
        records[found.key] = found.record
        if found.key == LEASE:
            lease_revision = found.revision
    if RUN not in records or LEASE not in records:
        return None
    return Past(
        record=records[RUN],
        lease=records[LEASE],
        lease_revision=lease_revision,
        end=records.get(STATE),
        steps=sorted(steps, key=lambda step: step.start_ns),
    )


def run_not_found(execution_id: str) -> ServiceError:
    """Nothing is kept of it."""
    return ServiceError(
        Reason.WORKFLOW_RUN_NOT_FOUND,
        f"Nothing is kept of a workflow run {execution_id[:100]!r}.",
        execution_id=execution_id[:100],
    )
