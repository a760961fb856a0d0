"""What the embedded engine does to records inside a transaction.

Each function runs in the store's writer thread, in a child transaction: it writes all of what it
says or, where it raises, nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from services.common.limits import UPDATE_MATCHES_MAX
from services.common.store import Txn
from services.vector.allowances import UNLIMITED, Allowance
from services.vector.checks import Batch, encode_metadata
from services.vector.engines import layout, places, postings, reads
from services.vector.engines.changes import Change, Edit, Place
from services.vector.engines.layout import CollectionRow, EndRow, Entry, Payload
from services.vector.filters import matches
from services.vector.model import (
    EmbeddingIdentity,
    Filter,
    MetadataChange,
    NewRecord,
    Vector,
)
from services.vector.refusals import (
    collection_not_found,
    embedding_mismatch,
    restricted_by_row_filter,
    too_many_matches,
)
from services.vector.segments.rows import NO_TIME
from services.vector.times import times_from

_decode = msgspec.msgpack.Decoder(dict).decode


class Records:
    """The changes that one transaction makes to one collection's records."""

    def __init__(self, txn: Txn, key: bytes, row: CollectionRow, now_ns: int) -> None:
        self.row = row
        self.edit = Edit(member=row.member)
        self._txn = txn
        self._key = key
        self._now_ns = now_ns
        self._namespace = row.namespace
        self._space = reads.need_namespace(txn, row.namespace)
        self._first_label = self._space.next_label
        self._added: list[tuple[int, bytes]] = []
        self._removed: list[tuple[int, bytes]] = []
        self._counts = [row.record_count, row.stored_bytes, row.history_count, row.history_bytes]

    def entry(self, record_id: str) -> Entry | None:
        """Where a record is, if there is one; expired ones that were not swept are."""
        value = self._txn.get(layout.IDS, self._id_key(record_id))
        return None if value is None else layout.unpack_entry(value)

    def payload(self, entry: Entry) -> Payload:
        """What belongs to a record."""
        return reads.need_payload(self._txn, self._namespace, entry.label)

    def vector(self, entry: Entry) -> Vector:
        """A record's vector."""
        return reads.need_vector(self._txn, self._namespace, entry.label)

    def ids_with(self, prefixes: Sequence[str]) -> Iterator[str]:
        """Ids that begin with one of the prefixes."""
        for prefix in prefixes:
            for key in list(self._txn.keys(layout.IDS, self._id_key(prefix))):
                yield layout.read_record_id(key)

    def matching(self, where: Filter) -> list[str]:
        """Ids of the records that match and have not expired."""
        found = reads.matching_labels(self._txn, self.row, where)
        payloads = (reads.need_payload(self._txn, self._namespace, int(label)) for label in found)
        return [each.record_id for each in payloads if each.expire_time_ns > self._now_ns]

    def remove_all(self, record_ids: Iterable[str], *, row_filter: Filter | None = None) -> int:
        """Remove records by id; how many were there and, if asked, match."""
        count = 0
        for record_id in record_ids:
            entry = self.entry(record_id)
            if entry is None:
                continue
            payload = self.payload(entry)
            if row_filter is not None and not matches(row_filter, _decode(payload.metadata)):
                continue
            self.remove(entry, payload, min(self._now_ns, entry.expire_time_ns))
            count += 1
        return count

    def remove(self, entry: Entry, payload: Payload, end_ns: int) -> None:
        """Remove a record; where a history is kept, it goes there."""
        txn, place = self._txn, layout.label_key(self._namespace, entry.label)
        txn.delete(layout.IDS, self._id_key(payload.record_id))
        if entry.expire_time_ns != layout.NEVER:
            due = layout.due_key(entry.expire_time_ns, self._namespace, entry.label)
            txn.delete(layout.EXPIRY, due)
        self._removed.append((entry.label, bytes(payload.metadata)))
        self._count(-1, -entry.size_bytes)
        window = self.row.history_window_ns
        if not window:
            txn.delete(layout.VECTORS, place)
            txn.delete(layout.PAYLOADS, place)
            self.edit.removed.append((entry.label, NO_TIME))
            return
        end = EndRow(end_ns, end_ns + window, entry.size_bytes)
        txn.put(layout.ENDS, place, layout.pack_end(end))
        txn.put(layout.HISTORY, layout.due_key(end.due_ns, self._namespace, entry.label), b"")
        self._count_history(1, entry.size_bytes)
        self.edit.removed.append((entry.label, end_ns))

    def put(self, vector: Vector, payload: Payload) -> None:
        """Write a record under the next label."""
        label = self._first_label + len(self.edit.labels)
        stored = vector.astype("<f4", copy=False).tobytes()
        size = len(stored) + len(payload.metadata) + len(payload.text.encode())
        entry = Entry(label, payload.expire_time_ns, payload.revision, size)
        place = layout.label_key(self._namespace, label)
        self._txn.append(layout.VECTORS, place, stored)
        self._txn.append(layout.PAYLOADS, place, layout.pack(payload))
        self._txn.put(layout.IDS, self._id_key(payload.record_id), layout.pack_entry(entry))
        if payload.expire_time_ns != layout.NEVER:
            due = layout.due_key(payload.expire_time_ns, self._namespace, label)
            self._txn.put(layout.EXPIRY, due, payload.record_id.encode())
        self._added.append((label, bytes(payload.metadata)))
        self._count(1, size)
        edit = self.edit
        edit.labels.append(label)
        edit.record_ids.append(payload.record_id)
        edit.vectors.append(vector)
        edit.ingest_times_ns.append(payload.ingest_time_ns)
        edit.event_times_ns.append(
            NO_TIME if payload.event_time_ns is None else payload.event_time_ns
        )
        edit.expire_times_ns.append(payload.expire_time_ns)

    def finish(self, revision: int) -> None:
        """Write what belongs to all of them together."""
        txn, number = self._txn, self._namespace
        postings.remove(txn, number, self._removed)
        postings.add(txn, number, self._added)
        if self._space.shared:
            erased = [label for label, end_ns in self.edit.removed if end_ns == NO_TIME]
            postings.remove_members(txn, number, self.row.member, erased)
            postings.add_members(txn, number, self.row.member, self.edit.labels)
        if self.edit.labels:
            space = msgspec.structs.replace(
                self._space, next_label=self._first_label + len(self.edit.labels)
            )
            txn.put(layout.NAMESPACES, layout.namespace_key(number), layout.pack(space))
        records, stored, history, history_bytes = self._counts
        row = msgspec.structs.replace(
            self.row,
            record_count=records,
            stored_bytes=stored,
            history_count=history,
            history_bytes=history_bytes,
            records_revision=revision,
        )
        txn.put(layout.COLLECTIONS, self._key, layout.pack(row))

    def growth(self) -> tuple[int, int]:
        """Records and bytes that the transaction added, what a history keeps with them."""
        records, stored, _, history_bytes = self._counts
        row = self.row
        return (
            records - row.record_count,
            stored + history_bytes - row.stored_bytes - row.history_bytes,
        )

    def _id_key(self, record_id: str) -> bytes:
        return layout.id_key(self._namespace, self.row.member, record_id)

    def _count(self, records: int, size: int) -> None:
        self._counts[0] += records
        self._counts[1] += size

    def _count_history(self, records: int, size: int) -> None:
        self._counts[2] += records
        self._counts[3] += size


