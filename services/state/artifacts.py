"""Artifacts: named bytes with versions, over any engine and any place for blobs.

The tenant comes first in every call and separates everything, the bytes too. An artifact is there
once its bytes and its record are on disk, or not at all: bytes are written aside, put in place, and
only then is the record committed. All that touches files runs in threads.

A name has versions, numbered from 1; each store adds one and changes none. Bytes are kept once for
each tenant, however many artifacts have them, and are removed when the last one is (`collector`).
What is read is verified: every piece by its seal, and bytes that are read from the first to the
last by their digest before the last of them is given out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec
from blake3 import blake3

from services.common.damage import Damages, name_of
from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.expiry import SLICE
from services.common.limits import ARTIFACT_BYTES_MAX, ARTIFACT_CHUNK_BYTES_MAX
from services.common.store import View
from services.state import artifact_rules as rules
from services.state.artifact_model import (
    Artifact,
    ArtifactPage,
    Choice,
    Draft,
    Query,
    Stored,
)
from services.state.artifact_step import (
    ArtifactStep,
    at_order,
    find,
    newest_version,
    versions_of,
)
from services.state.blob_format import Blob, BlobKey, BlobReader, Damaged
from services.state.blobs import UNREADABLE, Blobs, Pins, Upload, corrupt
from services.state.collector import Collector
from services.state.layout import ARTIFACT_ORDER
from services.state.layout import artifacts as layout
from services.state.model import Changed, Once
from services.state.requests import Requests
from services.state.rules import check_place, check_request_id, page_limit
from services.state.step import Keeper, Step

log = logging.getLogger(__name__)

_READ_BYTES = 512 * 1024
"""Bytes of a piece that is read: larger ones cost more processor time, since the memory allocator
gives theirs back to the kernel after each."""
_LOOKED_AT_MAX = 2_000
"""Artifacts after which a page ends, whether they are meant or not."""


class Artifacts:
    """Artifacts of all tenants."""

    def __init__(
        self,
        keeper: Keeper,
        blobs: Blobs,
        *,
        slice_size: int = SLICE,
        damages: Damages | None = None,
    ) -> None:
        """`slice_size`: keys that one step of a purge removes; `damages`: of those it heals."""
        self._damages = Damages() if damages is None else damages
        self.heal: Callable[[str, str], Awaitable[bool]] = _heals_nothing
        """Puts bytes back that are damaged, by tenant and digest; whether it did."""
        self._keeper = keeper
        self._blobs = blobs
        self._pins = Pins()
        self._requests = Requests(keeper)
        self._slice_size = slice_size
        self._finishing: set[asyncio.Task[Stored]] = set()
        self.collector = Collector(keeper, blobs, self._pins)

    async def store(
        self,
        tenant: str,
        draft: Draft,
        chunks: AsyncIterator[bytes] | Iterable[bytes],
        *,
        once: Once | None = None,
    ) -> Stored:
        """Add a version of a name from bytes that come in pieces; nothing stays where they end.

        Args:
            tenant: Whose.
            draft: What is to be known of it.
            chunks: Its bytes.
            once: What the store is known by when it is repeated; the bytes count too.

        Raises:
            ServiceError: FIELD_INVALID, FIELD_REQUIRED, LIMIT_EXCEEDED, DIGEST_MISMATCH,
                STORAGE_FULL, REQUEST_ID_REUSED; what the pieces raise.
        """
        rules.check_draft(tenant, draft)
        if once is not None:
            check_request_id(once.request_id)
        async with self._upload(tenant) as upload:
            if isinstance(chunks, AsyncIterator):
                size = 0
                async for chunk in chunks:
                    size += len(chunk)
                    rules.check_size(size)
                    await asyncio.to_thread(upload.write, chunk)
                blob = await asyncio.to_thread(upload.finish)
            else:
                blob = await asyncio.to_thread(_write_all, upload, chunks)
            rules.check_content(draft, blob)
            return await self._unstopped(self._keep(tenant, draft, blob, upload, once))

    async def get(self, tenant: str, choice: Choice) -> Artifact:
        """What is known of an artifact.

        Raises:
            ServiceError: ARTIFACT_NOT_FOUND.
        """
        rules.check_choice(tenant, choice)
        with self._keeper.engine.read() as view:
            found = find(view, tenant, choice)
        if found is None:
            raise rules.not_found(choice)
        return found

    async def read(
        self,
        tenant: str,
        choice: Choice,
        *,
        offset: int = 0,
        length: int | None = None,
        chunk_bytes: int = _READ_BYTES,
    ) -> AsyncGenerator[tuple[Artifact, bytes], None]:
        """An artifact's bytes from `offset` on, in pieces; at least one, which may be empty.

        Raises:
            ServiceError: ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT, FIELD_INVALID where `offset` is
                behind the end.
        """
        artifact, reader = await self._open_healed(tenant, choice)
        try:
            end = _end(artifact, offset, length)
            whole = offset == 0 and end == artifact.size_bytes
            hasher = blake3() if whole else None
            yielded = False
            while offset < end or not yielded:
                take = min(chunk_bytes, end - offset)
                last = offset + take == end
                try:
                    piece = await asyncio.to_thread(_read, reader, offset, take, hasher, last=last)
                except ServiceError as error:
                    reader.close()
                    artifact, reader = await self._healed(tenant, choice, error)
                    piece = await asyncio.to_thread(_read, reader, offset, take, hasher, last=last)
                yield artifact, piece
                yielded = True
                offset += take
        finally:
            reader.close()

    async def fetch(
        self, tenant: str, choice: Choice, *, offset: int, length: int
    ) -> tuple[Artifact, bytes]:
        """One piece of an artifact's bytes.

        Raises:
            ServiceError: as `read`; LIMIT_EXCEEDED.
        """
        if length > ARTIFACT_CHUNK_BYTES_MAX:
            raise limit_exceeded("length", length, ARTIFACT_CHUNK_BYTES_MAX, "bytes")
        pieces = self.read(
            tenant, choice, offset=offset, length=length, chunk_bytes=ARTIFACT_CHUNK_BYTES_MAX
        )
        try:
            return await anext(pieces)
        finally:
            await pieces.aclose()

    async def list(
        self, tenant: str, query: Query, *, limit: int, after: int | None = None
    ) -> ArtifactPage:
        """Artifacts of a scope in the order in which they were stored.

        A page may be short, or empty, before the end. So read on until its cursor is None.

        Args:
            tenant: Whose.
            query: Which.
            limit: At most so many.
            after: The cursor of the page before.

        Raises:
            ServiceError: FIELD_INVALID, LIMIT_EXCEEDED.
        """
        rules.check_query(tenant, query)
        most = page_limit(limit)
        with self._keeper.engine.read() as view:
            return _page(view, tenant, query, limit=most, after=after)

    async def versions(
        self, tenant: str, scope: str, name: str, *, limit: int, after: int = 0
    ) -> ArtifactPage:
        """The versions of a name, the oldest first; the cursor is a version.

        Raises:
            ServiceError: FIELD_INVALID, FIELD_REQUIRED.
        """
        check_place(tenant, scope)
        rules.check_name(name)
        most = page_limit(limit)
        with self._keeper.engine.read() as view:
            later = (
                each for each in versions_of(view, tenant, scope, name) if each.version > after
            )
            found = list(itertools.islice(later, most + 1))
        more = len(found) > most
        found = found[:most]
        return ArtifactPage(found, found[-1].version if more else None)

    async def delete(self, tenant: str, choice: Choice, *, all_versions: bool = False) -> Changed:
        """Remove the artifact that is meant, or all versions of a name; none is no error.

        Raises:
            ServiceError: FIELD_REQUIRED where a name is given without a version and
                `all_versions` is not.
        """
        rules.check_choice(tenant, choice)
        rules.check_deletion(choice, all_versions=all_versions)

        def operation(step: Step) -> Changed:
            deleted = ArtifactStep(step).delete(tenant, choice, all_versions=all_versions)
            return Changed(step.revision, deleted)

        return await self._keeper.step(operation)

    async def delete_scope(self, tenant: str, scope: str) -> int:
        """Remove all artifacts of a scope, a slice at a time; how many."""
        check_place(tenant, scope)
        return await self._in_slices(
            lambda step: ArtifactStep(step).delete_scope(tenant, scope, self._slice_size)
        )

    async def purge(self, tenant: str) -> int:
        """Erase all artifacts that a tenant has, and all its bytes; how many."""
        check_place(tenant, "global")
        deleted = await self._in_slices(
            lambda step: ArtifactStep(step).purge(tenant, self._slice_size)
        )
        while await self.collector.sweep_tenant(tenant):
            pass
        await asyncio.to_thread(self._blobs.remove_folder, tenant)
        return deleted

    async def sweep(self, limit: int = SLICE) -> int:
        """Remove up to `limit` blobs that nobody needs; how many."""
        return await self.collector.sweep(limit)

    async def tidy_up(self) -> None:
        """Remove what a crash has left; once after a start, and slowly."""
        try:
            await self.collector.sweep_orphans()
        except (OSError, ServiceError) as error:
            log.warning("files without artifacts were not looked for", extra={"why": str(error)})

    async def close(self) -> None:
        """Wait for what is being committed."""
        await asyncio.gather(*self._finishing, return_exceptions=True)

    async def _keep(
        self, tenant: str, draft: Draft, blob: Blob, upload: Upload, once: Once | None
    ) -> Stored:
        """Put bytes in place, then commit the record; the pin lasts until that is certain."""
        key, made = BlobKey(tenant, blob.digest), False
        if once is not None:
            once = msgspec.structs.replace(once, digest=once.digest + blob.digest)

        def operation(step: Step) -> Stored:
            nonlocal made
            artifact = ArtifactStep(step).store(tenant, draft, blob)
            made = True
            return Stored(artifact, step.revision)

        try:
            async with self._pins.hold(key):
                await asyncio.to_thread(upload.publish)
                self._damages.healed(name_of("artifact", blob.digest.hex()))
                stored = await self._requests.step(tenant, once, Stored, operation, grows=True)
        except Exception:  # but not where the process ends: the record may yet be committed
            await self.collector.collect([key])
            raise
        if not made:  # it was before, and what it made is perhaps gone
            await self.collector.collect([key])
        return stored

    async def _unstopped(self, work: Awaitable[Stored]) -> Stored:
        """Await what goes on to its end even if whoever asked for it has gone."""
        task = asyncio.ensure_future(work)
        self._finishing.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Stored]) -> None:
        self._finishing.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits, if anyone still does

    @asynccontextmanager
    async def _upload(self, tenant: str) -> AsyncIterator[Upload]:
        """Bytes that are being taken; at the end nothing is left of them that was not kept."""
        upload = await asyncio.to_thread(self._blobs.begin, tenant)
        try:
            yield upload
        finally:
            if not upload.is_published:
                await asyncio.shield(asyncio.to_thread(upload.discard))

    async def _open(self, tenant: str, choice: Choice) -> tuple[Artifact, BlobReader]:
        artifact = await self.get(tenant, choice)
        while True:
            try:
                opened = await asyncio.to_thread(self._blobs.open, tenant, artifact.digest)
            except FileNotFoundError:
                again = await self.get(tenant, choice)  # it may have been deleted meanwhile
                if again == artifact:
                    raise corrupt(artifact.digest, "they are missing") from None
                artifact = again
            except Damaged as error:
                raise corrupt(artifact.digest, str(error)) from None
            except OSError as error:
                if error.errno not in UNREADABLE:  # too many open files, say, is no damage
                    raise
                raise corrupt(artifact.digest, "they cannot be read") from error
            else:
                return artifact, opened

    async def _open_healed(self, tenant: str, choice: Choice) -> tuple[Artifact, BlobReader]:
        try:
            return await self._open(tenant, choice)
        except ServiceError as error:
            return await self._healed(tenant, choice, error)

    async def _healed(
        self, tenant: str, choice: Choice, error: ServiceError
    ) -> tuple[Artifact, BlobReader]:
        """Open it once more if its bytes were damaged and are whole again; else the error."""
        if error.reason != Reason.ARTIFACT_CORRUPT:
            raise error
        if not await self.heal(tenant, error.metadata["digest"]):
            raise error
        return await self._open(tenant, choice)

    async def _in_slices(self, work: Callable[[Step], tuple[int, bool]]) -> int:
        """Steps one after the other, others' in between, until there is nothing more to do."""
        total, more = 0, True
        while more:
            done, more = await self._keeper.step(work)
            total += done
        return total


