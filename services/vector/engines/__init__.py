"""Implementations of VectorStorage, by name. None of them knows the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.store import Store, exit_on_fatal
from services.vector.allowances import Allowances
from services.vector.embedding.cache import EmbeddingCache, MemoryCache
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.engines.embeddings import StoredEmbeddings
from services.vector.engines.isolated import IsolatedVectorStorage
from services.vector.engines.measures import Measures
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.storage import VectorStorage


@dataclass(frozen=True, slots=True)
class Engine:
    """What keeps a vector process's data."""

    storage: VectorStorage
    """Close it; the embeddings go with it."""
    embeddings: EmbeddingCache
    """As durable as the storage."""
    measures: Callable[[], Measures] = Measures
    """What stands in memory."""
    store: Store | None = None
    """What the tenants share who have none of their own."""


def open_engine(
    name: str,
    data: Path,
    *,
    clock: Clock,
    exact_threshold: int,
    on_fatal: Callable[[str], None] = exit_on_fatal,
    allowances: Allowances | None = None,
) -> Engine:
    """The engine of this name, recovered and ready. Call it inside the running loop.

    Args:
        name: A key of `ENGINES`.
        data: Folder of its store; not used by `memory`.
        clock: For times, and for what has expired.
        exact_threshold: Collections up to this many records have no graph.
        on_fatal: Must end the process; see `common.store`.
        allowances: What tenants may have; None: as much as they like.

    Raises:
        ServiceError: CONFIG_INVALID where there is no such engine; what the store raises.
    """
    if name not in ENGINES:
        raise ServiceError(
            Reason.CONFIG_INVALID,
            f"There is no vector engine {name!r}; known are {', '.join(ENGINES)}.",
            key="vector.engine",
        )
    return ENGINES[name](data, clock, exact_threshold, on_fatal, allowances or Allowances())


def _embedded(
    data: Path,
    clock: Clock,
    exact_threshold: int,
    on_fatal: Callable[[str], None],
    allowances: Allowances,
) -> Engine:
    store = open_store(data, on_fatal=on_fatal)
    storage = IsolatedVectorStorage(
        store,
        open_own=lambda path: open_store(path, on_fatal=on_fatal),
        make=lambda own: EmbeddedVectorStorage(
            own, clock, exact_threshold=exact_threshold, allowances=allowances
        ),
    )
    return Engine(storage, StoredEmbeddings(store, clock), storage.measures, store)


def _memory(
    data: Path,
    clock: Clock,
    exact_threshold: int,
    on_fatal: Callable[[str], None],
    allowances: Allowances,
) -> Engine:
    del data, exact_threshold, on_fatal
    return Engine(MemoryVectorStorage(clock, allowances), MemoryCache())


ENGINES = {"embedded": _embedded, "memory": _memory}
