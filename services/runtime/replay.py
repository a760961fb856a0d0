"""A run that is made again: its calls are answered from its journal, and what differs is told."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from llmspell.v1 import run_pb2

from services.common.errors import Reason, ServiceError, reason_name
from services.common.redaction import redact_text
from services.runtime.bridge import error_tree
from services.runtime.journal import METHOD_LENGTH_MAX, care_of, packed_request, told_call
from services.runtime.past import Past
from services.runtime.readings import Readings
from services.runtime.runs import Call, CallHandler, Reply, pack_reply

Mode = run_pb2.ReplayMode
STRICT = (Mode.REPLAY_MODE_EXACT, Mode.REPLAY_MODE_DEBUG)
"""Modes that the first difference ends."""
_AROUND = 40
"""Bytes of output that are shown before a difference and from it on."""
_OUTSIDE = {
    reason_name(reason)
    for reason in (
        Reason.RUN_TIME_LIMIT,
        Reason.RUN_CPU_LIMIT,
        Reason.RUN_MEMORY_LIMIT,
        Reason.RUN_WORKER_LOST,
    )
}
"""Ends that come at a moment that nothing in the script decides."""


class Stopped(Exception):  # noqa: N818  (no error: it was asked for)
    """The replay has come to where it was to be stopped, or to where it is of no more use."""


@dataclass(frozen=True, slots=True)
class Change:
    """An answer to give instead of the recorded one, or a part of it."""

    number: int
    """Of the call; 0: any."""
    method: str
    """Without the service; empty: any."""
    path: Sequence[str]
    """Which part; empty: all of it."""
    reply: Reply
    """What is given, or the part."""

    def is_for(self, number: int, method: str) -> bool:
        """Whether it is for this call."""
        name = method.rpartition("/")[2]
        return self.number in {0, number} and self.method in {"", name, method}

    def made_to(self, reply: Reply) -> Reply:
        """The reply with the part replaced; a failure has no parts."""
        if not self.path:
            return self.reply
        if not reply.ok or not isinstance(reply.tree, dict):
            return reply
        return Reply(ok=True, tree=_with(reply.tree, self.path, self.reply.tree))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is to be made again."""

    mode: int = Mode.REPLAY_MODE_EXACT
    changes: Sequence[Change] = ()
    """Answers to give instead."""
    stop_at: int = 0
    """Stop at this call."""


