"""StateManager: what every state engine promises. The suite in tests/contract asks each of them.

The tenant comes first in every call and separates everything: nothing of another tenant is seen,
counted, or even found to exist. A scope is the text that `common.scopes` prints. Every answer
carries the revision at which it was true; revisions rise by one with each call that changes
something, whoever made it.

An item whose time has come is absent for everyone, swept or not. Every call refuses a tenant or a
key that is empty (FIELD_REQUIRED), has control characters (FIELD_INVALID) or is too long
(LIMIT_EXCEEDED), before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.expiry import SLICE
from services.common.store import exit_on_fatal
from services.state.engines.embedded import EmbeddedState
from services.state.engines.memory import MemoryState
from services.state.model import (
    Capability,
    Changed,
    Check,
    Counted,
    Found,
    Page,
    Precondition,
    Value,
    Write,
)


class StateReader(Protocol):
    """The part of StateManager that changes nothing."""

    async def get(self, tenant: str, scope: str, key: str) -> Found:
        """One item; `Found.item` is None where there is none."""

    async def list(
        self,
        tenant: str,
        scope: str,
        *,
        limit: int,
        prefix: str = "",
        after: str = "",
        keys_only: bool = False,
    ) -> Page:
        """Items whose key begins with `prefix` and comes after `after`, in order of UTF-8 bytes.

        A page may be short, or empty, before the end: large values and expired items count too. So
        read on until its cursor is None.

        Raises:
            ServiceError: FIELD_INVALID where `limit` is not positive.
        """

    async def revision(self) -> int:
        """The number of the last change; 0 where there was none."""


class StateWriter(Protocol):
    """The part of StateManager that changes items.

    A write whose precondition does not hold raises REVISION_MISMATCH with the item's revision, 0
    where it is absent, and writes nothing.
    """

    async def set(
        self,
        tenant: str,
        scope: str,
        key: str,
        value: Value,
        *,
        ttl_ns: int | None = None,
        precondition: Precondition | None = None,
    ) -> Changed:
        """Write an item. Its time to live is the given one: without, it loses the one it had.

        Raises:
            ServiceError: REVISION_MISMATCH, LIMIT_EXCEEDED (value, ttl), FIELD_INVALID (ttl).
        """

    async def delete(
        self, tenant: str, scope: str, key: str, *, precondition: Precondition | None = None
    ) -> Changed:
        """Remove an item. What is not there counts 0 and takes no revision.

        Raises:
            ServiceError: REVISION_MISMATCH.
        """

    async def increment(self, tenant: str, scope: str, key: str, delta: float) -> Counted:
        """Add to a JSON number; an absent item counts as 0. The time to live is kept.

        An int plus an int is an int of 64 bits; a float on either side makes a float.

        Raises:
            ServiceError: VALUE_NOT_NUMBER where the item is something else or the sum leaves its
                range, FIELD_INVALID where `delta` is not finite or has more than 64 bits.
        """

    async def batch(self, tenant: str, checks: Sequence[Check], writes: Sequence[Write]) -> Changed:
        """Writes in order, all of them at one revision, or none.

        All checks are made before the first write. Of two writes to one key the last one stays. A
        removal of what is not there counts 0; where nothing at all changes, no revision is taken.

        Raises:
            ServiceError: REVISION_MISMATCH for the first check that fails, FIELD_REQUIRED where
                there is neither check nor write, LIMIT_EXCEEDED.
        """

    async def purge(self, tenant: str) -> Changed:
        """Erase all that a tenant has, and the keys that its change records name.

        Other calls are served between the steps. What is written to the tenant meanwhile may stay.
        """


class StateManager(StateReader, StateWriter, Protocol):
    """Keeps items."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this engine can do."""

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit` expired items, in one revision; how many.

        Readers never see these items; this gives their room back.
        """

    async def ready(self) -> bool:
        """Whether calls would be answered."""

    async def close(self) -> None:
        """Finish what has begun and let go of files. Safe to call twice."""


Fatal = Callable[[str], None]

ENGINES: Mapping[str, Callable[[Path, Clock, Fatal], StateManager]] = {
    "embedded": lambda data, clock, fatal: EmbeddedState(data, clock=clock, on_fatal=fatal),
    "memory": lambda _data, clock, _fatal: MemoryState(clock=clock),
}


def open_engine(
    name: str, data: Path, *, clock: Clock, on_fatal: Fatal = exit_on_fatal
) -> StateManager:
    """The engine of this name, recovered and ready.

    Args:
        name: A key of `ENGINES`.
        data: Folder of its store; not used by `memory`.
        clock: For times to live and times shown.
        on_fatal: Must end the process; see `common.store`.

    Raises:
        ServiceError: CONFIG_INVALID where there is no such engine; what the store raises.
    """
    constructor = ENGINES.get(name)
    if constructor is None:
        raise ServiceError(
            Reason.CONFIG_INVALID,
            f"state.engine is {name!r}; it must be one of {', '.join(sorted(ENGINES))}.",
            key="state.engine",
        )
    return constructor(data, clock, on_fatal)