def upsert(
    txn: Txn,
    place: Place,
    batch: Batch,
    *,
    namespace: tuple[int, int],
    now_ns: int,
    replace_prefixes: Sequence[str],
    row_filter: Filter | None = None,
    embedding: EmbeddingIdentity | None = None,
    allowance: Allowance = UNLIMITED,
) -> Change:
    """Write a batch that was checked against the collection that had this namespace and member.

    Raises:
        ServiceError: COLLECTION_NOT_FOUND, also where another has taken its name since;
            PERMISSION_DENIED where `row_filter` does not let a record through; EMBEDDING_MISMATCH;
            TENANT_LIMIT_REACHED.
    """
    records = _open(txn, place, now_ns)
    if records is not None and embedding is not None:
        held = reads.embedding_of(records.row)
        if held != embedding:
            raise embedding_mismatch(place[2], held, embedding)
    if records is None or (records.row.namespace, records.row.member) != namespace:
        raise collection_not_found(*place[1:])
    if row_filter is not None:
        _check_rows(records, batch, replace_prefixes, row_filter)
    replaced = records.remove_all(records.ids_with(replace_prefixes))
    if not batch.records and not replaced:
        return Change(txn.revision())
    revision = txn.next_revision()
    ttl_ns = reads.record_ttl(txn, place, records.row)
    records.remove_all(batch.records)
    for record_id, record in batch.records.items():
        payload = _payload(
            record_id,
            record,
            batch.metadata[record_id],
            revision=revision,
            now_ns=now_ns,
            member=records.row.member,
            ttl_ns=ttl_ns,
        )
        records.put(record.vector, payload)
    change = _finish(records, revision, replaced)
    check_room(txn, place[0], records, allowance, now_ns)
    return change


