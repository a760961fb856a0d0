"""Request ids: a write that is repeated within ten minutes does nothing, and answers as it did.

What a write answered is kept in its own transaction, so that there is either both or neither. A
write that was refused leaves nothing, and is tried again when it is repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import msgspec

from services.common.errors import Reason, ServiceError
from services.common.expiry import SLICE
from services.common.limits import REQUEST_REMEMBERED_SECONDS
from services.common.view import View
from services.state import rules
from services.state.layout import REQUEST_TIMES, REQUESTS, tenant_prefix
from services.state.layout import requests as layout
from services.state.layout.requests import Made
from services.state.model import Once
from services.state.step import Keeper, Step
from services.state.tallies import Tally

T = TypeVar("T")

_REMEMBERED_NS = REQUEST_REMEMBERED_SECONDS * 10**9


class Requests:
    """Writes of all tenants that are made once, however often they are asked for."""

    def __init__(self, keeper: Keeper, *, slice_size: int = SLICE) -> None:
        """`slice_size`: records that one step of a purge removes."""
        self._keeper = keeper
        self._slice_size = slice_size

    async def step(
        self,
        tenant: str,
        once: Once | None,
        kind: type[T],
        operation: Callable[[Step], T],
        *,
        grows: bool = False,
    ) -> T:
        """Run an operation in a step of its own, or answer what it answered the first time.

        Args:
            tenant: Whose it is.
            once: What it is known by; None: it is always run.
            kind: What it answers.
            operation: What to do.
            grows: See `Engine.write`.

        Raises:
            ServiceError: REQUEST_ID_REUSED where another write was made under this id;
                TENANT_LIMIT_REACHED where too many are remembered; what the operation raises.
        """
        if once is None:
            return await self._keeper.step(operation, grows=grows)
        rules.check_request_id(once.request_id)
        place = layout.request_key(tenant, once.request_id)

        def run(step: Step) -> T:
            made = _remembered(step, place)
            if made is not None:
                _check_same(made, once)
                return msgspec.msgpack.decode(made.answer, type=kind)
            answer = operation(step)
            _remember(step, tenant, place, once, answer)
            return answer

        return await self._keeper.step(run, grows=grows)

    async def sweep(self, limit: int = SLICE) -> int:
        """Forget up to `limit` writes whose ten minutes are over; how many."""
        with self._keeper.engine.read() as view:
            idle = next(_ended(view, self._keeper.time.now_ns()), None) is None
        return 0 if idle else await self._keeper.step(lambda step: _sweep(step, limit))

    async def purge(self, tenant: str) -> None:
        """Forget all writes of a tenant."""
        await self._keeper.repeat(lambda step: _purge(step, tenant, self._slice_size))
        self._keeper.tallies.forget(tenant)


def _remembered(step: Step, place: bytes) -> Made | None:
    """The write that was made under an id; an old one is gone, swept or not."""
    stored = step.txn.get(REQUESTS, place)
    if stored is None:
        return None
    made = layout.unpack_made(stored)
    if made.time_ns + _REMEMBERED_NS > step.now_ns:
        return made
    step.txn.delete(REQUEST_TIMES, layout.time_key(made.time_ns, place))
    return None


def _check_same(made: Made, once: Once) -> None:
    if made.digest != once.digest:
        raise request_id_reused(once.request_id)


def request_id_reused(request_id: str) -> ServiceError:
    """The id is that of another write."""
    return ServiceError(
        Reason.REQUEST_ID_REUSED,
        f"Another write was made as request {request_id!r} within the last ten minutes; give each "
        "write an id of its own.",
        field="request_id",
        request_id=request_id,
    )


def _remember(step: Step, tenant: str, place: bytes, once: Once, answer: object) -> None:
    if not step.txn.has(REQUESTS, place):
        step.take_room(tenant, Tally.REQUESTS)
    made = Made(step.now_ns, once.digest, msgspec.msgpack.encode(answer))
    step.txn.put(REQUESTS, place, layout.pack_made(made))
    step.txn.append(REQUEST_TIMES, layout.time_key(step.now_ns, place), b"")


def _ended(view: View, now_ns: int) -> Iterator[bytes]:
    """Keys in `request_times` whose ten minutes are over, the earliest first."""
    return itertools.takewhile(
        lambda entry: layout.split_time_key(entry)[0] + _REMEMBERED_NS <= now_ns,
        view.keys(REQUEST_TIMES, b""),
    )


def _sweep(step: Step, limit: int) -> int:
    ended = list(itertools.islice(_ended(step.txn, step.now_ns), limit))
    for entry in ended:
        time_ns, place = layout.split_time_key(entry)
        is_its = _made_at(step, place) in {None, time_ns}  # what a restore cleared may be made anew
        if is_its and step.txn.delete(REQUESTS, place):
            step.give_room(layout.tenant_of(place), Tally.REQUESTS)
        step.txn.delete(REQUEST_TIMES, entry)
    return len(ended)


def _made_at(step: Step, place: bytes) -> int | None:
    """When a write was made; None where that is not known any more."""
    try:
        stored = step.txn.get(REQUESTS, place)
    except ServiceError:
        return None
    return None if stored is None else layout.unpack_made(stored).time_ns


def _purge(step: Step, tenant: str, limit: int) -> bool:
    """Forget up to `limit` writes of a tenant; whether there may be more."""
    places = list(itertools.islice(step.txn.keys(REQUESTS, tenant_prefix(tenant)), limit))
    for place in places:
        with suppress(ServiceError):  # a damaged one goes too; the sweep takes its entry
            stored = step.txn.get(REQUESTS, place) or b""
            entry = layout.time_key(layout.unpack_made(stored).time_ns, place)
            step.txn.delete(REQUEST_TIMES, entry)
        step.txn.delete(REQUESTS, place)
    return len(places) == limit
