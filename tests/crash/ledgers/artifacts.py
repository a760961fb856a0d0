"""Artifacts: streamed and whole, some of the same content, versions and deletions."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any

from blake3 import blake3
from llmspell.v1 import artifact_pb2

from tests.crash.ledgers.ledger import Ledger, Stubs, Work, answered

NAMES = ("report", "log", "picture")
SIZES = (0, 300, 5000, 20_000, 120_000, 400_000)
CONTENTS = 18
"""Different ones; all clients store the same, so that they share blobs."""
PIECE = 64 * 1024

Versions = tuple[int, Mapping[int, int]]
"""The newest version ever, and the number of each version's content."""
Artifacts = dict[str, Versions]


@cache
def content(number: int) -> bytes:
    """One of the contents; every other one can be packed."""
    rng, size = random.Random(f"content {number}"), SIZES[number % len(SIZES)]
    return rng.randbytes(size) if number % 2 else (b"%d a line\n" % number * size)[:size]


@cache
def digest(number: int) -> str:
    """Its name."""
    return str(blake3(content(number)).hexdigest())


class ArtifactLedger(Ledger[Artifacts]):
    """A scope of one client."""

    weight = 3

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, {})
        self.scope = f"custom:art{self.number}"

    def works(self) -> list[Work]:
        """See Ledger."""
        works: list[Work] = [self.put, self.store, self.store]
        if self.known:
            works += [self.delete, self.delete_all] + ([self.read] if self.reads else [])
        return works

    def _stored(self, name: str, number: int) -> Artifacts:
        newest, versions = self.known.get(name, (0, {}))
        return {**self.known, name: (newest + 1, {**versions, newest + 1: number})}

    async def put(self, stubs: Stubs) -> None:
        """In one message."""
        name, number = self.rng.choice(NAMES), self.rng.randrange(CONTENTS)
        header = artifact_pb2.ArtifactHeader(scope=self.scope, name=name, tags=["t"])
        request = artifact_pb2.PutArtifactRequest(header=header, content=content(number))
        answer = await self.ask(stubs.artifacts.PutArtifact, request, self._stored(name, number))
        assert answer.artifact.digest == digest(number)

    async def store(self, stubs: Stubs) -> None:
        """In a stream."""
        name, number = self.rng.choice(NAMES), self.rng.randrange(CONTENTS)
        header = artifact_pb2.ArtifactHeader(scope=self.scope, name=name)

        async def parts() -> AsyncIterator[Any]:
            yield artifact_pb2.StoreArtifactRequest(header=header)
            for begin in range(0, len(content(number)), PIECE):
                piece = content(number)[begin : begin + PIECE]
                yield artifact_pb2.StoreArtifactRequest(chunk=piece)

        async def call(requests: Any, **options: Any) -> Any:
            answers = stubs.artifacts.StoreArtifact(requests, **options)
            (answer,) = [each async for each in answers]
            return answer

        answer = await self.ask(call, parts(), self._stored(name, number))
        assert answer.artifact.digest == digest(number)

    async def delete(self, stubs: Stubs) -> None:
        """One version."""
        name = self.rng.choice(list(self.known))
        newest, versions = self.known[name]
        version = self.rng.choice(list(versions))
        left = {key: each for key, each in versions.items() if key != version}
        after = {**self.known, name: (newest, left)}
        if not left:
            del after[name]
        await self._delete(stubs, artifact_pb2.ArtifactChoice(name=name, version=version), after)

    async def delete_all(self, stubs: Stubs) -> None:
        """All versions of a name."""
        name = self.rng.choice(list(self.known))
        after = {key: each for key, each in self.known.items() if key != name}
        await self._delete(stubs, artifact_pb2.ArtifactChoice(name=name), after, whole=True)

    async def _delete(
        self, stubs: Stubs, choice: Any, after: Artifacts, *, whole: bool = False
    ) -> None:
        choice.scope = self.scope
        request = artifact_pb2.DeleteArtifactRequest(artifact=choice, all_versions=whole)
        answer = await self.ask(stubs.artifacts.DeleteArtifact, request, after)
        assert answer.deleted_count

    async def read(self, stubs: Stubs) -> None:
        """The bytes of one."""
        name = self.rng.choice(list(self.known))
        version, number = self.rng.choice(list(self.known[name][1].items()))
        choice = artifact_pb2.ArtifactChoice(scope=self.scope, name=name, version=version)
        request = artifact_pb2.ReadArtifactRequest(artifact=choice)

        async def call(request: Any, **options: Any) -> bytes:
            pieces = stubs.artifacts.ReadArtifact(request, **options)
            return b"".join([each.chunk async for each in pieces])

        found = await answered(call(request, metadata=self.metadata, timeout=20))
        assert found == content(number), f"client {self.number} reads other bytes of {name}"

    async def check(self, stubs: Stubs) -> None:
        """See Ledger; the bytes of one are read, all of them are where the files are looked at."""
        found: dict[str, dict[int, str]] = {}
        request = artifact_pb2.ListArtifactsRequest(scope=self.scope, page_size=1000)
        while True:
            page = await stubs.artifacts.ListArtifacts(request, metadata=self.metadata)
            for each in page.artifacts:
                found.setdefault(each.name, {})[each.version] = each.digest
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        candidates = [self.known] if self.maybe is None else [self.maybe, self.known]
        fitting = [each for each in candidates if found == _digests(each)]
        words = f"client {self.number} after {self.answers} answers, artifacts: {found}"
        assert fitting, f"{words}, but {_digests(self.known)}"
        self.known, self.maybe = fitting[0], None
        if self.known:
            await self.read(stubs)


def _digests(artifacts: Artifacts) -> dict[str, dict[int, str]]:
    return {
        name: {version: digest(number) for version, number in versions.items()}
        for name, (_, versions) in artifacts.items()
    }
