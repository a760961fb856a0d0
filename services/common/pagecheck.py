"""Whether the pages of an LMDB file belong to one tree each, or are free, and never both.

LMDB takes pages from its list of free ones without a look. If that list is damaged, the next writes
go over pages that hold something, and keys are lost without a word. So the list is held against the
trees here. Pages that make no sense are left to whoever reads records: LMDB refuses those.

Layout of liblmdb 0.9 on 64 bits: a page begins with its number (8 bytes), 2 unused, flags (2), and
the ends of what is used from below and above (2 each; of an overflow page the count of its pages,
4); then come the places of its nodes (2 each). A node: two halves of a size (2 each), flags (2),
size of the key (2), key, data. In a branch the first three are the number of a page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_PAGE = struct.Struct("<QHHHH")
_OVERFLOW_PAGES = struct.Struct("<I")
_NODE = struct.Struct("<HHHH")
_NUMBER = struct.Struct("<Q")
_DATABASE = struct.Struct("<IHHQQQQQ")
_META = struct.Struct("<IIQQ48s48sQQ")
_MAGIC = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG, _DATABASE_WITHIN = 1, 2
_NO_PAGE = 2**64 - 1
_FIRST = 2
"""The number of the first page behind the two headers."""


_NO_SENSE = "its list of free pages makes no sense"


class UnsafeError(Exception):
    """Writing to the file would go over what it holds."""


class _Node(NamedTuple):
    flags: int
    data: memoryview


class _Below(NamedTuple):
    """A page, and which keys belong below it."""

    number: int
    lowest: bytes = b""
    end: bytes | None = None
    """The first that does not; None: none."""


class PageCheck:
    """One look at the pages of a file, as one commit left them."""

    def __init__(self, file: memoryview, page_bytes: int) -> None:
        """`file`: all of it, which must not be written to below what the commit has."""
        self._file = file
        self._page_bytes = page_bytes
        self._owner = bytearray(len(file) // page_bytes)

    def run(self, transaction: int) -> bool:
        """Hold the list of free pages against the trees of a commit.

        Returns:
            Whether its header was found; a writer may have taken its place already.

        Raises:
            UnsafeError: a page is free and in use, or in use twice, or the list makes no sense.
        """
        found = self._databases(transaction)
        if found is None:
            return False
        free, main = found
        for flags, data in self._leaves(main):
            if flags & _DATABASE_WITHIN and len(data) == _DATABASE.size:
                for _ in self._leaves(_root(data)):
                    pass
        lists = [bytes(data) for _, data in self._leaves(free, whole=True)]
        for numbers in lists:
            self._take_free(numbers)
        return True

    def _databases(self, transaction: int) -> tuple[int, int] | None:
        for number in (0, 1):
            begin = number * self._page_bytes + _PAGE.size
            magic, _, _, _, free, main, _, written = _META.unpack_from(self._file, begin)
            if magic == _MAGIC and written == transaction:
                return _root(free), _root(main)
        return None

    def _leaves(self, root: int, *, whole: bool = False) -> Iterator[_Node]:
        """All nodes of the leaves of a tree; its pages are in use from here on.

        Raises:
            UnsafeError: a page of it makes no sense, where it must be `whole`.
        """
        pages = [] if root == _NO_PAGE else [_Below(root)]
        while pages:
            number, lowest, end = pages.pop()
            head = self._head(number)
            if head is None:
                if whole:
                    raise UnsafeError(_NO_SENSE)
                continue
            self._take(number, 1)
            flags, nodes = head
            if flags & _BRANCH:
                pages += self._below(nodes, lowest, end)
                continue
            if nodes and not whole:  # those of the free pages are numbers, in another order
                self._check_between(number, nodes, lowest, end)
            yield from map(self._leaf_node, nodes)

    def _below(self, nodes: Sequence[int], lowest: bytes, end: bytes | None) -> Iterator[_Below]:
        """The pages below a branch; its first node has no key, and stands for all that is less."""
        keys = [lowest, *map(self._key, nodes[1:])][: len(nodes)]
        for place, begin, stop in zip(nodes, keys, [*keys[1:], end], strict=True):
            low, high, highest, _ = _NODE.unpack_from(self._file, place)
            yield _Below(low | high << 16 | highest << 32, begin, stop)

    def _check_between(
        self, number: int, nodes: Sequence[int], lowest: bytes, end: bytes | None
    ) -> None:
        """A key is looked for by the keys of the branches above it."""
        first, last = self._key(nodes[0]), self._key(nodes[-1])
        if first < lowest or (end is not None and last >= end):
            raise UnsafeError(f"keys of page {number} would not be found there")

    def _key(self, place: int) -> bytes:
        key_bytes = _NODE.unpack_from(self._file, place)[3]
        return bytes(self._file[place + _NODE.size : place + _NODE.size + key_bytes])

    def _leaf_node(self, place: int) -> _Node:
        low, high, flags, key_bytes = _NODE.unpack_from(self._file, place)
        begin = place + _NODE.size + key_bytes
        size = low | high << 16
        if not flags & _BIG:
            return _Node(flags, self._file[begin : begin + size])
        (number,) = _NUMBER.unpack_from(self._file, begin)
        head = self._overflow(number)
        if head is None:
            return _Node(flags, self._file[:0])
        self._take(number, head)
        data = number * self._page_bytes + _PAGE.size
        return _Node(flags, self._file[data : data + size])

    def _head(self, number: int) -> tuple[int, list[int]] | None:
        """Flags of a page of a tree, and where its nodes are; None where it is none."""
        begin = number * self._page_bytes
        if not _FIRST <= number < len(self._owner):
            return None
        own, _, flags, lower, upper = _PAGE.unpack_from(self._file, begin)
        count = (lower - _PAGE.size) // 2
        if flags & 0xF not in {_BRANCH, _LEAF} or not 0 <= count <= upper // 2:
            return None
        if own != number:  # LMDB would not see it, and free the wrong page
            raise UnsafeError(f"page {number} is where page {own} should be")
        places = struct.unpack_from(f"<{count}H", self._file, begin + _PAGE.size)
        self._check_filled(number, flags, upper, places)
        return flags, [begin + place for place in places]

    def _check_filled(self, number: int, flags: int, upper: int, places: Sequence[int]) -> None:
        """Nodes fill a page from where they begin to its end; LMDB moves them as if they did."""
        begin, at = number * self._page_bytes, upper
        for place in sorted(places):
            if place != at or at + _NODE.size > self._page_bytes:
                break
            low, high, kind, key_bytes = _NODE.unpack_from(self._file, begin + place)
            size = _NODE.size + key_bytes
            if flags & _LEAF:
                size += _NUMBER.size if kind & _BIG else low | high << 16
            at += size + size % 2
        if at != self._page_bytes:
            raise UnsafeError(f"the nodes of page {number} do not fill it")

    def _overflow(self, number: int) -> int | None:
        """How many pages an overflow page begins; None where it is none."""
        if not _FIRST <= number < len(self._owner):
            return None
        begin = number * self._page_bytes
        own, _, flags, _, _ = _PAGE.unpack_from(self._file, begin)
        (count,) = _OVERFLOW_PAGES.unpack_from(self._file, begin + 12)
        if own != number or flags & 0xF != _OVERFLOW or number + count > len(self._owner):
            return None
        return int(count)

    def _take(self, number: int, count: int) -> None:
        if any(self._owner[number : number + count]):
            raise UnsafeError(f"page {number} is in use twice")
        self._owner[number : number + count] = b"\1" * count

    def _take_free(self, stored: bytes) -> None:
        if len(stored) % _NUMBER.size or not stored:
            raise UnsafeError(_NO_SENSE)
        count, *numbers = (each[0] for each in _NUMBER.iter_unpack(stored))
        for number in numbers[:count]:
            if number < _FIRST:
                raise UnsafeError(_NO_SENSE)
            if number < len(self._owner):  # the file may end before a page that is free
                self._free(number)

    def _free(self, number: int) -> None:
        if self._owner[number]:
            raise UnsafeError(f"page {number} is free and in use")
        self._owner[number] = 2


def _root(database: Any) -> int:
    return int(_DATABASE.unpack(database)[-1])
