"""Seals the files of artifacts where the store is encrypted, each tenant's with one key of its own.

The key is made with a tenant's first artifact and is kept in the key ring. It goes with the tenant,
and is wrapped anew with each master key; a rotation of the tenant's data key leaves it, since every
file would have to be written again. A file from before encryption has checksums and is read as
such: that it is what was stored its digest says, which is kept sealed.
"""

from __future__ import annotations

import asyncio

from services.common.errors import ServiceError
from services.state.blob_format import Checksums, Content, Damaged
from services.state.engine import Engine
from services.state.file_key import FileKey
from services.state.keyring import Keyring


class BlobSeal:
    """See `blob_format.Sealing`. Called in threads, while the event loop goes on."""

    def __init__(self, engine: Engine, ring: Keyring, loop: asyncio.AbstractEventLoop) -> None:
        """`loop`: the one in which the engine's writes are awaited."""
        self._engine = engine
        self._ring = ring
        self._loop = loop
        self._plain = Checksums()

    def seal_chunk(self, tenant: str, context: bytes, plain: bytes) -> bytes:
        """See Sealing."""
        if not self._ring.is_on:
            return self._plain.seal_chunk(tenant, context, plain)
        key = self._key(tenant) or self._made(tenant)
        return key.seal_chunk(context, plain)

    def open_chunk(self, tenant: str, context: bytes, sealed: bytes) -> Content:
        """See Sealing."""
        key = self._key(tenant)
        if key is not None:
            try:
                return key.open_chunk(context, memoryview(sealed))
            except ServiceError:  # of before encryption, or damaged: the checksum tells
                pass
        try:
            return self._plain.open_chunk(tenant, context, sealed)
        except Damaged:
            raise Damaged("a seal does not hold") from None

    def _key(self, tenant: str) -> FileKey | None:
        with self._engine.read() as view:
            return self._ring.blob_key(view, tenant)

    def _made(self, tenant: str) -> FileKey:
        making = self._engine.write(lambda txn: self._ring.make_blob_key(txn, tenant))
        asyncio.run_coroutine_threadsafe(making, self._loop).result()
        key = self._key(tenant)
        assert key is not None, "it has just been made"
        return key
