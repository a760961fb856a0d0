"""Engine: what keeps the state process's data, as ordered keys in transactions.

All that the process does (items, sessions, artifacts, events) is written once, over `View` and
`Txn`; an engine gives those, and so one that is added has nothing of that to repeat. A view does
not change while it is open, an operation's writes become visible together or not at all, and
operations run one after the other. See ADR 0014.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from services.common.errors import Reason, ServiceError
from services.common.store import Cipher, Txn, View, exit_on_fatal
from services.state.engines.embedded import open_store
from services.state.engines.memory import MemoryStore
from services.state.layout import DATABASES

T = TypeVar("T")


class Engine(Protocol):
    """Keeps databases of ordered keys."""

    on_commit: Callable[[set[str]], None] | None
    """Called in the event loop with what kept operations have touched (`Txn.touched`)."""

    @property
    def durable(self) -> bool:
        """Whether what was acknowledged is still there after a power cut."""

    @property
    def is_open(self) -> bool:
        """Whether reads and writes are answered."""

    def read(self) -> AbstractContextManager[View]:
        """A view that does not change while it is open. Keep it open for moments only."""

    def snapshot(self) -> AbstractContextManager[View]:
        """A view for seconds, which another thread may read. Open and close it where writes are."""

    async def write(self, operation: Callable[[Txn], T], *, grows: bool = False) -> T:
        """Run an operation; answer when it is kept.

        Args:
            operation: Reads and writes; called once, perhaps in another thread.
            grows: Whether to refuse it on a disk that has little room left.

        Raises:
            ServiceError: what the operation raised (nothing of it is kept), STORAGE_FULL,
                SERVICE_UNAVAILABLE once the engine is closing.
        """

    async def tidy(self) -> bool:
        """Give back room that removals left, where it pays; whether it did."""

    async def rewrite(self) -> bool:
        """Leave nothing in files of what was removed; False where that takes too long."""

    def close(self) -> None:
        """Finish what has begun and let go of files. Safe to call twice."""


Fatal = Callable[[str], None]

ENGINES: Mapping[str, Callable[[Path, Fatal, Cipher | None], Engine]] = {
    "embedded": lambda data, fatal, cipher: open_store(data, on_fatal=fatal, cipher=cipher),
    "memory": lambda _data, _fatal, cipher: MemoryStore(DATABASES, cipher=cipher),
}


def open_engine(
    name: str, data: Path, *, on_fatal: Fatal = exit_on_fatal, cipher: Cipher | None = None
) -> Engine:
    """The engine of this name, recovered and ready.

    Args:
        name: A key of `ENGINES`.
        data: Folder of its store; not used by `memory`.
        on_fatal: Must end the process; see `common.store`.
        cipher: How tenants' values are kept; without, nothing is encrypted.

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
    return constructor(data, on_fatal, cipher)
