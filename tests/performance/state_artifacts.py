"""Artifacts of 10 KB and 100 MB stored and read, beside hashes and a copy of the same bytes.

The bytes are random, so that nothing is won by making them smaller. A copy is of a file, with a
flush of the new one and of its name; all that a store has to do and a copy has not is one or two
hashes and the transport.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from blake3 import blake3
from llmspell.v1 import artifact_pb2 as pb
from llmspell.v1 import artifact_pb2_grpc

from tests.crash.state_clients import caller
from tests.performance.report import Report
from tests.performance.rounds import copied, processor_s, spans

SMALL, LARGE = 10_000, 100_000_000
CHUNK_BYTES = 1024 * 1024
ROUNDS = {SMALL: 50, LARGE: 5}


class Store:
    """Stores and reads one size."""

    def __init__(self, channel: grpc.aio.Channel, folder: Path, size: int) -> None:
        self._stub: Any = artifact_pb2_grpc.ArtifactServiceStub(channel)
        self._metadata = caller("artifacts")
        self._bytes = bytearray(os.urandom(size))
        self._source = folder / f"source-{size}"
        self._source.write_bytes(self._bytes)
        self._numbers = itertools.count()
        self._name = ""

    def works(self) -> dict[str, Callable[[int], Awaitable[None]]]:
        """By what they are called."""
        return {
            "stored": self.store,
            "read": self.read,
            "sha256": self.sha256,
            "blake3": self.blake3,
            "copy": self.copy,
        }

    async def store(self, number: int) -> None:
        """New bytes each time: what is there already would only be counted."""
        self._bytes[:8] = number.to_bytes(8, "big")
        self._name = f"n{next(self._numbers)}"
        head = pb.ArtifactHeader(scope="global", name=self._name)
        if len(self._bytes) <= CHUNK_BYTES:
            request = pb.PutArtifactRequest(header=head, content=bytes(self._bytes))
            await self._stub.PutArtifact(request, metadata=self._metadata)
            return
        answers = self._stub.StoreArtifact(self._parts(head), metadata=self._metadata)
        async for answer in answers:
            assert answer.artifact.size_bytes == len(self._bytes)

    async def read(self, _: int) -> None:
        """The bytes that were stored last."""
        choice = pb.ArtifactChoice(scope="global", name=self._name)
        size = 0
        request = pb.ReadArtifactRequest(artifact=choice)
        async for answer in self._stub.ReadArtifact(request, metadata=self._metadata):
            size += len(answer.chunk)
        assert size == len(self._bytes)

    async def sha256(self, _: int) -> None:
        """A reference."""
        hashlib.sha256(self._bytes).digest()

    async def blake3(self, _: int) -> None:
        """Another."""
        blake3(self._bytes).digest()

    async def copy(self, number: int) -> None:
        """The third: a file that is on disk when it has been copied."""
        copied(self._source, self._source.with_name(f"{self._source.name}-{number}"))

    async def _parts(self, head: pb.ArtifactHeader) -> AsyncIterator[pb.StoreArtifactRequest]:
        yield pb.StoreArtifactRequest(header=head)
        for piece in _pieces(self._bytes):
            yield pb.StoreArtifactRequest(chunk=piece)


def _pieces(content: bytearray) -> Iterator[bytes]:
    view = memoryview(content)
    for start in range(0, len(content), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])


async def bench(report: Report, state: str, folder: Path, pid: int) -> None:
    """Print the lines."""
    options = (("grpc.max_receive_message_length", 8 * CHUNK_BYTES),)
    async with grpc.aio.insecure_channel(state, options=options) as channel:
        for size, what in ((SMALL, "10 KB"), (LARGE, "100 MB")):
            store = Store(channel, folder, size)
            used = processor_s(pid)
            took = await spans(store.works(), ROUNDS[size])
            each_s = (processor_s(pid) - used) / (ROUNDS[size] + 1)
            _tell(report, what, took, each_s)


def _tell(report: Report, what: str, took: dict[str, float], each_s: float) -> None:
    references = ", ".join(
        f"{name} {took[name] * 1e3:.2f}" for name in ("sha256", "blake3", "copy")
    )
    for work in ("stored", "read"):
        ratios = " and ".join(
            f"{took[work] / took[name]:.1f} times {name}" for name in ("sha256", "copy")
        )
        report.line(
            f"artifact of {what} {work}", f"{took[work] * 1e3:.2f} ms beside {references}: {ratios}"
        )
    report.line(f"processor of the server for both, {what}", f"{each_s * 1e3:.1f} ms")
