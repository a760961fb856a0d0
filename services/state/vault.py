"""Vault: what is done with keys while the store serves; and the sweep that moves values to them.

A tenant's data key is rotated by making a new version: what is written from then on uses it. The
sweep seals older values again, a slice at a time, and removes the older versions once no value uses
them. The same sweep seals what was kept before encryption was switched on, and wraps data keys
again after the master key was replaced. It forgets where it was when the process ends, and begins
anew: what is done already is only looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.expiry import SLICE
from services.common.store import Txn, View
from services.state.keyring import Keyring, Version, read_master, succeeded
from services.state.layout import tenant_prefix
from services.state.layout import vault as layout
from services.state.master_key import MasterKeys
from services.state.step import Keeper

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LOOKED_AT_MAX = 500
_LOOKED_AT_BYTES_MAX = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand with keys."""

    is_encrypted: bool
    """Whether what is written is sealed."""
    master_id: bytes = b""
    """Tells the master key in force from others."""
    data_key_count: int = 0
    """Data keys of all tenants, older versions included."""
    older_count: int = 0
    """Those among them that values are still to be moved away from."""
    previous_count: int = 0
    """Data keys that are still wrapped with the master key before."""
    plain_left: bool = False
    """Whether values from before encryption may be left."""
    versions: tuple[Version, ...] = ()
    """Data keys of the tenant that was asked for."""
    current_version: int = 0
    """The version that the tenant's new values are sealed with."""


@dataclass(slots=True)
class _Pass:
    """One way through all values that may be kept as they should not be."""

    targets: dict[bytes, int]
    """By tenant: older versions than this are to go."""
    plain: bool
    """Whether what is not sealed is looked for, in all tenants."""
    ranges: list[tuple[str, bytes]]
    """Databases and prefixes that are still to be looked at, the next one last."""
    after: bytes = b""
    damaged: int = 0
    """Values that could not be read; for their sake no key is removed."""

    def is_outdated(self, key: bytes, stored: bytes) -> bool:
        version = layout.sealed_version(stored)
        return version is None or version < self.targets.get(key[: key.index(0)], 0)


