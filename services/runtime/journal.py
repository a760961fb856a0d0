"""The outermost of the handlers of a run's calls: what a script could observe is kept.

An answer that could not be had again is on disk before the run writes anything. A write has a
request id that follows from the run and the call's number, so that it may be made again after a
crash and is done once; its answer is then the same, and may be on its way to the journal while the
script goes on. See docs/adr/0018-journals-of-runs.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from google.protobuf.descriptor_pb2 import MethodOptions

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.redaction import REDACTED, redact
from services.common.run_entries import RUN_CALL, RUN_INTENT
from services.runtime.book import Book
from services.runtime.frames import FrameError
from services.runtime.hooks.chain import OPERATIONS
from services.runtime.past import Past, PastCall
from services.runtime.readings import Readings
from services.runtime.runs import Call, CallHandler, Reply, pack_reply

METHOD_LENGTH_MAX = 200
_TOLD_LENGTH_MAX = 400
_KEY = "api_key"
"""What an agent's own key is called in a request."""
Harmless = Callable[[Call], bool]
"""Whether a call changes nothing although its method might."""


@dataclass(frozen=True, slots=True)
class Care:
    """What a method needs so that a run may be gone on with."""

    writes: bool
    """Whether it changes anything."""
    once: bool
    """Whether it takes a request id."""
    repeatable: bool
    """Whether it may be made twice."""
    tells_news: bool = False
    """Whether its answer is where an execution is, which another time is elsewhere."""


_READS = Care(writes=False, once=False, repeatable=True)
_FORKS = Care(writes=True, once=False, repeatable=False)
_FORK, _JOIN = f"{OPERATIONS}Fork", f"{OPERATIONS}Join"


@functools.cache
def care_of(name: str) -> Care:
    """The care that a method needs; what is not of the contract is refused and changes nothing."""
    method = METHODS.get(f"/{name}")
    if method is None:
        return _FORKS if name == _FORK else _READS
    level = method.descriptor.GetOptions().idempotency_level
    if level == MethodOptions.NO_SIDE_EFFECTS:
        return _READS
    once = "request_id" in method.descriptor.input_type.fields_by_name
    repeatable = once or level == MethodOptions.IDEMPOTENT
    tells_news = "progress" in method.descriptor.output_type.fields_by_name
    return Care(writes=True, once=once, repeatable=repeatable, tells_news=tells_news)


def packed_request(call: Call) -> bytes:
    """What a call is known by, beside its method; keys of providers are not kept."""
    packed = msgspec.msgpack.encode([call.tenant, call.args])
    if _KEY.encode() not in packed:  # which is quicker to see than to look everywhere
        return packed
    return msgspec.msgpack.encode([call.tenant, _keyless(call.args)])


