"""What is kept of runs and of registered workflows, as sealed text that people can read.

A record says with whose permissions a run goes on, and what its steps have given. Whoever may write
state could write one too, so each carries a digest under the deployment's key, over its place as
well: nothing that this process has not written is believed, nor what it has written elsewhere.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from blake3 import blake3

from services.common.context import CallContext
from services.common.policy import Policy
from services.runtime.money.model import NOTHING_SPENT, Spent
from services.runtime.workflows.results import (
    Failure,
    Status,
    StepResult,
    WorkflowResult,
)

R = TypeVar("R")
_BYTES, _ESCAPED = "$bytes", "$map"
KEY_BYTES_MAX = 200
"""Of a path in a key; a longer one is there by its digest."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """How a run began: all that going on with it needs."""

    execution_id: str
    workflow: bytes
    """A serialised Workflow of the contract."""
    inputs: Any
    start_ns: int
    principal: str
    permissions: tuple[str, ...]
    name: str = ""
    kind: str = ""
    session_id: str = ""
    any_tenant: bool = False
    row_filter: bytes = b""
    roles: tuple[str, ...] = ()
    policy: Policy = ()
    request_id: str = ""
    """Of the call that began it, for logs and events."""
    needs_caller: bool = False
    """Whether whoever began it does a part of it, such as functions: nobody else can go on then."""
    executes_tools: bool = False

    def context(self, tenant: str) -> CallContext:
        """As whom it acts when it is gone on with by itself."""
        return CallContext(
            tenant=tenant,
            principal=self.principal,
            permissions=self.permissions,
            any_tenant=self.any_tenant,
            row_filter=self.row_filter,
            roles=self.roles,
            policy=self.policy,
            session=self.session_id,
            request_id=self.request_id,
        )


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """Which process a run is in. Every write of the run asks for this very lease."""

    holder: str
    resumed_count: int = 0
    by_itself_count: int = 0
    """How often without being asked to."""


@dataclass(frozen=True, slots=True)
class EndRecord:
    """What came of a run."""

    status: Status
    end_ns: int
    output: Any = None
    outputs: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    failure: Failure | None = None
    spent: Spent = NOTHING_SPENT
    elapsed_s: float = 0.0
    shared_data: Any = None
    left_out: tuple[str, ...] = ()
    """Fields that were too large to be kept."""


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in the list of its tenant's."""

    execution_id: str
    name: str
    kind: str
    status: Status
    start_ns: int
    end_ns: int = 0
    session_id: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class RegisteredRecord:
    """A workflow that is registered."""

    workflow: bytes
    """A serialised Workflow of the contract."""
    create_ns: int
    update_ns: int


class _Sealed(msgspec.Struct):
    seal: str
    record: msgspec.Raw


class RecordSeal:
    """Seals records with one key, each to its tenant and place."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, place: Sequence[str], record: object) -> str:
        """The text of a record; `place` is its tenant, scope and key."""
        body = msgspec.json.encode(_packed(record))
        text = msgspec.json.encode(_Sealed(self._tag(place, body), msgspec.Raw(body)))
        return text.decode()

    def open(self, place: Sequence[str], text: str, kind: type[R]) -> R | None:
        """The record in a text; None where nobody of us has written it there."""
        try:
            sealed = msgspec.json.decode(text, type=_Sealed)
            body = bytes(sealed.record)
            if not hmac.compare_digest(sealed.seal, self._tag(place, body)):
                return None
            return _unpacked(body, kind)
        except (msgspec.DecodeError, ValueError):
            return None

    def _tag(self, place: Sequence[str], body: bytes) -> str:
        head = msgspec.json.encode(list(place))
        return blake3(len(head).to_bytes(8, "big") + head + body, key=self._key).hexdigest()


def step_key(path: str) -> str:
    """Key of a step's record."""
    if len(path.encode()) <= KEY_BYTES_MAX:
        return f"step:{path}"
    return f"step:{blake3(path.encode()).hexdigest()}"


def end_of(result: WorkflowResult, end_ns: int) -> EndRecord:
    """The end of a run."""
    return EndRecord(
        status=result.status,
        end_ns=end_ns,
        output=result.output,
        outputs=result.outputs,
        facts=result.facts,
        summary=result.summary,
        failure=result.failure,
        spent=result.spent,
        elapsed_s=result.elapsed_s,
        shared_data=result.shared_data,
    )


def result_of(
    record: RunRecord, end: EndRecord | None, steps: Sequence[StepResult]
) -> WorkflowResult:
    """What is known of a run; one without an end goes on, or was lost."""
    if end is None:
        end = EndRecord(Status.RUNNING, 0)
    return WorkflowResult(
        execution_id=record.execution_id,
        name=record.name,
        kind=record.kind,
        status=end.status,
        output=end.output,
        outputs=end.outputs or {},
        steps=tuple(steps),
        facts=end.facts,
        summary=end.summary,
        failure=end.failure,
        spent=end.spent,
        elapsed_s=end.elapsed_s,
        shared_data=end.shared_data or {},
    )


# Bytes in JSON


def _packed(record: object) -> Any:
    """A record as plain values, bytes among them marked as such."""
    return _marked(msgspec.to_builtins(record, builtin_types=(bytes,)))


def _marked(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        marked = {key: _marked(entry) for key, entry in value.items()}
        return {_ESCAPED: marked} if len(value) == 1 and {_BYTES, _ESCAPED} & set(value) else marked
    if isinstance(value, list | tuple):
        return [_marked(entry) for entry in value]
    return value


def _unpacked(body: bytes, kind: type[R]) -> R:
    return msgspec.convert(_unmarked(msgspec.json.decode(body)), kind, builtin_types=(bytes,))


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        if isinstance(told := value.get(_BYTES), str):
            return base64.b64decode(told)
        if isinstance(escaped := value.get(_ESCAPED), dict):
            return {key: _unmarked(entry) for key, entry in escaped.items()}
    return {key: _unmarked(entry) for key, entry in value.items()}
