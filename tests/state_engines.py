"""The state process's parts over a store of a test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.clock import Clock
from services.common.expiry import SLICE
from services.common.limits import CHANGES_KEPT_MAX
from services.common.store import Cipher
from services.state.engine import Engine
from services.state.engines.embedded import open_store
from services.state.engines.memory import MemoryStore
from services.state.items import Items
from services.state.keyring import Keyring
from services.state.layout import DATABASES
from services.state.master_key import MasterKey, MasterKeys
from services.state.step import Keeper


def embedded_keeper(
    folder: Path,
    clock: Clock,
    *,
    on_fatal: Callable[[str], None] = pytest.fail,
    sync: bool = True,
    changes_kept: int = CHANGES_KEPT_MAX,
    cipher: Cipher | None = None,
) -> Keeper:
    """A keeper over LMDB."""
    engine: Engine = open_store(folder, on_fatal=on_fatal, sync=sync, cipher=cipher)
    return Keeper(engine, clock=clock, changes_kept=changes_kept)


def embedded_items(folder: Path, clock: Clock, *, slice_size: int = SLICE, **kwargs) -> Items:
    """Items over LMDB."""
    return Items(embedded_keeper(folder, clock, **kwargs), slice_size=slice_size)


def memory_keeper(
    clock: Clock, *, changes_kept: int = CHANGES_KEPT_MAX, cipher: Cipher | None = None
) -> Keeper:
    """A keeper over dictionaries."""
    store = MemoryStore(DATABASES, cipher=cipher)
    return Keeper(store, clock=clock, changes_kept=changes_kept)


def master_key(number: int) -> MasterKey:
    """A master key that is the same for the same number."""
    return MasterKey(bytes([number]) * 32)


def sealing_ring(clock: Clock, *, current: int = 1, previous: int = 0) -> Keyring:
    """A ring that seals under a master key of this number; 0: no previous one."""
    before = master_key(previous) if previous else None
    return Keyring(MasterKeys(master_key(current), before), clock=clock)