def _keyless(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {
            name: REDACTED if name == _KEY and value else _keyless(value)
            for name, value in tree.items()
        }
    return [_keyless(entry) for entry in tree] if isinstance(tree, list | tuple) else tree


class Journaled:
    """Answers the calls and readings of one run, and keeps them; a resumed one's from its past."""

    def __init__(
        self,
        handler: CallHandler,
        readings: Readings,
        book: Book,
        clock: Clock,
        *,
        run_id: str,
        past: Past | None = None,
        is_harmless: Harmless | None = None,
    ) -> None:
        """Keep what a run observes.

        Args:
            handler: Makes the calls.
            readings: Tells time and memory.
            book: Where all is kept.
            clock: Says when.
            run_id: Whose request ids the writes have.
            past: What was kept before the run was lost.
            is_harmless: Tells calls that change nothing from those of the same method that do.
        """
        self._handler = handler
        self._readings = readings
        self._book = book
        self._clock = clock
        self._run_id = run_id
        self._past = past
        self._is_harmless = is_harmless
        self.number = 0
        self._readings_count = 0
        self.open_call = ""
        """Method of a write that is being made."""

    async def __call__(self, call: Call) -> Reply:
        """The answer to a call.

        Raises:
            ServiceError: RUN_DIVERGED, RUN_OUTCOME_UNKNOWN, RUN_JOURNAL_LOST.
        """
        self.number += 1
        name, request = call.method[:METHOD_LENGTH_MAX], packed_request(call)
        recorded = self._recorded(name, request)
        if recorded is not None:
            return Reply(ok=not recorded.payload[0], tree=None, packed=recorded.payload)
        care = self._care(call)
        start_ns = self._clock.now_ns()
        if care.writes:
            await self._prepare(name, care)
            self.open_call = name
        reply = await self._handler(self._known(call, care))
        payload = reply.packed or pack_reply(reply)
        is_firm = not (care.once and reply.ok) or care.tells_news
        self._book.note(RUN_CALL + name, request, payload, start_ns=start_ns, is_firm=is_firm)
        self.open_call = ""
        return Reply(ok=reply.ok, tree=reply.tree, packed=payload)

    def read(self, asked: bytes) -> int:
        """What is told of time or memory."""
        number, self._readings_count = self._readings_count, self._readings_count + 1
        if self._past is not None and number < len(self._past.told):
            if self._past.asked[number] != asked[0]:
                raise FrameError("a reading that the run did not make when it was first made")
            return self._past.told[number]
        told = self._readings(asked)
        self._book.note_reading(asked, told)
        return told

    def _care(self, call: Call) -> Care:
        care = care_of(call.method)
        is_harmless = care.writes and self._is_harmless is not None and self._is_harmless(call)
        return _READS if is_harmless else care

    async def _prepare(self, name: str, care: Care) -> None:
        if not care.repeatable:
            number = msgspec.msgpack.encode(self.number)
            self._book.note(RUN_INTENT + name, number)
        await self._book.keep_firm()

    def _known(self, call: Call, care: Care) -> Call:
        """With a request id of the run's, unless the script gives one of its own."""
        if not care.once or call.args.get("request_id"):
            return call
        return replace(call, args=call.args | {"request_id": f"{self._run_id}.{self.number}"})

    def _recorded(self, name: str, request: bytes) -> PastCall | None:
        past, number = self._past, self.number
        if past is None:
            return None
        if number > len(past.calls):
            if number in past.intents:
                raise outcome_unknown(number, past.intents[number])
            if name == _JOIN and any(call.method == _FORK for call in past.calls):
                raise outcome_unknown(number, name)  # what was forked is gone with its process
            return None
        recorded = past.calls[number - 1]
        if (recorded.method, recorded.request) != (name, request):
            raise diverged(number, told_call(recorded.method, recorded.request), name, request)
        return recorded


def told_call(name: str, request: bytes) -> str:
    """A call as people read it, without what looks like a credential; cut."""
    tenant, args = msgspec.msgpack.decode(request)
    whose = f" for {tenant}" if tenant else ""
    return f"{name}{whose} {msgspec.json.encode(redact(plain(args))).decode()}"[:_TOLD_LENGTH_MAX]


def plain(tree: Any) -> Any:
    """A tree that JSON can hold: bytes become text."""
    if isinstance(tree, bytes):
        return tree.decode("utf-8", "replace")
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return [plain(value) for value in tree] if isinstance(tree, list) else tree


def diverged(number: int, recorded: str, name: str, request: bytes) -> ServiceError:
    """A resumed script asks something else than it did."""
    replayed = told_call(name, request)
    return ServiceError(
        Reason.RUN_DIVERGED,
        f"Call {number} of the resumed run is not the one it made before it was lost: it was "
        f"{recorded}, and is {replayed}.",
        call=number,
        recorded=recorded,
        replayed=replayed,
    )


def outcome_unknown(number: int, name: str) -> ServiceError:
    """A call that must not be made twice was begun, and nobody knows whether it was done."""
    return ServiceError(
        Reason.RUN_OUTCOME_UNKNOWN,
        f"The run was lost in call {number} ({name}), which may have been done and has no request "
        "id; look what came of it and run the script anew.",
        call=number,
        method=name,
    )