async def _heals_nothing(tenant: str, digest: str) -> bool:
    del tenant, digest
    return False


def _page(view: View, tenant: str, query: Query, *, limit: int, after: int | None) -> ArtifactPage:
    found: list[Artifact] = []
    last: int | None = None
    for number, (place, stored) in enumerate(_entries(view, tenant, query, after)):
        if len(found) == limit or number == _LOOKED_AT_MAX:
            return ArtifactPage(found, last)
        last = layout.sequence_of(place)
        artifact = at_order(view, tenant, query.scope, stored)
        if artifact is not None and _is_meant(view, tenant, query, artifact):
            found.append(artifact)
    return ArtifactPage(found, None)


def _entries(
    view: View, tenant: str, query: Query, after: int | None
) -> Iterable[tuple[bytes, bytes]]:
    prefix = layout.scope_prefix(tenant, query.scope)
    cursor = b"" if after is None else layout.order_key(tenant, query.scope, after)
    if query.newest_first:
        return view.back(ARTIFACT_ORDER, prefix, before=cursor)
    return view.scan(ARTIFACT_ORDER, prefix, after=cursor)


def _is_meant(view: View, tenant: str, query: Query, artifact: Artifact) -> bool:
    if not rules.matches(query, artifact):
        return False
    if not query.newest_only:
        return True
    return newest_version(view, tenant, query.scope, artifact.name) == artifact.version


