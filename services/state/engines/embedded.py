"""The default engine: LMDB. What it has answered is on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.common.store import Cipher, Store, exit_on_fatal
from services.state.keyring import Keyring
from services.state.layout import SCHEMA


def open_store(
    path: Path,
    *,
    on_fatal: Callable[[str], None] = exit_on_fatal,
    sync: bool = True,
    cipher: Cipher | None = None,
) -> Store:
    """The store under `path`, made where it is missing. Call it after any fork.

    Args:
        path: The folder.
        on_fatal: Must end the process; see `common.store`.
        sync: False only in tests that prove that the crash tests can fail.
        cipher: How tenants' values are kept; without, nothing is encrypted.

    Raises:
        ServiceError: STORE_NOT_WRITABLE, STORE_LOCKED, SCHEMA_TOO_NEW, RECORD_CORRUPT,
            MASTER_KEY_MISSING, MASTER_KEY_WRONG.
    """
    return Store(path, SCHEMA, on_fatal=on_fatal, sync=sync, cipher=cipher or Keyring())
