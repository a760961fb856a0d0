"""Artifacts of the asyncio client; `_blocking_artifacts` says more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Unpack
from uuid import uuid4

from llmspell import _artifacts
from llmspell import types as t
from llmspell._awaiting import AsyncCaller
from llmspell.errors import LLMSpellError, Unavailable
from llmspell.v1.artifact_pb2 import ArtifactHeader


class AsyncArtifactCalls(AsyncCaller):
    """What a client does with artifacts."""

    async def put_artifact(
        self,
        name: str,
        content: t.Content,
        *,
        scope: str = "global",
        request_id: str = "",
        **details: Unpack[_artifacts.Details],
    ) -> t.Artifact:
        """Store bytes as a new version of a name; they are on disk when this returns.

        Large content goes out as it is read, so that it never has to be in memory as a whole.

        Args:
            name: At most 256 bytes.
            content: Bytes, a `pathlib.Path`, a file of bytes, or pieces of bytes; at most 1 GiB.
            scope: Usually `session:ID`.
            request_id: Makes it one store, however often it is asked for within ten minutes; one is
                made where there is none. A store that no answer came to is tried again, unless
                the content can be read only once.
            details: `artifact_type`, `mime_type`, `description`, `tags`, `metadata`,
                `parent_digest`, `digest` (store only if the bytes have it), `keep_versions`.

        Raises:
            InvalidArgument: DIGEST_MISMATCH, LIMIT_EXCEEDED, REQUEST_ID_REUSED.
            ResourceExhausted: STORAGE_FULL.
        """
        head = _artifacts.header(name, scope, details, content)
        request_id = request_id or uuid4().hex
        for pause_s in _artifacts.pauses_s(content):
            try:
                return await self._put(head, content, request_id)
            except Unavailable:
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError

    async def _put(self, head: ArtifactHeader, content: t.Content, request_id: str) -> t.Artifact:
        chunks = _chunks(content)
        first = [chunk async for chunk in _take(chunks, 2)]
        if len(first) < 2:  # noqa: PLR2004  (one message holds it)
            return await self._unary(_artifacts.put(head, b"".join(first), request_id))
        exchange = _artifacts.store_awaiting(head, _chain(first, chunks), request_id)
        async with aclosing(self._exchange(exchange)) as answers:
            return await anext(answers)

    async def get_artifact(
        self,
        name: str = "",
        *,
        scope: str = "global",
        version: int = 0,
        digest: str = "",
        sequence: int = 0,
    ) -> t.Artifact:
        """What is known of an artifact: by name (the newest version), digest or sequence.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
        """
        which = _artifacts.choice(name, scope, version=version, digest=digest, sequence=sequence)
        return await self._unary(_artifacts.get(which))

    def read_artifact(
        self,
        name: str = "",
        *,
        scope: str = "global",
        version: int = 0,
        digest: str = "",
        sequence: int = 0,
        offset: int = 0,
        length: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """An artifact's bytes in pieces of up to 1 MiB, from `offset` on.

        A reading that is cut off goes on where it was. One of the whole artifact ends with a check
        of all its bytes.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
            DataLoss: ARTIFACT_CORRUPT.
        """
        which = _artifacts.choice(name, scope, version=version, digest=digest, sequence=sequence)
        return self._read(_artifacts.Reading(which, offset, length))

    async def fetch_artifact(
        self,
        name: str = "",
        *,
        offset: int,
        length: int = _artifacts.CHUNK_BYTES,
        scope: str = "global",
        version: int = 0,
        digest: str = "",
        sequence: int = 0,
    ) -> bytes:
        """One range of an artifact's bytes, at most 1 MiB; shorter at the end.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
            DataLoss: ARTIFACT_CORRUPT.
        """
        which = _artifacts.choice(name, scope, version=version, digest=digest, sequence=sequence)
        return await self._unary(_artifacts.fetch(which, offset, length))

    async def download_artifact(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        scope: str = "global",
        version: int = 0,
        digest: str = "",
        sequence: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> t.Artifact:
        """Write an artifact into a file, which appears whole and checked, or not at all.

        Args:
            name: Empty where a digest or a sequence says which one.
            path: The file; one that is there is replaced.
            scope: Where the artifact is.
            version: 0: the newest.
            digest: See `get_artifact`.
            sequence: See `get_artifact`.
            progress: Called with bytes written and bytes in all.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
            DataLoss: ARTIFACT_CORRUPT.
            OSError: the file cannot be written.
        """
        which = _artifacts.choice(name, scope, version=version, digest=digest, sequence=sequence)
        reading = _artifacts.Reading(which, 0, None)
        aside = Path(f"{os.fspath(path)}.part")
        try:
            with aside.open("wb") as file:  # noqa: ASYNC230  (only made; written in a thread)
                async for piece in self._read(reading):
                    await asyncio.to_thread(file.write, piece)
                    if progress is not None and reading.artifact is not None:
                        progress(file.tell(), reading.artifact.size_bytes)
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        assert reading.artifact is not None
        return reading.artifact

    def list_artifacts(
        self, *, scope: str = "global", **query: Unpack[_artifacts.Query]
    ) -> AsyncIterator[t.Artifact]:
        """Artifacts of a scope in the order of storing; pages come as they are needed.

        Args:
            scope: Usually `session:ID`.
            query: `artifact_type`, `name_pattern` (`*`, `?`), `tags` (all of them), `created` (two
                times), `size_bytes_min`, `size_bytes_max`, `newest_only`, `newest_first`.
        """
        return self._entries(_artifacts.list_artifacts(scope, query))

    def list_artifact_versions(
        self, name: str, *, scope: str = "global"
    ) -> AsyncIterator[t.Artifact]:
        """The versions of a name, the oldest first."""
        return self._entries(_artifacts.list_versions(name, scope))

    async def delete_artifact(
        self,
        name: str = "",
        *,
        scope: str = "global",
        version: int = 0,
        digest: str = "",
        sequence: int = 0,
        all_versions: bool = False,
    ) -> int:
        """Remove one artifact, or all versions of a name; how many were there."""
        which = _artifacts.choice(name, scope, version=version, digest=digest, sequence=sequence)
        return await self._unary(_artifacts.delete(which, all_versions=all_versions))

    async def _read(self, reading: _artifacts.Reading) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with aclosing(self._stream(reading.call())) as pieces:
                    async for piece in pieces:
                        yield piece
            except LLMSpellError as error:
                if not reading.goes_on(error):
                    raise
            else:
                reading.check()
                return


def _chunks(content: t.Content) -> AsyncIterator[bytes]:
    if isinstance(content, AsyncIterable):
        return _artifacts.awaited_pieces(content)
    return _in_thread(content)


async def _in_thread(content: t.Content) -> AsyncIterator[bytes]:
    """Chunks that are read in a thread: a file may be slow."""
    chunks = _artifacts.pieces(content)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _take(chunks: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        chunk = await anext(chunks, None)
        if chunk is None:
            return
        yield chunk


async def _chain(first: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in first:
        yield chunk
    async for chunk in rest:
        yield chunk