def update_metadata(
    txn: Txn,
    place: Place,
    change: MetadataChange,
    *,
    record_ids: Sequence[str],
    where: Filter | None,
    row_filter: Filter | None,
    now_ns: int,
    allowance: Allowance = UNLIMITED,
) -> Change:
    """Write records again with other metadata.

    Raises:
        ServiceError: COLLECTION_NOT_FOUND, LIMIT_EXCEEDED, PERMISSION_DENIED, TENANT_LIMIT_REACHED.
    """
    records = _open(txn, place, now_ns)
    if records is None:
        raise collection_not_found(*place[1:])
    chosen = list(dict.fromkeys(record_ids)) if where is None else records.matching(where)
    if where is not None and len(chosen) > UPDATE_MATCHES_MAX:
        raise too_many_matches(len(chosen), UPDATE_MATCHES_MAX)
    found = list(_changed(records, chosen, change, row_filter=row_filter, now_ns=now_ns))
    if not found:
        return Change(txn.revision())
    revision = txn.next_revision()
    for entry, old, metadata in found:
        vector = records.vector(entry)
        records.remove(entry, old, now_ns)
        payload = msgspec.structs.replace(
            old, revision=revision, ingest_time_ns=now_ns, metadata=msgspec.Raw(metadata)
        )
        records.put(vector, payload)
    done = _finish(records, revision, len(found))
    check_room(txn, place[0], records, allowance, now_ns)
    return done


def remove(
    txn: Txn,
    place: Place,
    *,
    record_ids: Sequence[str] = (),
    prefixes: Sequence[str] = (),
    where: Filter | None = None,
    row_filter: Filter | None = None,
    now_ns: int,
) -> Change:
    """Remove records by id, by the beginning of their id, or by filter."""
    records = _open(txn, place, now_ns)
    if records is None:
        return Change(txn.revision())
    chosen = record_ids if where is None else records.matching(where)
    count = records.remove_all(chosen, row_filter=row_filter)
    count += records.remove_all(records.ids_with(prefixes), row_filter=row_filter)
    if not count:
        return Change(txn.revision())
    return _finish(records, txn.next_revision(), count)


def expire(txn: Txn, now_ns: int, limit: int) -> Change:
    """Remove up to `limit` records whose time has come, the longest expired first."""
    due: dict[tuple[int, int], list[Entry]] = {}
    change = Change(txn.revision())
    for number, (key, _) in enumerate(txn.scan(layout.EXPIRY, b"")):
        expire_time_ns, namespace, label = layout.read_due_key(key)
        if expire_time_ns > now_ns or number == limit:
            break
        payload = reads.need_payload(txn, namespace, label)
        place = layout.id_key(namespace, payload.member, payload.record_id)
        stored = txn.get(layout.IDS, place)
        if stored is not None:
            member = (namespace, payload.member)
            due.setdefault(member, []).append(layout.unpack_entry(stored))
    opened = []
    for member, entries in due.items():
        owner = txn.get(layout.MEMBERS, layout.member_key(*member))
        row = None if owner is None else txn.get(layout.COLLECTIONS, owner)
        if owner is None or row is None:  # doomed: `erase` removes record and entry together
            continue
        records = Records(txn, owner, layout.unpack_row(row), now_ns)
        for entry in entries:
            records.remove(entry, records.payload(entry), entry.expire_time_ns)
        change.count += len(entries)
        opened.append(records)
    if opened:
        change.revision = txn.next_revision()
    for records in opened:
        records.finish(change.revision)
        change.add(records.row.namespace, records.edit)
    return change