class Vault:
    """Keys of all tenants."""

    def __init__(
        self, keeper: Keeper, ring: Keyring, *, read_masters: Callable[[], MasterKeys]
    ) -> None:
        """`read_masters`: looks again for the master keys, where they were found at the start."""
        self.ring = ring
        self._keeper = keeper
        self._read_masters = read_masters
        self._pass: _Pass | None = None
        self._idle = not ring.is_on

    async def rotate_tenant(self, tenant: str) -> int:
        """Make a new data key for a tenant; its version. Older values are moved by the sweep.

        Raises:
            ServiceError: MASTER_KEY_MISSING where nothing is encrypted.
        """
        self.ring.masters.needed()
        version = await self._write(lambda txn: self.ring.add_version(txn, tenant))
        self._idle = False
        return version

    async def rotate_master(self) -> bytes:
        """Put the master key into force that its file holds now; its id.

        The one before must be at hand, in its own file too, until the sweep has wrapped all data
        keys again: a crash in between needs both. Where the file holds the key that is in force
        already, nothing is done.

        Raises:
            ServiceError: MASTER_KEY_MISSING where nothing is encrypted, or the key before is not
                at hand; FIELD_INVALID where the rotation before has not ended; CONFIG_INVALID.
        """
        before = self.ring.masters.needed()
        found = self._read_masters()
        current = found.needed()
        if current.key_id == before.key_id:
            return current.key_id
        found.check_previous(before.key_id)
        self.ring.masters = found  # from here on both open, whatever comes of the rest
        try:
            await self._write(lambda txn: self._succeed(txn, current.key_id))
        except BaseException:
            self.ring.masters = MasterKeys(before, current)
            raise
        self._idle = False
        return current.key_id

    async def destroy(self, tenant: str) -> int:
        """Remove the keys of a tenant that has been erased; how many.

        What was written meanwhile is not lost: then a new key takes the place of the old ones.
        """
        if not self.ring.is_on:
            return 0
        failpoints.hit("vault.before_destroy")
        return await self._write(lambda txn: self._destroy(txn, tenant))

    async def status(self, tenant: str = "") -> Status:
        """How things stand, and which keys a tenant has."""
        current = self.ring.masters.current
        if current is None:
            return Status(is_encrypted=False)
        with self._keeper.engine.read() as view:
            record = read_master(view)
            versions = list(self.ring.versions(view))
            data_keys = [each for each in versions if each.number != layout.BLOB_KEY]
            own = tuple(each for each in data_keys if each.tenant == tenant)
            return Status(
                is_encrypted=True,
                master_id=current.key_id,
                data_key_count=len(data_keys),
                older_count=len(data_keys) - len({each.tenant for each in data_keys}),
                previous_count=sum(each.master_id != current.key_id for each in versions),
                plain_left=record is not None and record.plain_left,
                versions=own,
                current_version=self.ring.current_version(view, tenant) if tenant else 0,
            )

    async def sweep(self, limit: int = SLICE) -> int:
        """Do a slice of what is to be done; `limit` where there is more, else 0."""
        if self._idle:
            return 0
        if self._pass is None:
            done = await self._begin(limit)
        else:
            done = await self._go_on(self._pass, limit)
        await asyncio.sleep(0)  # calls that wait come first
        return 0 if done else limit

    async def _begin(self, limit: int) -> bool:
        """Find out what is to be done; whether there is nothing."""
        with self._keeper.engine.read() as view:
            record = read_master(view)
            versions = list(self.ring.versions(view))
            targets = self._targets(view, versions)
        assert record is not None, "a store that is encrypted says so"
        if record.previous_id:
            await self._rewrap(versions, limit)
            return False
        if not targets and not record.plain_left:
            self._idle = True
            return True
        prefixes = [b""] if record.plain_left else [tenant + b"\0" for tenant in targets]
        ranges = [(name, prefix) for prefix in prefixes for name in sorted(self.ring.databases)]
        self._pass = _Pass(targets, record.plain_left, ranges)
        return False

    def _targets(self, view: View, versions: list[Version]) -> dict[bytes, int]:
        """Tenants with more than one data key, and the version that is to stay."""
        count: dict[str, int] = {}
        for each in versions:
            if each.number != layout.BLOB_KEY:
                count[each.tenant] = count.get(each.tenant, 0) + 1
        several = [tenant for tenant, number in count.items() if number > 1]
        return {tenant.encode(): self.ring.current_version(view, tenant) for tenant in several}

    async def _rewrap(self, versions: list[Version], limit: int) -> None:
        current = self.ring.masters.needed().key_id
        left = [each for each in versions if each.master_id != current]

        def operation(txn: Txn) -> None:
            for version in left[:limit]:
                self.ring.rewrap(txn, version)
            record = read_master(txn)
            if not left and record is not None:
                self.ring.write_master(txn, msgspec.structs.replace(record, previous_id=b""))

        failpoints.hit("vault.before_rewrap")
        await self._write(operation)
        if not left:
            _log.info("all data keys are under the new master key", extra={"id": current.hex()})

    async def _go_on(self, way: _Pass, limit: int) -> bool:
        """Seal a slice again; whether that was the last of all there is to do."""
        if not way.ranges:
            await self._finish(way)
            return False  # there may be another rotation by now
        database, prefix = way.ranges[-1]
        with self._keeper.engine.read() as view:
            doomed, last = _look(view, way, database, prefix, limit)
        if doomed:
            way.damaged += await self._write(lambda txn: _seal_again(txn, database, doomed))
        if last is None:
            way.ranges.pop()
            way.after = b""
        else:
            way.after = last
        return False

    async def _finish(self, way: _Pass) -> None:
        """Nothing uses the older keys any more: remove them."""
        self._pass = None
        if way.damaged:
            self._idle = True  # until something is rotated again, or the process starts anew
            _log.error("values cannot be read; older keys stay", extra={"values": way.damaged})
            return

        def operation(txn: Txn) -> int:
            record = read_master(txn)
            if way.plain and record is not None:
                self.ring.write_master(txn, msgspec.structs.replace(record, plain_left=False))
            return sum(
                self.ring.destroy(txn, tenant.decode(), below=version)
                for tenant, version in way.targets.items()
            )

        failpoints.hit("vault.before_destroy")
        destroyed = await self._write(operation)
        self.ring.plain_refused = self.ring.plain_refused or way.plain
        _log.info("values are sealed with current keys", extra={"keys_destroyed": destroyed})

    def _succeed(self, txn: Txn, key_id: bytes) -> None:
        record = read_master(txn)
        assert record is not None, "a store that is encrypted says so"
        if record.previous_id:
            raise ServiceError(
                Reason.FIELD_INVALID,
                "The rotation of the master key before this one has not ended; try again shortly.",
                field="state.master_key_file",
            )
        self.ring.write_master(txn, succeeded(record, key_id))

    def _destroy(self, txn: Txn, tenant: str) -> int:
        prefix = tenant_prefix(tenant)
        for database in self.ring.databases:
            if next(txn.keys(database, prefix), None) is not None:
                self.ring.add_version(txn, tenant)
                self._idle = False
                return 0
        return self.ring.destroy(txn, tenant)

    async def _write(self, operation: Callable[[Txn], T]) -> T:
        return await self._keeper.engine.write(operation)


def _look(
    view: View, way: _Pass, database: str, prefix: bytes, limit: int
) -> tuple[list[bytes], bytes | None]:
    """Keys whose values are to be sealed again, and the last key where there may be more."""
    doomed: list[bytes] = []
    size = 0
    for number, (key, stored) in enumerate(view.stored(database, prefix, after=way.after), 1):
        size += len(stored)
        if way.is_outdated(key, stored):
            doomed.append(key)
        full = len(doomed) == limit or number == _LOOKED_AT_MAX or size > _LOOKED_AT_BYTES_MAX
        if full:
            return doomed, key
    return doomed, None


def _seal_again(txn: Txn, database: str, keys: list[bytes]) -> int:
    """Read and write the same values; how many could not be read."""
    damaged = 0
    for key in keys:
        try:
            value = txn.get(database, key)
        except ServiceError as error:
            damaged += 1
            _log.error("a value cannot be read", extra=error.metadata)
            continue
        if value is not None:
            txn.put(database, key, value)
    return damaged
