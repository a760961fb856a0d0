"""The audit log in the store: added to, read, verified; nothing in it is ever changed.

One chain for all tenants. What a request named is beside the chain, under its tenant, and goes
with it: the chain holds a digest of it only.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from services.common.audit_chain import (
    Decision,
    Entry,
    Finding,
    Head,
    Link,
    Named,
    Verdict,
    Walk,
    link,
    written_line,
)
from services.common.context import derive_key
from services.common.errors import ServiceError
from services.common.expiry import SLICE
from services.common.limits import AUDIT_EXPORT_CHUNK_BYTES
from services.common.store import Txn, View
from services.state.layout import AUDIT, AUDIT_HEADS, AUDIT_NAMES, tenant_prefix
from services.state.layout import audit as layout
from services.state.step import Keeper, Step

_LOOKED_AT_MAX = 5_000
"""Entries, wanted or not, after which a page ends."""
_AT_ONCE = 500
"""Entries that are read together; others have their turn in between."""


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry that is to be added."""

    entry: Entry
    resource: str = ""
    """What the request named."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry that is kept."""

    link: Link
    entry: Entry
    named: Named

    @property
    def is_erased(self) -> bool:
        """Whether what it named is gone."""
        return bool(self.entry.resource_digest) and not self.named.salt


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries are asked for."""

    tenant: str = ""
    """Only its own; empty: all."""
    principal: str = ""
    method: str = ""
    """Of a method, or of all of a service: `TenantService/*`."""
    decision: Decision = ""
    start_ns: int = 0
    end_ns: int | None = None

    def wants(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        return (
            (not self.principal or entry.principal == self.principal)
            and (not self.method or _is_of(entry.method, self.method))
            and (not self.decision or entry.decision == self.decision)
            and entry.time_ns >= self.start_ns
            and (self.end_ns is None or entry.time_ns < self.end_ns)
        )


class AuditLog:
    """Entries of all tenants over one engine."""

    def __init__(self, keeper: Keeper, *, key: bytes, slice_size: int = SLICE) -> None:
        """`key`: the context key; the head's tag is made with one derived from it."""
        self._keeper = keeper
        self._key = derive_key(key, "audit head")
        self._slice_size = slice_size

    async def append(self, entries: Sequence[NewEntry], *, urgent: bool = False) -> Head:
        """Add entries, all or none; answer when they are on disk.

        Args:
            entries: In order.
            urgent: They may use the room that is kept for removals.

        Raises:
            ServiceError: STORAGE_FULL, SERVICE_UNAVAILABLE.
        """

        def operation(txn: Txn) -> Head:
            head = _head(txn)
            for new in entries:
                head = _add(txn, head, new)
            txn.put(AUDIT_HEADS, layout.HEAD_KEY, layout.pack_head(head, self._key))
            return head

        return await self._keeper.engine.write(operation, grows=not urgent)

    async def list(
        self, query: AuditQuery, *, before: int, limit: int
    ) -> tuple[Sequence[Kept], int]:
        """Entries before a place, the newest first, and the place to go on before; 0: the end.

        Args:
            query: Which.
            before: 0: from the newest on.
            limit: At most so many.
        """
        found: list[Kept] = []
        looked = last = 0
        with self._keeper.engine.read() as view:
            for kept in _newest_first(view, query.tenant, before):
                looked, last = looked + 1, kept.link.sequence
                found += [kept] if query.wants(kept.entry) else []
                if len(found) == limit or looked == _LOOKED_AT_MAX:
                    return found, last if last > 1 else 0
        return found, 0

    async def verify(self, noted: Head | None) -> Verdict:
        """Walk along the whole chain.

        Args:
            noted: A head that was noted elsewhere; None: there is none.
        """
        walk = Walk(Head())
        while True:
            with self._keeper.engine.read() as view:
                found, more = _walk_on(view, walk, noted)
                if found is None and not more:
                    found = self._end(view, walk) or (walk.end(noted) if noted else None)
            if found is not None or not more:
                return Verdict(found, walk.count, walk.head)

    def _end(self, view: View, walk: Walk) -> Finding | None:
        """Whether the note of the head is the store's own, and that of the last entry."""
        try:
            head, tag = layout.unpack_head(view.get(AUDIT_HEADS, layout.HEAD_KEY))
        except ServiceError:
            return Finding("head", walk.head.sequence)
        if head == Head() and walk.head == Head():
            return None
        if tag != head.tag(self._key):
            return Finding("head", head.sequence)
        return walk.end(head) or (None if head == walk.head else Finding("head", head.sequence))

    async def export(self, tenant: str, *, after: int) -> AsyncGenerator[bytes, None]:
        """Lines in order, some at a time.

        Args:
            tenant: Only its own; empty: all.
            after: Only what comes after this place.
        """
        while True:
            chunk, size, start = [], 0, after
            with self._keeper.engine.read() as view:
                for kept in itertools.islice(_in_order(view, tenant, after), _AT_ONCE):
                    line = written_line(kept.link, kept.named)
                    chunk.append(line)
                    size, after = size + len(line), kept.link.sequence
                    if size >= AUDIT_EXPORT_CHUNK_BYTES:
                        break
            if after == start:
                return
            yield b"".join(chunk)

    async def purge(self, tenant: str) -> None:
        """Erase what requests of a tenant have named; the entries stay."""
        after = b""

        def operation(step: Step) -> bool:
            nonlocal after
            prefix = tenant_prefix(tenant)
            keys = step.txn.key_slice(AUDIT_NAMES, prefix, limit=self._slice_size, after=after)
            for key in keys:
                step.txn.put(AUDIT_NAMES, key, b"")
            after = keys[-1] if keys else after
            return len(keys) == self._slice_size

        await self._keeper.repeat(operation)


