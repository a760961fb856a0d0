"""How much memory the processes take meanwhile: a large artifact, a long list, an export of both.

    python -m tests.performance.state_memory [--megabytes 1024] [--items 1000000]

What is told of each process is the most memory of its own (`RssAnon`) beyond what it had right
before. Pages of the data file that the kernel keeps are not counted: it takes them back. The client
is this process.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llmspell import Client
from llmspell import types as t

from tests.integration.deployment import Deployment, deployed

MEGABYTES, ITEMS = 1024, 1_000_000
ITEM_BYTES = 1000
SCOPE = "custom:memory"
_MIB = 1024 * 1024
_BATCH = 250
_LOOK_EVERY_S = 0.01


def own_bytes(pid: int) -> int:
    """Memory of a process's own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


class Peaks:
    """Looks at processes all the time, from a thread."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._begin = self._now()
        self._most = dict(self._begin)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def grown(self) -> dict[str, float]:
        """MiB of each process at most, beyond those at the beginning."""
        return {name: (self._most[name] - self._begin[name]) / _MIB for name in self._pids}

    def _now(self) -> dict[str, int]:
        return {name: own_bytes(pid) for name, pid in self._pids.items()}

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            for name, now in self._now().items():
                self._most[name] = max(self._most[name], now)


@dataclass(frozen=True)
class Grown:
    """What one part of the story took."""

    part: str
    mib: Mapping[str, float]
    took_s: float


class Story:
    """Each part, in order."""

    def __init__(self, up: Deployment, client: Client, megabytes: int, items: int) -> None:
        self._client = client
        self._megabytes = megabytes
        self._items = items
        names = ("state", "gateway")
        self._pids = {name: up.pid(name) for name in names} | {"client": os.getpid()}

    def parts(self) -> Iterator[Grown]:
        """Do one after the other."""
        size = f"{self._megabytes} MiB" if self._megabytes != MEGABYTES else "1 GiB"
        works: dict[str, Callable[[], None]] = {
            f"artifact of {size} stored": self._store,
            f"artifact of {size} read": self._read,
            f"{self._items:,} items set": self._fill,
            f"{self._items:,} items listed": self._list,
            "export of all that": self._export,
        }
        for part, work in works.items():
            start = time.perf_counter()
            with Peaks(self._pids) as peaks:
                work()
            yield Grown(part, peaks.grown(), time.perf_counter() - start)

    def _store(self) -> None:
        stored = self._client.put_artifact("large", _megabytes(self._megabytes), scope=SCOPE)
        assert stored.size_bytes == self._megabytes * _MIB

    def _read(self) -> None:
        pieces = self._client.read_artifact("large", scope=SCOPE)
        assert sum(map(len, pieces)) == self._megabytes * _MIB

    def _fill(self) -> None:
        numbers = iter(range(self._items))
        while part := list(itertools.islice(numbers, _BATCH)):
            self._client.batch(
                [t.SetItem(f"k{n:08}", f"{n:0{ITEM_BYTES}}", scope=SCOPE) for n in part]
            )

    def _list(self) -> None:
        assert sum(1 for _ in self._client.list_state(scope=SCOPE)) == self._items

    def _export(self) -> None:
        size = sum(map(len, self._client.export_tenant()))
        assert size > self._items * ITEM_BYTES + self._megabytes * _MIB


def _megabytes(count: int) -> Iterator[bytes]:
    """Bytes that nothing can make smaller, different in each."""
    block = os.urandom(_MIB - 8)
    return (number.to_bytes(8, "big") + block for number in range(count))


def tell(up: Deployment, tenant: str, megabytes: int, items: int) -> Iterator[Grown]:
    """The story, once the same has been done with little, so that all is loaded."""
    with Client(up.address, up.keys[tenant]) as client:
        yield from Story(up, client, megabytes, items).parts()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=MEGABYTES)
    parser.add_argument("--items", type=int, default=ITEMS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmspell-memory-") as name, deployed(Path(name)) as up:
        for tenant, megabytes, items in (
            ("globex", 4, 2000),
            ("acme", asked.megabytes, asked.items),
        ):
            for grown in tell(up, tenant, megabytes, items):
                told = ", ".join(f"{who} {mib:.0f}" for who, mib in grown.mib.items())
                print(f"{grown.part} | {told} MiB | {grown.took_s:.0f} s")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
