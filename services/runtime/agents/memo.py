"""What an execution of an agent has done already, where somebody keeps it.

A workflow does: where its process is lost in mid agent, the model is not asked again for what it
has said, and its tools are not called again. Elsewhere nothing is kept, and nothing is known.
"""

from __future__ import annotations

from llmspell.v1 import execution_pb2

from services.runtime.claims import Claim
from services.runtime.money.model import Spent
from services.runtime.providers.model import ChatAnswer
from services.runtime.runs import Call


class Memo:
    """Of one place in an execution; this one keeps nothing."""

    key = ""
    """By which the place is known, unlike any other; empty: by nothing."""

    def within(self, name: str) -> Memo:
        """Of a place in this one; the same thing must be under the same name each time."""
        del name
        return self

    def answer(self, number: int) -> tuple[ChatAnswer, Spent] | None:
        """What the model said the so-manieth time it was asked here, and what that took.

        Raises:
            ServiceError: where that was too much to be kept, and tools were called for it.
        """
        del number
        return None

    def keep_answer(self, number: int, answer: ChatAnswer, spent: Spent) -> None:
        """Keep it; it is safe before a tool begins that changes anything."""

    def called(self) -> tuple[str, execution_pb2.AgentToolCall] | None:
        """What came of the call that is made here: what the model was told, and what is told."""
        return None

    def keep_called(self, text: str, call: execution_pb2.AgentToolCall) -> None:
        """Keep it."""

    async def claim(self, call: Call) -> Claim | None:
        """How a tool is called here so that it is executed once; None: as often as it is called.

        Raises:
            ServiceError: where nobody knows whether a process now lost has executed it.
        """
        del call
        return None


NO_MEMO = Memo()