def _is_of(method: str, asked: str) -> bool:
    if asked.endswith("/*"):
        return method.startswith(asked[:-1])
    return method == asked


def _head(view: View) -> Head:
    return layout.unpack_head(view.get(AUDIT_HEADS, layout.HEAD_KEY))[0]


def _add(txn: Txn, head: Head, new: NewEntry) -> Head:
    named = Named.new(new.resource)
    digest = named.digest if named.salt else ""
    each = link(head, msgspec.structs.replace(new.entry, resource_digest=digest))
    txn.append(AUDIT, layout.entry_key(each.sequence), each.packed())
    txn.put(AUDIT_NAMES, layout.name_key(new.entry.tenant, each.sequence), named.packed())
    return Head(each.sequence, each.hash)


def _newest_first(view: View, tenant: str, before: int) -> Iterator[Kept]:
    if not tenant:
        stop = layout.entry_key(before) if before else b""
        for key, stored in view.back(AUDIT, b"", before=stop):
            yield _kept(view, Link.unpacked(layout.sequence_of(key), stored))
        return
    stop = layout.name_key(tenant, before) if before else b""
    for key, _ in view.back(AUDIT_NAMES, tenant_prefix(tenant), before=stop):
        yield from _by_name(view, key)


def _in_order(view: View, tenant: str, after: int) -> Iterator[Kept]:
    if not tenant:
        for key, stored in view.scan(AUDIT, b"", after=layout.entry_key(after)):
            yield _kept(view, Link.unpacked(layout.sequence_of(key), stored))
        return
    start = layout.name_key(tenant, after)
    for key in view.keys(AUDIT_NAMES, tenant_prefix(tenant), after=start):
        yield from _by_name(view, key)


def _by_name(view: View, key: bytes) -> Iterator[Kept]:
    sequence = layout.sequence_of(key)
    stored = view.get(AUDIT, layout.entry_key(sequence))
    if stored is not None:  # else it was removed, as verifying tells
        yield _kept(view, Link.unpacked(sequence, stored))


def _kept(view: View, each: Link) -> Kept:
    entry = each.entry
    stored = view.get(AUDIT_NAMES, layout.name_key(entry.tenant, each.sequence))
    return Kept(each, entry, Named.unpacked(stored or b""))


def _walk_on(view: View, walk: Walk, noted: Head | None) -> tuple[Finding | None, bool]:
    """Walk along the next entries; what is wrong first, and whether there are more."""
    after = layout.entry_key(walk.head.sequence)
    keys = view.key_slice(AUDIT, b"", limit=_AT_ONCE, after=after)
    for key in keys:
        found = _take(view, walk, key)
        if found is None and noted and noted.sequence == walk.head.sequence:
            found = walk.end(noted)
        if found is not None:
            return found, False
    return None, len(keys) == _AT_ONCE


def _take(view: View, walk: Walk, key: bytes) -> Finding | None:
    sequence = layout.sequence_of(key)
    try:
        each = Link.unpacked(sequence, view.get(AUDIT, key) or b"")
        tenant = each.entry.tenant
        stored = view.get(AUDIT_NAMES, layout.name_key(tenant, sequence))
        named = None if stored is None else Named.unpacked(stored)
    except (ServiceError, msgspec.DecodeError, UnicodeDecodeError):
        return Finding("altered", sequence)
    return walk.take(each, named)