class Replay:
    """Answers one run from its past, and compares."""

    def __init__(
        self, past: Past, plan: Plan, readings: Readings, ask: CallHandler | None = None
    ) -> None:
        """Compare a run with its past.

        Args:
            past: What was kept.
            plan: How.
            readings: Of what the journal does not tell, where that is no difference.
            ask: Makes calls that change nothing, likewise.
        """
        self.past = past
        self.plan = plan
        self.difference: run_pb2.ReplayDifference | None = None
        self.ended_early = False
        """Whether it has come to where the run was ended from outside."""
        self.stopped_at: Call | None = None
        self.answered = self.asked = self.refused = self.printed = self.number = 0
        self._readings = readings
        self._ask = ask
        self._readings_count = 0
        self._left: dict[tuple[str, bytes], deque[int]] = defaultdict(deque)
        for position, call in enumerate(past.calls):
            self._left[call.method, call.request].append(position)

    @property
    def is_strict(self) -> bool:
        """Whether the first difference ends it."""
        return self.plan.mode in STRICT

    @property
    def is_open(self) -> bool:
        """Whether the run was ended from outside, so that there is no end to compare with."""
        end = self.past.end
        ended = (run_pb2.RUN_STATUS_CANCELLED, run_pb2.RUN_STATUS_INTERRUPTED)
        return end is None or self.past.is_cut or end.status in ended or end.reason in _OUTSIDE

    async def __call__(self, call: Call) -> Reply:
        """The answer to a call.

        Raises:
            Stopped: where the replay is over.
        """
        self.number += 1
        if self.number == self.plan.stop_at:
            self.stopped_at = call
            raise Stopped
        reply = await self._answer(call)
        changes = [each for each in self.plan.changes if each.is_for(self.number, call.method)]
        if not changes:
            return reply
        if reply.packed:
            ok = not reply.packed[0]
            reply = Reply(ok=ok, tree=msgspec.msgpack.decode(reply.packed[1:]))
        for change in changes:
            reply = change.made_to(reply)
        return reply

    async def _answer(self, call: Call) -> Reply:
        name, request = call.method[:METHOD_LENGTH_MAX], packed_request(call)
        if self._is_recorded(name, request):
            return self._give(self.number - 1, name, request)
        self._differ_in_call(name, request)
        left = self._left.get((name, request))
        if left:
            return self._give(left[0], name, request)
        return await self._make(call, name)

    def read(self, asked: bytes) -> int:
        """What is told of time or memory.

        Raises:
            Stopped: where the replay is over.
        """
        number, self._readings_count = self._readings_count, self._readings_count + 1
        past = self.past
        if number < len(past.told) and past.asked[number] == asked[0]:
            return past.told[number]
        if number == len(past.told) and self.is_open and self.difference is None:
            self.ended_early = True
        elif self.difference is None:
            self.differ("reading", recorded=_reading(past, number), replayed=_NAMES[asked[:1]])
        if self.is_strict:
            raise Stopped
        return self._readings(asked)

    def take_output(self, data: bytes) -> None:
        """Compare what is printed.

        Raises:
            Stopped: where the replay is over.
        """
        start = self.printed
        self.printed += len(data)
        recorded = bytes(self.past.output[start : self.printed])
        if recorded == data or self.difference is not None:
            return
        same = next(
            (at for at, pair in enumerate(zip(recorded, data, strict=False)) if pair[0] != pair[1]),
            len(recorded),
        )
        if same == len(recorded) and self.is_open:
            self.ended_early = True
        else:
            self._differ_in_output(start + same, data[:same], data[same:])
        if self.is_strict:
            raise Stopped

    def take_result(self, json: str) -> None:
        """Compare a good end."""
        end = self.past.end
        if not self._is_complete() or end is None or self.is_open:
            return
        if end.status != run_pb2.RUN_STATUS_SUCCEEDED:
            self.differ("end", recorded=f"{end.reason}: {end.message}", replayed="it ended well")
        elif end.json != json:
            self.differ("result", recorded=end.json, replayed=json)

    def take_failure(self, error: ServiceError) -> None:
        """Compare a bad end."""
        end = self.past.end
        if not self._is_complete() or end is None or self.is_open:
            return
        told = error_tree(error)
        replayed = f"{told['reason']}: {told['message']}"
        recorded = f"{end.reason}: {end.message}"
        if end.status == run_pb2.RUN_STATUS_SUCCEEDED:
            self.differ("end", recorded="it ended well", replayed=replayed)
        elif recorded != replayed or dict(end.metadata) != told["metadata"]:
            more = (
                (str(dict(end.metadata)), str(told["metadata"]))
                if recorded == replayed
                else ("", "")
            )
            self.differ("end", recorded=recorded + more[0], replayed=replayed + more[1])

    def differ(self, what: str, *, recorded: str, replayed: str, **place: int) -> None:
        """Note the first difference."""
        if self.difference is None:
            self.difference = run_pb2.ReplayDifference(
                what=what,
                recorded=redact_text(recorded),
                replayed=redact_text(replayed),
                **place,
            )

    def _is_complete(self) -> bool:
        """Whether all that was printed and asked came again; else that is the difference."""
        if self.difference is not None or self.is_open:
            return self.difference is None
        if self.printed < len(self.past.output):
            self._differ_in_output(self.printed, b"", b"")
        elif self.number < len(self.past.calls):
            call = self.past.calls[self.number]
            recorded = told_call(call.method, call.request)
            self.differ("call", recorded=recorded, replayed="", call_number=self.number + 1)
        return self.difference is None

    def _is_recorded(self, name: str, request: bytes) -> bool:
        past = self.past
        if self.number > len(past.calls):
            return False
        call = past.calls[self.number - 1]
        return self.difference is None and (call.method, call.request) == (name, request)

    def _give(self, position: int, name: str, request: bytes) -> Reply:
        left = self._left[name, request]
        if position in left:
            left.remove(position)
        self.answered += 1
        payload = self.past.calls[position].payload
        return Reply(ok=not payload[0], tree=None, packed=payload)

    def _differ_in_call(self, name: str, request: bytes) -> None:
        past, replayed = self.past, told_call(name, request)
        if self.number <= len(past.calls):
            call = past.calls[self.number - 1]
            recorded = told_call(call.method, call.request)
            self.differ("call", recorded=recorded, replayed=replayed, call_number=self.number)
        elif self.is_open and self.difference is None:
            self.ended_early = True
        else:
            self.differ("call", recorded="", replayed=replayed, call_number=self.number)
        if self.is_strict:
            raise Stopped

    async def _make(self, call: Call, name: str) -> Reply:
        """A call that was not made before: asked where it changes nothing, refused otherwise."""
        if self._ask is None or care_of(call.method).writes or name.startswith(_OWN):
            self.refused += 1
            error = ServiceError(
                Reason.REPLAY_WRITES_NOTHING,
                f"A run that is made again writes nothing; call {self.number} ({name}) would.",
                call=self.number,
                method=name,
            )
            reply = Reply(ok=False, tree=error_tree(error))
            return Reply(ok=False, tree=reply.tree, packed=pack_reply(reply))
        self.asked += 1
        return await self._ask(call)

    def _differ_in_output(self, offset: int, before: bytes, after: bytes) -> None:
        output = self.past.output
        head = (bytes(output[max(offset - _AROUND, 0) : offset - len(before)]) + before)[-_AROUND:]
        recorded = head + bytes(output[offset : offset + _AROUND])
        replayed = head + after[:_AROUND]
        self.differ(
            "output",
            recorded=recorded.decode("utf-8", "replace"),
            replayed=replayed.decode("utf-8", "replace"),
            output_offset=offset,
        )


def _with(tree: dict[str, Any], path: Sequence[str], value: object) -> dict[str, Any]:
    """A copy of a tree with a value at a path; maps are made on the way."""
    name, rest = path[0], path[1:]
    if rest:
        inner = tree.get(name)
        value = _with(inner if isinstance(inner, dict) else {}, rest, value)
    return tree | {name: value}


_OWN = "llmspell.v1.RunService/"
"""A replay makes no replay."""
_NAMES = {b"t": "the time", b"c": "the time since the run began", b"m": "the size of the heap"}


def _reading(past: Past, number: int) -> str:
    return _NAMES[bytes(past.asked[number : number + 1])] if number < len(past.told) else ""
