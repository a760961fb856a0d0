"""Which records of a namespace match a filter: sets of labels in the store, by term.

Sets are roaring bitmaps (Lemire et al. 2016), cut into blocks of 65 536 labels, so that a write
touches a few small values; a set of few labels is a list of them. They change in the transaction of
the records they tell of, and are read at a view's revision, so they are never ahead nor behind.

| key | set |
|---|---|
| namespace, LIVING, block | records that are there |
| namespace, MANY, block | those of them with so many terms that they are looked at each time |
| namespace, MEMBER, member, block | rows of one collection of several, its history's among them |
| namespace, TERM, field, kind, value, block | records that have this term |
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from pyroaring import BitMap64

from services.common.store import Txn, View
from services.vector.engines import layout, terms
from services.vector.filters import matches as record_matches
from services.vector.model import Filter
from services.vector.segments.rows import Int64s

LIVING, MANY, MEMBER, TERM = (bytes([kind]) for kind in range(1, 5))

ReadMetadata = Callable[[int], bytes | None]
"""From a label to the MessagePack of its metadata."""

_BLOCK_BITS = 16
_BLOCK = struct.Struct(">Q")
_LABEL = struct.Struct("<Q")
_LIST, _BITMAP = b"\0", b"\1"
_LIST_MAX = 16

_decode = msgspec.msgpack.Decoder(dict).decode


def add(txn: Txn, namespace: int, records: Sequence[tuple[int, bytes]]) -> None:
    """Note records, given as label and metadata."""
    _include(txn, _grouped(namespace, records))


def remove(txn: Txn, namespace: int, records: Sequence[tuple[int, bytes]]) -> None:
    """Forget records that were noted, given as label and metadata."""
    for key, labels in sorted(_grouped(namespace, records).items()):
        _discard(txn, key, labels)


def add_members(txn: Txn, namespace: int, member: int, labels: Sequence[int]) -> None:
    """Say whose rows these are."""
    prefix = _prefix(namespace, MEMBER) + layout.namespace_key(member)
    _include(txn, _by_block(prefix, labels))


def remove_members(txn: Txn, namespace: int, member: int, labels: Sequence[int]) -> None:
    """Forget whose rows these are."""
    prefix = _prefix(namespace, MEMBER) + layout.namespace_key(member)
    for key, some in _by_block(prefix, labels).items():
        _discard(txn, key, some)


def drop(txn: Txn, namespace: int, limit: int) -> int:
    """Erase up to `limit` sets of a namespace that is gone; how many."""
    keys = txn.keys(layout.POSTINGS, layout.namespace_key(namespace))
    doomed = [key for key, _ in zip(keys, range(limit), strict=False)]
    for key in doomed:
        txn.delete(layout.POSTINGS, key)
    return len(doomed)


def living(view: View, namespace: int) -> BitMap64:
    """Labels of the records that are there."""
    return union(view, _prefix(namespace, LIVING))


def members(view: View, namespace: int, member: int) -> BitMap64:
    """Labels of one collection's rows."""
    return union(view, _prefix(namespace, MEMBER) + layout.namespace_key(member))


def many(view: View, namespace: int) -> BitMap64:
    """Labels of the records that have too many terms."""
    return union(view, _prefix(namespace, MANY))


def union(view: View, prefix: bytes) -> BitMap64:
    """All labels in sets whose key begins with `prefix`."""
    return _united(value for _, value in view.scan(layout.POSTINGS, prefix))


def union_between(view: View, start: bytes, stop: bytes) -> BitMap64:
    """All labels in sets whose key is `start` or between it and `stop`."""
    return _united(value for _, value in view.between(layout.POSTINGS, start, stop))


def term_prefix(namespace: int, term: bytes) -> bytes:
    """What the keys of a term's blocks begin with."""
    return _prefix(namespace, TERM) + term


def verified(labels: Iterable[int], where: Filter, read_metadata: ReadMetadata) -> BitMap64:
    """Those labels whose record, looked at, matches."""
    found = BitMap64()
    for label in labels:
        stored = read_metadata(label)
        if stored is not None and record_matches(where, _decode(stored)):
            found.add(label)
    return found


def to_array(labels: BitMap64) -> Int64s:
    """Labels, rising."""
    return np.array(labels.to_array(), np.int64)


def _grouped(namespace: int, records: Sequence[tuple[int, bytes]]) -> dict[bytes, list[int]]:
    """Labels by the key of each set that they belong to."""
    living_prefix, many_prefix = _prefix(namespace, LIVING), _prefix(namespace, MANY)
    term = _prefix(namespace, TERM)
    found: dict[bytes, list[int]] = defaultdict(list)
    for label, metadata in records:
        block = _BLOCK.pack(label >> _BLOCK_BITS)
        found[living_prefix + block].append(label)
        if metadata == _NO_METADATA:
            continue
        try:
            for each in terms.terms_of(metadata):
                found[term + each + block].append(label)
        except terms.TooManyTermsError:
            found[many_prefix + block].append(label)
    return found


_NO_METADATA = msgspec.msgpack.encode({})


def _by_block(prefix: bytes, labels: Sequence[int]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = defaultdict(list)
    for label in labels:
        found[prefix + _BLOCK.pack(label >> _BLOCK_BITS)].append(label)
    return found


def _include(txn: Txn, sets: dict[bytes, list[int]]) -> None:
    """Add labels to sets, in the order of keys, so that one page is changed after another."""
    for key, labels in sorted(sets.items()):
        stored = txn.get(layout.POSTINGS, key)
        if stored is None and len(labels) == 1:  # most values of many are new
            txn.put(layout.POSTINGS, key, _LIST + _LABEL.pack(labels[0]))
            continue
        found = _read(stored)
        found.update(labels)
        txn.put(layout.POSTINGS, key, _written(found))


def _discard(txn: Txn, key: bytes, labels: Sequence[int]) -> None:
    found = _read(txn.get(layout.POSTINGS, key))
    for label in labels:
        found.discard(label)
    if found:
        txn.put(layout.POSTINGS, key, _written(found))
    else:
        txn.delete(layout.POSTINGS, key)


def _prefix(namespace: int, kind: bytes) -> bytes:
    return layout.namespace_key(namespace) + kind


def _read(value: bytes | None) -> set[int] | BitMap64:
    if value is None:
        return set()
    if value[:1] == _LIST:
        return {label for (label,) in _LABEL.iter_unpack(value[1:])}
    return BitMap64.deserialize(value[1:])


def _written(labels: set[int] | BitMap64) -> bytes:
    if len(labels) <= _LIST_MAX:
        return _LIST + b"".join(map(_LABEL.pack, sorted(labels)))
    written: bytes = (labels if isinstance(labels, BitMap64) else BitMap64(labels)).serialize()
    return _BITMAP + written


def _united(values: Iterable[bytes]) -> BitMap64:
    few: list[int] = []
    many_: list[BitMap64] = []
    for value in values:
        if value[:1] == _LIST:
            few.extend(label for (label,) in _LABEL.iter_unpack(value[1:]))
        else:
            many_.append(BitMap64.deserialize(value[1:]))
    found = BitMap64(few)
    return found.union(*many_) if many_ else found
