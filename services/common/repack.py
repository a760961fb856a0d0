"""Copies a store's file so that its pages are full: `python -m services.common.repack FROM TO`.

LMDB's own copy leaves out pages that are free and takes the others as they are: where nine of ten
records were removed here and there, a page with one record of two stays one, and the copy is twice
as large as it need be. Written in the order of their keys, records fill every page.

In a process of its own: LMDB gives the interpreter away and takes it back for each record, and in
a process that answers calls would wait for it each time.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from services.common.lifetime import end_with_parent

_AT_ONCE = 1000


def repack(source: Path, target: Path, *, databases: int, map_bytes: int) -> None:
    """Copy what the last commit left under `source` to a new file under `target`; no flush.

    Raises:
        OSError: nothing that is under `target` may be used.
    """
    module = [sys.executable, "-m", "services.common.repack"]
    command = [*module, str(source), str(target), str(databases), str(map_bytes)]
    root = Path(__file__).parents[2]
    done = subprocess.run(  # noqa: S603 - this very module
        command, cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise OSError(f"the store could not be copied: {words[-1]}")


def main() -> None:
    """The other side of `repack`."""
    end_with_parent()
    source, target, databases, map_bytes = sys.argv[1:]
    options: dict[str, Any] = {"max_dbs": int(databases), "map_size": int(map_bytes)}
    try:
        with (
            lmdb.open(source, readonly=True, create=False, **options) as old,
            lmdb.open(target, sync=False, mode=0o600, **options) as new,
        ):
            _copy(old, new)
    except (lmdb.Error, OSError) as error:
        sys.exit(str(error))


def _copy(old: Any, new: Any) -> None:
    with old.begin(buffers=True) as reading:
        for name in reading.cursor().iternext(keys=True, values=False):
            here = old.open_db(bytes(name), txn=reading, create=False)
            there = new.open_db(bytes(name))
            records = reading.cursor(here).iternext()
            while part := list(islice(records, _AT_ONCE)):
                with new.begin(write=True, db=there) as writing:
                    writing.cursor().putmulti(part, append=True)


if __name__ == "__main__":
    main()
