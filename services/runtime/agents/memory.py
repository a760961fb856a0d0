"""Memory by meaning: passages that fit are told to the model; what was said is stored after."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from llmspell.v1 import agent_pb2, execution_pb2

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError, field_invalid, reason_name
from services.common.limits import AGENT_PASSAGES, AGENT_PASSAGES_MAX
from services.common.values import fill_map
from services.runtime.agents.situation import Situation
from services.runtime.bridge import error_from
from services.runtime.runs import Call

RETRIEVE = "llmspell.v1.RagService/RetrieveDocuments"
INGEST = "llmspell.v1.RagService/IngestDocuments"
_REFERENCE = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]", re.ASCII)
_QUERY_CHARACTERS_MAX = 8000
_EXCHANGE_CHARACTERS_MAX = 16_000
_INSTRUCTION = (
    "These passages were found in memory. Where your answer uses one, name its number in brackets, "
    "such as [1]. Say nothing of passages that do not help."
)


class Memory:
    """Of one agent in one execution."""

    def __init__(self, spec: agent_pb2.AgentSpec, situation: Situation, clock: Clock) -> None:
        """Look at what the agent says of its memory.

        Raises:
            ServiceError: FIELD_INVALID.
        """
        memory = spec.memory
        if not 0 <= memory.limit <= AGENT_PASSAGES_MAX:
            raise field_invalid("agent.spec.memory.limit", f"must be 0 to {AGENT_PASSAGES_MAX}")
        session = situation.caller.session_id
        own = f"session:{session}" if session else f"agent:{spec.name}"
        self._clock = clock
        self._situation = situation
        self._agent = spec.name
        self._given = memory
        self.scope = memory.scope or own
        self.collection = memory.collection or f"{spec.name}-memory"

    async def recall(self, text: str) -> list[execution_pb2.Citation]:
        """Passages near to a text, numbered from 1; none where nothing is stored yet.

        Raises:
            ServiceError: PERMISSION_DENIED where the caller may not read documents, and what the
                service says.
        """
        asked: dict[str, Any] = {
            "scope": self.scope,
            "collection_id": self.collection,
            "text": text[:_QUERY_CHARACTERS_MAX],
            "limit": self._given.limit or AGENT_PASSAGES,
        }
        if self._given.min_score:
            asked["score_threshold"] = self._given.min_score
        reply = await self._situation.caller.call(Call(RETRIEVE, None, asked))
        if not reply.ok:
            error = error_from(reply.tree)
            if error.reason == Reason.COLLECTION_NOT_FOUND and not self._given.read_only:
                return []
            raise error
        tree: Any = reply.tree
        return [self._citation(n, one) for n, one in enumerate(tree.get("passages", ()), start=1)]

    async def store(self, asked: str, answered: str) -> str:
        """Keep an exchange; in words why not, where it fails. The answer itself is not lost so."""
        if self._given.read_only:
            return ""
        now_s, key = self._clock.now_ns() / 1e9, self._situation.memo.key
        text = f"User: {asked}\nAgent: {answered}"[:_EXCHANGE_CHARACTERS_MAX]
        digest = hashlib.sha256(f"{now_s}\0{text}".encode()).hexdigest()[:16]
        # One that is stored again, after its process was lost, takes the place of the first.
        name = key or f"{int(now_s * 1000)}-{digest}"
        document = {
            "document_id": f"exchange-{name}",
            "text": text,
            "metadata": {"agent": self._agent, "kind": "exchange"},
            "event_time": now_s,
        }
        request = {"scope": self.scope, "collection_id": self.collection, "documents": [document]}
        try:
            reply = await self._situation.caller.call(Call(INGEST, None, request))
        except ServiceError as error:
            return f"{reason_name(error.reason)}: {error.message}"
        tree: Any = reply.tree
        return "" if reply.ok else f"{tree.get('reason')}: {tree.get('message')}"

    def _citation(self, number: int, passage: Any) -> execution_pb2.Citation:
        citation = execution_pb2.Citation(
            number=number,
            collection=self.collection,
            source_id=str(passage.get("document_id", "")),
            text=str(passage.get("text", "")),
            score=float(passage.get("score", 0.0)),
        )
        fill_map(citation.metadata.fields, passage.get("metadata") or {})
        return citation


def told_passages(citations: Sequence[execution_pb2.Citation]) -> str:
    """Passages as the model is told them."""
    passages = "\n".join(f"[{one.number}] {one.text}" for one in citations)
    return f"{_INSTRUCTION}\n\n{passages}"


def mark_cited(citations: Sequence[execution_pb2.Citation], answer: str) -> None:
    """Note which passages an answer refers to."""
    found = {
        int(number)
        for group in _REFERENCE.findall(answer)
        for number in group.replace(" ", "").split(",")
    }
    for citation in citations:
        citation.cited = citation.number in found
