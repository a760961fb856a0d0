"""What usearch saves of a graph: the vectors, and the links, for which it has no call.

This is how 2.26 writes it (`save_to_stream` in its `index_dense.hpp` and `index.hpp`). After rows,
bytes a row and the vectors come 64 bytes of head, then five numbers of 64 bits (size, links a node
above and at the bottom, highest level, entry), the level of each node in 16 bits, and the nodes:
key (64), level (16), and for each level, from the bottom up, a count and as many places for slots
as there may be links (32 each).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from services.vector.segments.container import FileRefusedError
from services.vector.segments.rows import Halves, Int64s

Keys = NDArray[np.uint64]

_MATRIX = struct.Struct("<II")
_DENSE_HEAD_BYTES = 64
_HEAD = struct.Struct("<5Q")
_KEY_BYTES, _LEVEL_BYTES, _SLOT_BYTES = 8, 2, 4
_AT_ONCE = 65_536
_FEW_LINKS = 3


def node_vectors(graph: NDArray[np.uint8], rows: int, columns: int) -> Halves:
    """The vectors of a bf16 graph, (rows, columns), in the order of its nodes.

    Raises:
        FileRefusedError: where another usearch wrote it.
    """
    if _MATRIX.unpack_from(graph[: _MATRIX.size].tobytes()) != (rows, 2 * columns):
        raise FileRefusedError("its vectors are not where they should be")
    end = _MATRIX.size + 2 * rows * columns
    return graph[_MATRIX.size : end].view(np.uint16).reshape(rows, columns)


def node_keys(graph: NDArray[np.uint8]) -> Keys:
    """The key of each node, in their order.

    Raises:
        FileRefusedError: where another usearch wrote it.
    """
    return _tape(graph).keys()


def weak(graph: NDArray[np.uint8]) -> Keys:
    """Keys of the nodes that few links lead to at the bottom level, or no path from the entry.

    Raises:
        FileRefusedError: where another usearch wrote it.
    """
    keys, links, entry = _bottom(graph)
    counts = np.bincount(links[links >= 0], minlength=len(keys))
    return keys[(counts <= _FEW_LINKS) | ~_reached(links, entry)]


def _reached(links: NDArray[np.int32], entry: int) -> NDArray[np.bool_]:
    """Whether a path leads from the entry to each node."""
    seen = np.zeros(len(links), np.bool_)
    seen[entry] = True
    front = np.array([entry])
    while len(front):
        near = np.unique(links[front])
        near = near[near >= 0]
        front = near[~seen[near]]
        seen[front] = True
    return seen


def _bottom(graph: NDArray[np.uint8]) -> tuple[Keys, NDArray[np.int32], int]:
    """Keys (n,), links at the bottom level (n, any; -1 for none), and the entry's slot."""
    tape = _tape(graph)
    places = tape.places + _KEY_BYTES + _LEVEL_BYTES
    told = _columns(tape.nodes, places, _SLOT_BYTES * (1 + tape.below)).view(np.uint32)
    links = told[:, 1:].astype(np.int32)
    links[np.arange(tape.below) >= told[:, :1]] = -1
    return tape.keys(), links, tape.entry


@dataclass(frozen=True, slots=True)
class _Tape:
    """Keys and links, as they stand behind the vectors."""

    nodes: NDArray[np.uint8]
    places: Int64s
    """Where each node begins, (n,)."""
    below: int
    """Places for links at the bottom level."""
    entry: int

    def keys(self) -> Keys:
        """The key of each node, (n,)."""
        return _columns(self.nodes, self.places, _KEY_BYTES).view(np.uint64)[:, 0]


def _tape(graph: NDArray[np.uint8]) -> _Tape:
    content = memoryview(cast("Any", graph))
    rows, size = _MATRIX.unpack_from(content)
    start = _MATRIX.size + rows * size + _DENSE_HEAD_BYTES
    count, above, below, _, entry = _HEAD.unpack_from(content, start)
    levels_at = start + _HEAD.size
    nodes_at = levels_at + _LEVEL_BYTES * count
    levels = graph[levels_at:nodes_at].view(np.int16).astype(np.int64)
    head = _KEY_BYTES + _LEVEL_BYTES
    sizes = head + _SLOT_BYTES * (1 + below) + levels * _SLOT_BYTES * (1 + above)
    if count != rows or entry >= count or nodes_at + sizes.sum() != len(graph):
        raise FileRefusedError("its links are not where they should be")
    return _Tape(graph[nodes_at:], np.cumsum(sizes) - sizes, below, entry)


def _columns(nodes: NDArray[np.uint8], places: Int64s, width: int) -> NDArray[np.uint8]:
    """So many bytes from each place on, (n, width)."""
    found = np.empty((len(places), width), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(nodes, width)
    for start in range(0, len(places), _AT_ONCE):
        found[start : start + _AT_ONCE] = windows[places[start : start + _AT_ONCE]]
    return found
