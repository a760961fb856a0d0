"""What an agent of a workflow's step has done, in the journal of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from llmspell.v1 import execution_pb2

from services.common.clock import Clock
from services.common.limits import WORKFLOW_MEMO_BYTES_MAX
from services.runtime.agents.memo import Memo
from services.runtime.claims import Claim, Memory
from services.runtime.money.model import NOTHING_SPENT, Spent
from services.runtime.providers.model import ChatAnswer, Finish, ToolUse
from services.runtime.runs import Call
from services.runtime.workflows.results import MEMO, Status, StepResult
from services.runtime.workflows.tries import is_remembered, step_unknown

_LEFT_OUT = "[left out]"


class KeepsMemos(Protocol):
    """What is kept of a run; `kept.RunJournal` keeps it."""

    def ended(self, path: str) -> StepResult | None:
        """What came of something earlier."""

    def begun(self, path: str) -> StepResult | None:
        """How a process that was lost began it."""

    async def begin(self, result: StepResult) -> None:
        """Keep that it begins, and all before it."""

    def keep(self, result: StepResult) -> None:
        """Keep what came of it."""

    def forget_memos(self, prefix: str) -> None:
        """What was kept within a step that has ended is not asked for again."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What one step's memo goes by."""

    journal: KeepsMemos
    clock: Clock
    memory_of: Callable[[Call], Memory]
    new_receipt: Callable[[], str]
    request_id: Callable[[str], str]
    is_left: Callable[[], bool]
    step: str
    """The step's path."""
    may_repeat: bool
    """Whether its author allows to do again what nobody knows of."""


class StepMemo(Memo):
    """Of one try of a step, or of a place in it."""

    def __init__(self, around: Surroundings, path: str) -> None:
        """`path`: unlike that of any other try."""
        self._around = around
        self._path = path
        self.key = around.request_id(path)

    def within(self, name: str) -> Memo:
        """Of a place in this one."""
        return StepMemo(self._around, f"{self._path}/{name}")

    def answer(self, number: int) -> tuple[ChatAnswer, Spent] | None:
        """What the model said."""
        known = self._around.journal.ended(f"{self._path}?{number}")
        if known is None:
            return None
        if known.output is None:
            raise step_unknown(self._around.step)
        return _answer_of(known.output), known.spent

    def keep_answer(self, number: int, answer: ChatAnswer, spent: Spent) -> None:
        """Keep it; one that is too large and asks for nothing is asked for again."""
        told: Any = _told(answer)
        if len(msgspec.json.encode(told)) > WORKFLOW_MEMO_BYTES_MAX:
            if not answer.tool_uses:
                return
            told = None
        self._keep(f"{self._path}?{number}", told, spent)

    def called(self) -> tuple[str, execution_pb2.AgentToolCall] | None:
        """What came of the call here."""
        known = self._around.journal.ended(self._path)
        if known is None:
            return None
        return known.output["text"], execution_pb2.AgentToolCall.FromString(known.output["call"])

    def keep_called(self, text: str, call: execution_pb2.AgentToolCall) -> None:
        """Keep it; of much, what the model was told."""
        kept = execution_pb2.AgentToolCall()
        kept.CopyFrom(call)
        if kept.ByteSize() > WORKFLOW_MEMO_BYTES_MAX:
            kept.arguments.Clear()
            kept.result.string_value = _LEFT_OUT
        self._keep(self._path, {"text": text, "call": kept.SerializeToString()})

    async def claim(self, call: Call) -> Claim | None:
        """How a tool is called here once."""
        around = self._around
        memory, lost = around.memory_of(call), around.journal.begun(self._path)
        if memory is Memory.NEEDLESS:
            return None
        unknown = step_unknown(around.step)
        receipt = lost.receipt if lost is not None else ""
        if lost is not None and not around.may_repeat and not self._is_asked(memory, lost):
            raise unknown
        if not receipt and memory is Memory.RECEIPT:
            receipt, lost = around.new_receipt(), None
        since_ns = lost.start_ns if lost is not None else around.clock.now_ns()
        begun = StepResult(self._path, "", MEMO, Status.RUNNING, start_ns=since_ns, receipt=receipt)
        await around.journal.begin(begun)
        return Claim(
            unknown=unknown,
            request_id=around.request_id(self._path),
            receipt=receipt,
            begun_ns=lost.start_ns if lost is not None else None,
            may_repeat=around.may_repeat,
            is_left=around.is_left,
        )

    def _is_asked(self, memory: Memory, lost: StepResult) -> bool:
        """Whether somebody knows what became of the call that was lost."""
        if memory is Memory.RECEIPT:
            return bool(lost.receipt)
        is_young = is_remembered(lost.start_ns, self._around.clock.now_ns())
        return memory is Memory.REQUEST_IDS and is_young

    def _keep(self, path: str, told: Any, spent: Spent = NOTHING_SPENT) -> None:
        now_ns = self._around.clock.now_ns()
        self._around.journal.keep(
            StepResult(path, "", MEMO, Status.COMPLETED, told, start_ns=now_ns, spent=spent)
        )


def _told(answer: ChatAnswer) -> dict[str, Any]:
    uses = [[use.call_id, use.name, use.arguments] for use in answer.tool_uses]
    return {"text": answer.text, "uses": uses, "finish": answer.finish.value}


def _answer_of(told: Any) -> ChatAnswer:
    uses = [ToolUse(call_id=one, name=name, arguments=given) for one, name, given in told["uses"]]
    return ChatAnswer(text=told["text"], tool_uses=tuple(uses), finish=Finish(told["finish"]))
