"""The journal of one run in state: what its steps gave, safe before the next effect.

Before a step that changes something begins, everything before it is on disk, together with the
fact that it begins. What is harmless to do again is written in the background meanwhile. So a run
costs one write for each step with an effect, and steps beside each other share it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from services.common.errors import Reason, ServiceError
from services.common.limits import BATCH_OPERATIONS_MAX, MIB
from services.runtime.workflows.records import (
    EndRecord,
    LeaseRecord,
    ListedRun,
    RunRecord,
    step_key,
)
from services.runtime.workflows.results import MEMO, Status, StepResult
from services.runtime.workflows.shelf import (
    RUNS_SCOPE,
    Entry,
    Shelf,
    absent,
    at_revision,
    listed_key,
    run_scope,
)

log = logging.getLogger(__name__)

RUN, LEASE, STATE = "run", "lease", "state"
FINAL_OUTPUT, ERROR = "final_output", "error"
_GATHER_S = 0.02
"""What is harmless to do again travels together for so long."""
_BATCH_BYTES = 3 * MIB
_BATCH_ENTRIES = BATCH_OPERATIONS_MAX - 8
_VALUE_BYTES = MIB - 16 * 1024
_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)
"""While state is away: a process that was killed is back by then."""
_AWAY = {Reason.SERVICE_UNAVAILABLE, Reason.DEADLINE_EXCEEDED}


class RunLostError(ServiceError):
    """Another process has taken the run over: this one must not do anything more for it."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            Reason.WORKFLOW_NOT_RESUMABLE,
            f"Another process goes on with {execution_id}.",
            execution_id=execution_id,
        )


