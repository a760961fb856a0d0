"""Artifacts of the blocking client."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Unpack
from uuid import uuid4

from llmspell import _artifacts
from llmspell import types as t
from llmspell._blocking import BlockingCaller
from llmspell.errors import LLMSpellError, Unavailable
from llmspell.v1.artifact_pb2 import ArtifactHeader


class ArtifactCalls(BlockingCaller):
    """What a client does with artifacts."""

    def put_artifact(
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
                return self._put(head, content, request_id)
            except Unavailable:
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError

    def _put(self, head: ArtifactHeader, content: t.Content, request_id: str) -> t.Artifact:
        chunks = _artifacts.pieces(content)
        first = list(itertools.islice(chunks, 2))
        if len(first) < 2:  # noqa: PLR2004  (one message holds it)
            return self._unary(_artifacts.put(head, b"".join(first), request_id))
        exchange = _artifacts.store(head, itertools.chain(first, chunks), request_id)
        answers = self._exchange(exchange)
        try:
            return next(answers)
        finally:
            answers.close()

    def get_artifact(
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
        return self._unary(_artifacts.get(which))

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
    ) -> Generator[bytes, None, None]:
        """An artifact's bytes in pieces of up to 1 MiB, from `offset` on.

        A reading that is cut off goes on where it was. One of the whole artifact ends with a check
        of all its bytes.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
            DataLoss: ARTIFACT_CORRUPT.
        """
        which = _artifacts.choice(name, scope, version=version, digest=digest, sequence=sequence)
        return self._read(_artifacts.Reading(which, offset, length))

    def fetch_artifact(
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
        return self._unary(_artifacts.fetch(which, offset, length))

    def download_artifact(
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
            with aside.open("wb") as file:
                for piece in self._read(reading):
                    file.write(piece)
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
    ) -> Iterator[t.Artifact]:
        """Artifacts of a scope in the order of storing; pages come as they are needed.

        Args:
            scope: Usually `session:ID`.
            query: `artifact_type`, `name_pattern` (`*`, `?`), `tags` (all of them), `created` (two
                times), `size_bytes_min`, `size_bytes_max`, `newest_only`, `newest_first`.
        """
        return self._entries(_artifacts.list_artifacts(scope, query))

    def list_artifact_versions(self, name: str, *, scope: str = "global") -> Iterator[t.Artifact]:
        """The versions of a name, the oldest first."""
        return self._entries(_artifacts.list_versions(name, scope))

    def delete_artifact(
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
        return self._unary(_artifacts.delete(which, all_versions=all_versions))

    def _read(self, reading: _artifacts.Reading) -> Generator[bytes, None, None]:
        while True:
            try:
                yield from self._stream(reading.call())
            except LLMSpellError as error:
                if not reading.goes_on(error):
                    raise
            else:
                reading.check()
                return
