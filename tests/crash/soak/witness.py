"""What stands between clients and the gateway, looks at each answer and each refusal, and counts.

A ledger's call goes through it with the key of its tenant. An answer must hold nothing of another
tenant; a refusal must be one that a caller may repeat, and must not come long after the deadline. A
call that was refused so is an `UnknownError` to its ledger: it may have happened or not.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
from llmspell.errors import LLMSpellError, from_rpc

from tests.crash.ledgers.ledger import BROKEN, UnknownError

RETRYABLE = {
    "SERVICE_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "OVERLOADED",
    "RUN_QUEUE_FULL",
    "RUN_JOURNAL_LOST",
    "AUDIT_UNAVAILABLE",
}
"""Why a call may fail while something is broken: each says that it may be made again."""
CALL_S = 2.0
LONGER_S = {"ScriptService": 6.0, "WorkflowService": 6.0, "ExecutionService": 6.0}
"""Deadlines; some faults last longer."""
FOLLOWED = {"EventService/SubscribeEvents", "StateService/WatchState"}
"""Streams that have no end of their own."""


@dataclass
class Seen:
    """What was counted."""

    secrets: dict[str, bytes]
    """Of each tenant, planted in what it writes."""
    late_s_max: float
    """After its deadline, at most, a call has ended."""
    calls: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """By reason; `(connection)` where the gateway itself was not there to give one."""
    own: Counter[str] = field(default_factory=Counter)
    """How many answers held their tenant's own secret: that it is looked for where it is."""
    late: list[float] = field(default_factory=list)
    """Seconds after their deadlines, of calls that ended by them."""

    def look(self, tenant: str, name: str, answer: Any) -> None:
        """Nothing of another tenant may be in an answer."""
        raw = answer.SerializeToString()
        for owner, secret in self.secrets.items():
            if secret not in raw:
                continue
            assert owner == tenant, f"{name} gave {tenant} what {owner} has"
            self.own[tenant] += 1

    def ended(self, name: str, late_s: float) -> None:
        """A call has ended, so long after its deadline."""
        if late_s > 0:
            self.late.append(late_s)
        assert late_s < self.late_s_max, f"{name} ended {late_s:.2f} s after its deadline"


class Witness:
    """A channel, as stubs take it, of one tenant."""

    def __init__(self, channel: grpc.aio.Channel, tenant: str, key: str, seen: Seen) -> None:
        self.tenant, self._channel, self._seen = tenant, channel, seen
        self._metadata = (("authorization", f"Bearer {key}"),)

    def unary_unary(self, method: str, request_serializer=None, response_deserializer=None, **_):
        """See grpc.aio.Channel."""
        stub = self._channel.unary_unary(method, request_serializer, response_deserializer)
        return partial(self._once, _name(method), stub)

    def stream_unary(self, method: str, request_serializer=None, response_deserializer=None, **_):
        """See grpc.aio.Channel."""
        stub = self._channel.stream_unary(method, request_serializer, response_deserializer)
        return partial(self._once, _name(method), stub)

    def unary_stream(self, method: str, request_serializer=None, response_deserializer=None, **_):
        """See grpc.aio.Channel."""
        stub = self._channel.unary_stream(method, request_serializer, response_deserializer)
        return partial(self._many, _name(method), stub)

    def stream_stream(self, method: str, request_serializer=None, response_deserializer=None, **_):
        """See grpc.aio.Channel."""
        stub = self._channel.stream_stream(method, request_serializer, response_deserializer)
        return partial(self._many, _name(method), stub)

    async def _once(self, name: str, stub: Any, request: Any, **options: Any) -> Any:
        watch = Watch(self._seen, name, _limit(name, options.get("timeout")))
        try:
            answer = await stub(request, metadata=self._metadata, timeout=watch.limit_s)
        except grpc.aio.AioRpcError as error:
            raise watch.refused(error) from error
        self._seen.look(self.tenant, name, answer)
        watch.answered()
        return answer

    def _many(self, name: str, stub: Any, request: Any, **options: Any) -> Answers:
        timeout = options.get("timeout")
        limit_s = timeout if name in FOLLOWED else _limit(name, timeout)
        call = stub(request, metadata=self._metadata, timeout=limit_s)
        look = partial(self._seen.look, self.tenant, name)
        return Answers(call, Watch(self._seen, name, limit_s), look)


class Answers:
    """The answers of a stream."""

    def __init__(self, call: Any, watch: Watch, look: Any) -> None:
        self._call, self._watch, self._look = call, watch, look

    def cancel(self) -> None:
        """No more of them."""
        self._call.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for answer in self._call:
                self._look(answer)
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self._watch.refused(error) from error
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        self._watch.answered()


class Watch:
    """One call, from when it was made."""

    def __init__(self, seen: Seen, name: str, limit_s: float | None) -> None:
        self.limit_s, self._seen, self._name = limit_s, seen, name
        self._began = time.monotonic()
        seen.calls[name] += 1

    def answered(self) -> None:
        """It ended well."""
        self._seen.answered[self._name] += 1
        self._end()

    def refused(self, error: grpc.aio.AioRpcError) -> Exception:
        """What its caller is told."""
        told = from_rpc(error, "the gateway")
        reason = _reason(told)
        self._seen.refused[reason] += 1
        self._end()
        return UnknownError() if reason in RETRYABLE or reason == CONNECTION else error

    def _end(self) -> None:
        if self.limit_s is not None:
            self._seen.ended(self._name, time.monotonic() - self._began - self.limit_s)


CONNECTION = "(connection)"


def _reason(error: LLMSpellError) -> str:
    """The reason that was given; what grpc says by itself where the gateway is gone has none."""
    transport = error.metadata.get("transport")
    lost = error.code == "UNAVAILABLE" or transport == BROKEN
    return CONNECTION if transport is not None and lost else error.reason


def _limit(name: str, timeout: float | None) -> float:
    most = LONGER_S.get(name.partition("/")[0], CALL_S)
    return most if timeout is None else min(timeout, most)


def _name(method: str) -> str:
    return method.rpartition(".")[2]
