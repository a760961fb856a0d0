"""Reads all of a store's file before it is used: `python -m services.common.filecheck FOLDER …`.

LMDB believes its pages. One that is not what it was may kill the process that follows it, or lose
keys without a word. So a process of its own holds the list of free pages against those in use
(`pagecheck`), and reads every record of every database once: it may die of it, and then the store
is not opened. Single records that are wrong, and pages that LMDB itself
refuses, are told, and the rest is served. A large file is read while it is served already, so that
a start waits for nothing.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb
from isal.isal_zlib import crc32

from services.common.lifetime import end_with_parent
from services.common.pagecheck import PageCheck, UnsafeError

BEFORE_BYTES_MAX = 16 * 1024**2
"""A file up to this size is read before it is opened."""

CHECK_S_MAX = 600.0
_TOLD_MAX = 100
_CHECKSUM = struct.Struct("<I")
_PLAIN = 0
"""What the values of a sealed database begin with where they have a checksum only."""
_UNSOUND = 3
_DATABASES_MAX = 128
_TRIES = 5
_MAP_BYTES = 256 * 1024**3
"""As the store that serves it; see `common.datafile`, which a short process does not import."""
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class FileReport:
    """What reading a file has shown."""

    broken: str = ""
    """Why the file may not be used; empty: it may."""
    records: list[tuple[str, str]] = field(default_factory=list)
    """Database and key, in hexadecimal, of records that fail their checksum; the first hundred."""
    gaps: list[str] = field(default_factory=list)
    """Databases that have pages which LMDB refuses."""
    record_count: int = 0
    """How many records were read."""


def check_file(folder: Path, sealed: Iterable[str], *, nice: int = 0) -> FileReport:
    """Read all of the file, in a process of its own; blocks until it has.

    Args:
        folder: Where the file is.
        sealed: Databases whose values say how they are kept.
        nice: By how much it gives way to others, as nice(1) has it.

    Raises:
        OSError: the process could not be started, failed for another reason than the file, or
            took too long.
    """
    module = [sys.executable, "-m", "services.common.filecheck"]
    try:
        done = subprocess.run(  # noqa: S603 - this very module
            [*module, str(folder), str(nice), *sorted(sealed)],
            cwd=_ROOT,
            capture_output=True,
            check=False,
            timeout=CHECK_S_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError("reading it took too long") from error
    return report_of(done.returncode, done.stdout, done.stderr)


def report_of(code: int, told: bytes, words: bytes) -> FileReport:
    """What the process has told, or what its end tells.

    Raises:
        OSError: it failed for another reason than the file.
    """
    if code < 0:
        return FileReport(f"reading it ends a process ({signal.Signals(-code).name})")
    if code not in {0, _UNSOUND}:
        lines = words.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
        raise OSError(f"reading it failed: {lines[-1][:200]}")
    found = json.loads(told)
    records = [(database, key) for database, key in found["records"]]
    return FileReport(found["broken"], records, found["gaps"], found["count"])


class _BrokenError(Exception):
    """Keys cannot be found where they should be."""


class _Reader:
    """Reads records of an environment and remembers what is wrong."""

    def __init__(self, env: Any, sealed: frozenset[str]) -> None:
        self._env = env
        self._sealed = sealed
        self.records: dict[tuple[str, str], None] = {}
        self.gaps: list[str] = []
        self.count = 0

    def read_all(self) -> None:
        """Read every database.

        Raises:
            _BrokenError: the file may not be used.
        """
        with self._env.begin() as txn:
            names = [bytes(name) for name in txn.cursor().iternext(keys=True, values=False)]
        for name in names:
            self._read(name.decode(), self._env.open_db(name, create=False))

    def _read(self, name: str, database: Any) -> None:
        try:
            with self._env.begin() as txn:
                entries = txn.stat(database)["entries"]
                count = self._walk(name, txn.cursor(db=database).iternext())
        except lmdb.Error:
            self.gaps.append(name)
            with suppress(lmdb.Error), self._env.begin() as txn:  # as far as it goes from the end
                self._walk(name, txn.cursor(db=database).iterprev(), back=True)
            return
        self.count += count
        if count != entries:
            raise _BrokenError(f"{name} has {count} records of {entries}")

    def _walk(
        self, name: str, records: Iterator[tuple[bytes, bytes]], *, back: bool = False
    ) -> int:
        last, count, at = None, 0, int(name in self._sealed)
        for key, stored in records:
            count += 1
            if last is not None and (key >= last if back else key <= last):
                raise _BrokenError(f"keys of {name} are out of order")
            last = key
            if not _is_sound(key, stored, at):
                self.records[name, key.hex()] = None
        return count


def _check_pages(env: Any, path: Path) -> None:
    """Hold the list of free pages against those in use, of the newest commit that stays readable.

    Raises:
        UnsafeError: the next write would go over what is there.
    """
    page_bytes = env.stat()["psize"]
    for _ in range(_TRIES):  # a writer may take the commit's header away
        with env.begin() as txn, path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            try:
                if PageCheck(memoryview(mapped), page_bytes).run(txn.id()):
                    return
            except (struct.error, IndexError) as error:
                raise UnsafeError(f"its pages make no sense: {error}") from error


def _is_sound(key: bytes, stored: bytes, at: int) -> bool:
    """Whether a checksum holds. What is sealed with a key is looked at as it is read only."""
    if at and stored and stored[0] != _PLAIN:
        return True
    begin = at + _CHECKSUM.size
    checksum = _CHECKSUM.pack(crc32(stored[begin:], crc32(key)))
    return stored[at:begin] == checksum


def main() -> int:
    """The other side of `check_file`."""
    end_with_parent()
    folder, nice, *sealed = sys.argv[1:]
    os.nice(int(nice))
    try:
        env = lmdb.open(
            folder, readonly=True, create=False, max_dbs=_DATABASES_MAX, map_size=_MAP_BYTES
        )
    except lmdb.Error as error:  # whoever opens it next says why, and better
        sys.exit(str(error))
    reader, broken = _Reader(env, frozenset(sealed)), ""
    try:
        _check_pages(env, Path(folder) / "data.mdb")
        reader.read_all()
    except (_BrokenError, UnsafeError, lmdb.Error, UnicodeDecodeError) as error:
        broken = str(error)
    report = {
        "broken": broken,
        "records": list(reader.records)[:_TOLD_MAX],
        "gaps": reader.gaps,
        "count": reader.count,
    }
    sys.stdout.write(json.dumps(report))
    return _UNSOUND if broken else 0


if __name__ == "__main__":
    sys.exit(main())