def forget_history(txn: Txn, now_ns: int, limit: int) -> Change:
    """Erase up to `limit` records that no search can look back to.

    Nobody can see them any more, so this takes no revision.
    """
    change = Change(txn.revision())
    for key in list(_due(txn, layout.HISTORY, now_ns, limit)):
        _, namespace, label = layout.read_due_key(key)
        place = layout.label_key(namespace, label)
        payload = reads.need_payload(txn, namespace, label)
        size = reads.need_end(txn, namespace, label).size_bytes
        for database in (layout.VECTORS, layout.PAYLOADS, layout.ENDS):
            txn.delete(database, place)
        txn.delete(layout.HISTORY, key)
        postings.remove_members(txn, namespace, payload.member, [label])
        places.count_history(txn, namespace, payload.member, size)
        change.add(namespace, Edit(forgotten=[label]))
        change.count += 1
    return change


def _due(txn: Txn, database: str, now_ns: int, limit: int) -> Iterator[bytes]:
    for number, key in enumerate(txn.keys(database, b"")):
        if number == limit or layout.read_due_key(key)[0] > now_ns:
            return
        yield key


def check_room(txn: Txn, tenant: str, records: Records, allowance: Allowance, now_ns: int) -> None:
    """Refuse a write that made a tenant have more than it may; a shadow is no more of it.

    Raises:
        ServiceError: TENANT_LIMIT_REACHED: the write is undone.
    """
    if allowance == UNLIMITED or records.row.role:
        return
    vectors, size = reads.total(txn, tenant, now_ns)
    more_vectors, more_bytes = records.growth()
    allowance.check_room(vectors, size, more_vectors=more_vectors, more_bytes=more_bytes)


def _open(txn: Txn, place: Place, now_ns: int) -> Records | None:
    row = reads.row(txn, place, now_ns)
    key = layout.collection_key(*place)
    return None if row is None else Records(txn, key, row, now_ns)


def _finish(records: Records, revision: int, count: int) -> Change:
    records.finish(revision)
    change = Change(revision, count=count)
    change.add(records.row.namespace, records.edit)
    return change


def _check_rows(
    records: Records, batch: Batch, prefixes: Sequence[str], row_filter: Filter
) -> None:
    """Refuse to write what a caller may not see, and to replace it."""
    for record_id, metadata in batch.metadata.items():
        if not matches(row_filter, _decode(metadata)):
            raise restricted_by_row_filter(record_id)
    for record_id in (*batch.records, *records.ids_with(prefixes)):
        entry = records.entry(record_id)
        if entry and not matches(row_filter, _decode(records.payload(entry).metadata)):
            raise restricted_by_row_filter(record_id)


def _changed(
    records: Records,
    record_ids: Sequence[str],
    change: MetadataChange,
    *,
    row_filter: Filter | None,
    now_ns: int,
) -> Iterator[tuple[Entry, Payload, bytes]]:
    """Records that are there, may be seen and have not expired, with what they are to hold."""
    for record_id in record_ids:
        entry = records.entry(record_id)
        if entry is None or entry.expire_time_ns <= now_ns:
            continue
        payload = records.payload(entry)
        old = _decode(payload.metadata)
        if row_filter is not None and not matches(row_filter, old):
            continue
        kept = {} if change.replace else {k: v for k, v in old.items() if k not in change.remove}
        new = kept | change.set
        if row_filter is not None and not matches(row_filter, new):
            raise restricted_by_row_filter(record_id)
        yield entry, payload, encode_metadata(new, "set")


def _payload(
    record_id: str,
    record: NewRecord,
    metadata: bytes,
    *,
    revision: int,
    now_ns: int,
    member: int,
    ttl_ns: int | None,
) -> Payload:
    times = record.copied or times_from(now_ns, record.ttl_ns, ttl_ns)
    ends = times.expire_time_ns
    return Payload(
        record_id=record_id,
        revision=revision,
        ingest_time_ns=times.ingest_time_ns,
        expire_time_ns=layout.NEVER if ends is None else ends,
        event_time_ns=record.event_time_ns,
        metadata=msgspec.Raw(metadata),
        text=record.text,
        member=member,
    )