def _end(artifact: Artifact, offset: int, length: int | None) -> int:
    """Where reading ends."""
    if not 0 <= offset <= artifact.size_bytes:
        raise field_invalid("offset", f"must be at most {artifact.size_bytes}, the size")
    return min(artifact.size_bytes, offset + (ARTIFACT_BYTES_MAX if length is None else length))


def _read(
    reader: BlobReader, offset: int, length: int, hasher: blake3 | None, *, last: bool
) -> bytes:
    """A piece; the last one of all is given only if the digest of all of them is right.

    Raises:
        ServiceError: ARTIFACT_CORRUPT.
    """
    try:
        piece = reader.read(offset, length)
    except (Damaged, OSError) as error:
        why = str(error) if isinstance(error, Damaged) else "they cannot be read"
        raise corrupt(reader.digest, why) from error
    if len(piece) != length:
        raise corrupt(reader.digest, "some are missing")
    if hasher is not None:
        hasher.update(piece)
        if last and hasher.digest() != reader.digest:
            raise corrupt(reader.digest, "their digest is another")
    return piece


def _write_all(upload: Upload, chunks: Iterable[bytes]) -> Blob:
    """What is there already is taken in one thread's turn."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        rules.check_size(size)
        upload.write(chunk)
    return upload.finish()