class RunJournal:
    """What is kept of one run that goes on."""

    def __init__(
        self,
        shelf: Shelf,
        tenant: str,
        record: RunRecord,
        *,
        lease_revision: int,
        steps: Iterable[StepResult] = (),
        on_kept: Callable[[int], Awaitable[None]] | None = None,
        on_needless: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Go on with what is kept.

        Args:
            shelf: Where it is kept.
            tenant: Whose.
            record: The run.
            lease_revision: Of the lease that this process has.
            steps: What earlier processes have kept.
            on_kept: Is told after each write how many steps it held.
            on_needless: Is told receipts of executions of which all is kept.
        """
        self._shelf = shelf
        self._tenant = tenant
        self._record = record
        self._scope = run_scope(record.execution_id)
        self._check = at_revision(self._scope, LEASE, lease_revision)
        self._ended: dict[str, StepResult] = {}
        self._begun: dict[str, StepResult] = {}
        self._receipts: dict[str, str] = {}
        self._needless: list[str] = []
        self._queue: dict[str, StepResult] = {}
        self._lock = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._on_kept = on_kept
        self._on_needless = on_needless
        self.is_lost = False
        for step in steps:
            if step.status is Status.RUNNING:
                self._begun[step.path] = step
            else:
                self._ended[step.path] = step

    # What the engine asks

    def ended(self, path: str) -> StepResult | None:
        """What came of a step earlier."""
        return self._ended.get(path)

    def begun(self, path: str) -> StepResult | None:
        """How a process that was lost began it; None: it was not, or was begun here since."""
        return self._begun.get(path)

    async def begin(self, result: StepResult) -> None:
        """Keep that a step begins, and all before it.

        Raises:
            ServiceError: where it cannot be kept; `RunLostError` where another process has the run.
        """
        self._queue[result.path] = replace(result, attempts=max(result.attempts, 1))
        self._let_go(result.path, result.receipt)
        await self.flush()
        self._begun.pop(result.path, None)  # it is this process's own from now on

    def keep(self, result: StepResult) -> None:
        """Keep what came of a step; soon, and before the next effect."""
        self._ended[result.path] = result
        self._queue[result.path] = result
        self._begun.pop(result.path, None)
        self._let_go(result.path, "")
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon())

    def _let_go(self, path: str, receipt: str) -> None:
        """From now on a step has this receipt; the one before is needless once that is kept."""
        before = self._receipts.pop(path, "")
        if before and before != receipt:
            self._needless.append(before)
        if receipt:
            self._receipts[path] = receipt

    def forget_memos(self, prefix: str) -> None:
        """What was kept within a step that has ended is not asked for again."""
        for path in [path for path in self._ended if path.startswith(prefix)]:
            del self._ended[path]

    def forget_failures(self, prefix: str) -> None:
        """What did not succeed under a path is done again."""
        for path, result in list(self._ended.items()):
            if path.startswith(prefix) and not result.success:
                del self._ended[path]

    # Writing

    async def flush(self) -> None:
        """Write what waits; it is safe when this returns.

        Raises:
            ServiceError: as `begin`.
        """
        async with self._lock:
            count = len(self._needless)  # of what waits to be written now
            while self._queue:
                await self._write_some()
            needless, self._needless = self._needless[:count], self._needless[count:]
        if needless and self._on_needless is not None:
            self._on_needless(needless)

    async def end(self, end: EndRecord) -> None:
        """Keep what came of the run, with the steps that wait.

        Raises:
            ServiceError: as `begin`.
        """
        await self.close()
        await self.flush()
        fitting = self._fitting(end)
        entries = [
            Entry(self._scope, STATE, fitting),
            Entry(RUNS_SCOPE, self.listed_key, self.listed(fitting)),
        ]
        if fitting.failure is not None:
            entries.append(Entry(self._scope, ERROR, fitting.failure))
        elif "output" not in fitting.left_out:
            entries.append(Entry(self._scope, FINAL_OUTPUT, {"output": fitting.output}))
        await self._written(entries)

    async def close(self) -> None:
        """Stop to write in the background."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    @property
    def listed_key(self) -> str:
        """Key of the run in the list of its tenant's."""
        return listed_key(self._record.execution_id, self._record.start_ns)

    def listed(self, end: EndRecord | None = None) -> ListedRun:
        """The run in the list."""
        return listed_run(self._record, end)

    async def _write_soon(self) -> None:
        await asyncio.sleep(_GATHER_S)
        try:
            await self.flush()
        except ServiceError as error:  # the next step that has an effect is told
            log.warning("steps not kept yet", extra={"reason": error.message})

    async def _write_some(self) -> None:
        """The oldest that wait, as many as one batch takes."""
        taken: list[StepResult] = []
        entries: list[Entry] = []
        size = 0
        for result in self._queue.values():
            entry = self._entry(result)
            size += self._shelf.size_of(self._tenant, entry)
            if entries and (size > _BATCH_BYTES or len(entries) == _BATCH_ENTRIES):
                break
            entries.append(entry)
            taken.append(result)
        await self._written(entries)
        for result in taken:
            if self._queue.get(result.path) is result:
                del self._queue[result.path]
        if self._on_kept is not None:
            await self._on_kept(sum(result.kind != MEMO for result in taken))

    def _entry(self, result: StepResult) -> Entry:
        """One step; where it is too large to be kept with what it was given, without that."""
        entry = Entry(self._scope, step_key(result.path), result)
        if result.input is not None and self._is_too_large(entry):
            entry = replace(entry, record=replace(result, input=None))
        return entry

    def _is_too_large(self, entry: Entry) -> bool:
        return self._shelf.size_of(self._tenant, entry) > _VALUE_BYTES

    async def _written(self, entries: list[Entry]) -> None:
        if self.is_lost:
            raise RunLostError(self._record.execution_id)
        for pause_s in (*_PAUSES_S, None):
            try:
                await self._shelf.write(self._tenant, entries, checks=[self._check])
            except ServiceError as error:
                if error.reason == Reason.REVISION_MISMATCH:
                    self.is_lost = True
                    raise RunLostError(self._record.execution_id) from None
                if error.reason not in _AWAY or pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return

    def _fitting(self, end: EndRecord) -> EndRecord:
        """As much of an end as one item holds."""
        emptied: dict[str, Any] = {
            "shared_data": None,
            "outputs": None,
            "output": None,
            "facts": {},
        }
        for name, empty in emptied.items():
            if not self._is_too_large(Entry(self._scope, STATE, end)):
                break
            left_out = (*end.left_out, name)
            end = replace(end, **{name: empty}, left_out=left_out)
        return end


def listed_run(record: RunRecord, end: EndRecord | None = None) -> ListedRun:
    """A run as its tenant's list has it."""
    return ListedRun(
        execution_id=record.execution_id,
        name=record.name,
        kind=record.kind,
        status=end.status if end else Status.RUNNING,
        start_ns=record.start_ns,
        end_ns=end.end_ns if end else 0,
        session_id=record.session_id,
        summary=end.summary if end else "",
    )


async def begin_run(shelf: Shelf, tenant: str, record: RunRecord, lease: LeaseRecord) -> int:
    """Keep that a run begins; the revision of its lease.

    Raises:
        ServiceError: REVISION_MISMATCH where there is a run of this id.
    """
    scope = run_scope(record.execution_id)
    entries = [
        Entry(scope, RUN, record),
        Entry(scope, LEASE, lease),
        Entry(RUNS_SCOPE, listed_key(record.execution_id, record.start_ns), listed_run(record)),
    ]
    return await shelf.write(tenant, entries, checks=[absent(scope, RUN)])


async def take_over(
    shelf: Shelf, tenant: str, execution_id: str, lease: LeaseRecord, revision: int
) -> int:
    """Make a run this process's own; the revision of its new lease.

    Raises:
        ServiceError: `RunLostError` where another process was quicker.
    """
    scope = run_scope(execution_id)
    check = at_revision(scope, LEASE, revision)
    try:
        return await shelf.write(tenant, [Entry(scope, LEASE, lease)], checks=[check])
    except ServiceError as error:
        if error.reason == Reason.REVISION_MISMATCH:
            raise RunLostError(execution_id) from None
        raise
