"""Keyring: seals what tenants keep, each tenant's with a data key of its own.

A data key is 32 random bytes, kept in the store wrapped by the master key (see `layout.vault`). It
is made with the first value that a tenant keeps, in the same transaction. Each time it is asked
for, the wrapped key is read where the value is read or written, so that a key that was given up
with its transaction, or destroyed, is gone at once; only what unwrapping makes of the bytes is
remembered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.clock import Clock, SystemClock
from services.common.store import Txn, View
from services.common.view import META, Slice, open_slice, record_corrupt, seal_slice
from services.state.file_key import KEY_BYTES, FileKey, Nonces
from services.state.layout import KEYS, SEALED
from services.state.layout import vault as layout
from services.state.layout.vault import DataKey, MasterRecord
from services.state.master_key import NO_MASTER, MasterKeys

KEYS_REMEMBERED_MAX = 4096
"""Data keys that stay unwrapped; one takes a kilobyte, and unwrapping one 3 microseconds."""

_MASTER = b"master"
_FILE = b"file"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one tenant's data key."""

    tenant: str
    number: int
    create_time_ns: int
    master_id: bytes


class Keyring:
    """How state keeps values: sealed where there is a master key, with a checksum where not."""

    databases = SEALED

    def __init__(self, masters: MasterKeys = NO_MASTER, *, clock: Clock | None = None) -> None:
        self.masters = masters
        """Replaced as a whole while master keys are rotated."""
        self.plain_refused = False
        """Whether every value must be sealed: once none from before encryption is left."""
        self._clock = clock or SystemClock()
        self._nonces = Nonces()
        self._unwrap = lru_cache(KEYS_REMEMBERED_MAX)(self._unwrapped)

    @property
    def is_on(self) -> bool:
        """Whether new values are sealed."""
        return self.masters.current is not None

    def seal(self, txn: Txn, database: str, key: bytes, value: bytes) -> bytes:
        """See Cipher."""
        if self.masters.current is None:
            return layout.pack_plain(key, value)
        version, aead = self._current(txn, key[: key.index(0)])
        head = layout.pack_head(version)
        nonce = self._nonces.take()
        return head + nonce + aead.encrypt(nonce, value, _bound_to(database, key, head))

    def open(self, view: View, database: str, key: bytes, stored: bytes) -> bytes:
        """See Cipher."""
        version = layout.sealed_version(stored)
        if version is None:
            if self.plain_refused:
                raise record_corrupt(database, key, "is not sealed, as all here must be,")
            return layout.unpack_plain(database, key, stored)
        aead = self._version(view, key[: key.index(0)], version)
        if aead is None:
            raise record_corrupt(database, key, "is sealed with a key that is no longer there,")
        head, nonce, sealed = layout.sealed_parts(stored)
        try:
            return aead.decrypt(nonce, sealed, _bound_to(database, key, head))
        except (InvalidTag, ValueError):
            raise record_corrupt(database, key, "fails its seal") from None

    def seal_slice(self, txn: Txn, database: str, records: Slice) -> list[bytes]:
        """See Cipher."""
        if self.masters.current is None:
            return seal_slice(records, tagged=True)
        pairs = zip(records.keys, records.values, strict=True)
        return [self.seal(txn, database, key, value) for key, value in pairs]

    def open_slice(self, view: View, database: str, pairs: list[tuple[bytes, bytes]]) -> Slice:
        """See Cipher."""
        if self.masters.current is None:
            return open_slice(database, pairs, tagged=True)
        keys = [key for key, _ in pairs]
        return Slice(keys, [self.open(view, database, key, stored) for key, stored in pairs])

    def admit(self, view: View) -> None:
        """See Cipher.

        Raises:
            ServiceError: MASTER_KEY_MISSING, MASTER_KEY_WRONG; RECORD_CORRUPT where the note was
                changed by somebody who has no key.
        """
        record = read_master(view)
        if record is None:
            return
        self.masters.check(record)
        self.plain_refused = not record.plain_left

    def begin(self, txn: Txn) -> None:
        """See Cipher. A store with values that are not sealed yet is noted as such."""
        current = self.masters.current
        if current is None:
            return
        record = read_master(txn)
        if record is None:
            plain = any(txn.count(database) for database in self.databases)
            record = MasterRecord(current.key_id, plain_left=plain)
            self.write_master(txn, record)
        elif record.master_id != current.key_id:  # it opened with the previous one
            self.write_master(txn, succeeded(record, current.key_id))
        self.plain_refused = not record.plain_left

    def write_master(self, txn: Txn, record: MasterRecord) -> None:
        """Note which master key is in force, with the proof that its holder says so."""
        txn.put(META, _MASTER, msgspec.msgpack.encode(self.masters.proven(record)))

    def add_version(self, txn: Txn, tenant: str) -> int:
        """Make a data key that new values of the tenant are sealed with; its version."""
        return self._add(txn, tenant.encode())[0]

    def blob_key(self, view: View, tenant: str) -> FileKey | None:
        """The key for the files of a tenant's artifacts; None where there is none."""
        place = layout.version_key(tenant.encode(), layout.BLOB_KEY)
        stored = view.get(KEYS, place)
        return None if stored is None else FileKey(self._raw(place, stored))

    def make_blob_key(self, txn: Txn, tenant: str) -> None:
        """Make that key, where there is none."""
        place = layout.version_key(tenant.encode(), layout.BLOB_KEY)
        if not txn.has(KEYS, place):
            self._write(txn, place, os.urandom(KEY_BYTES), self._clock.now_ns())

    def versions(self, view: View, tenant: str = "") -> Iterator[Version]:
        """The keys of a tenant, or of all, in order of tenant and version; that of files last."""
        prefix = layout.ring_prefix(tenant.encode()) if tenant else b""
        for key, stored in view.scan(KEYS, prefix):
            owner, number = layout.split_version_key(key)
            if number:
                data_key = layout.unpack_data_key(stored)
                yield Version(owner, number, data_key.create_time_ns, data_key.master_id)

    def current_version(self, view: View, tenant: str) -> int:
        """The version that new values are sealed with; 0 where the tenant has no key."""
        stored = view.get(KEYS, layout.ring_prefix(tenant.encode()))
        return 0 if stored is None else layout.unpack_version(stored)

    def destroy(self, txn: Txn, tenant: str, *, below: int | None = None) -> int:
        """Remove a tenant's data keys, or those of older versions; how many."""
        gone = [each.number for each in self.versions(txn, tenant)]
        if below is None:
            txn.delete_prefix(KEYS, layout.ring_prefix(tenant.encode()))
        else:
            gone = [number for number in gone if number < below]
            for number in gone:
                txn.delete(KEYS, layout.version_key(tenant.encode(), number))
        txn.memo.clear()
        self._unwrap.cache_clear()
        return len(gone)

    def wrap_file_key(self, key: FileKey) -> bytes:
        """A file's key for its header, so that only a holder of this master key reads the file.

        Raises:
            ServiceError: MASTER_KEY_MISSING where nothing is encrypted here.
        """
        master = self.masters.needed()
        return master.key_id + master.wrap(key.raw, _FILE)

    def unwrap_file_key(self, wrapped: bytes) -> FileKey:
        """What `wrap_file_key` wrapped, with the master key in force or the one before.

        Raises:
            ServiceError: MASTER_KEY_MISSING, MASTER_KEY_WRONG with the id of the right one,
                RECORD_CORRUPT.
        """
        master = self.masters.of(wrapped[: layout.ID_BYTES])
        try:
            return FileKey(master.unwrap(wrapped[layout.ID_BYTES :], _FILE))
        except (InvalidTag, ValueError):
            raise record_corrupt("file key", _FILE, "fails its seal") from None

    def rewrap(self, txn: Txn, version: Version) -> None:
        """Wrap a data key with the master key in force instead of the one before."""
        assert self.masters.current is not None
        tenant = version.tenant.encode()
        place = layout.version_key(tenant, version.number)
        stored = txn.get(KEYS, place)
        if stored is None:  # destroyed meanwhile
            return
        data_key = layout.unpack_data_key(stored)
        raw = self.masters.of(data_key.master_id).unwrap(data_key.wrapped, place)
        self._write(txn, place, raw, data_key.create_time_ns)

    def _current(self, txn: Txn, tenant: bytes) -> tuple[int, AESGCM]:
        found: tuple[int, AESGCM] | None = txn.memo.get(tenant)
        if found is None:
            stored = txn.get(KEYS, layout.ring_prefix(tenant))
            if stored is None:
                return self._add(txn, tenant)
            version = layout.unpack_version(stored)
            aead = self._version(txn, tenant, version)
            if aead is None:
                raise record_corrupt(KEYS, layout.version_key(tenant, version), "is missing")
            found = txn.memo[tenant] = version, aead
        return found

    def _version(self, view: View, tenant: bytes, version: int) -> AESGCM | None:
        known: AESGCM | None = view.memo.get((tenant, version))
        if known is None:
            place = layout.version_key(tenant, version)
            stored = view.get(KEYS, place)
            if stored is None:
                return None
            known = view.memo[tenant, version] = self._unwrap(place, stored)
        return known

    def _unwrapped(self, place: bytes, stored: bytes) -> AESGCM:
        return AESGCM(self._raw(place, stored))

    def _raw(self, place: bytes, stored: bytes) -> bytes:
        data_key = layout.unpack_data_key(stored)
        master = self.masters.of(data_key.master_id)
        try:
            return master.unwrap(data_key.wrapped, place)
        except InvalidTag:
            raise record_corrupt(KEYS, place, "fails its seal") from None

    def _add(self, txn: Txn, tenant: bytes) -> tuple[int, AESGCM]:
        stored = txn.get(KEYS, layout.ring_prefix(tenant))
        version = 1 if stored is None else layout.unpack_version(stored) + 1
        raw = os.urandom(KEY_BYTES)
        self._write(txn, layout.version_key(tenant, version), raw, self._clock.now_ns())
        txn.put(KEYS, layout.ring_prefix(tenant), layout.pack_version(version))
        txn.memo.clear()
        return version, AESGCM(raw)

    def _write(self, txn: Txn, place: bytes, raw: bytes, create_time_ns: int) -> None:
        master = self.masters.current
        assert master is not None
        data_key = DataKey(master.key_id, create_time_ns, master.wrap(raw, place))
        txn.put(KEYS, place, layout.pack_data_key(data_key))


def read_master(view: View) -> MasterRecord | None:
    """What the store notes of its master key; None where it is not encrypted."""
    stored = view.get(META, _MASTER)
    return None if stored is None else msgspec.msgpack.decode(stored, type=MasterRecord)


def succeeded(record: MasterRecord, key_id: bytes) -> MasterRecord:
    """The note once another master key is in force, and the data keys are still to be moved."""
    return msgspec.structs.replace(record, master_id=key_id, previous_id=record.master_id)


def _bound_to(database: str, key: bytes, head: bytes) -> bytes:
    return b"%b\0%b%b" % (database.encode(), head, key)
