"""What may happen to a file: each takes its bytes, a source of chance, and an older copy of it."""

from __future__ import annotations

import random

PAGE = 4096


def truncate(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """It has lost its end."""
    return data[: rng.randrange(len(data))]


def flip(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """Twenty bits are other ones."""
    for place in rng.sample(range(len(data)), min(20, len(data))):
        data[place] ^= 1 << rng.randrange(8)
    return data


def flip_one(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """One bit is another one."""
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def zero(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """A page is empty."""
    at, size = _page(data, rng)
    data[at : at + size] = bytes(size)
    return data


def garbage(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """A page is anything."""
    at, size = _page(data, rng)
    data[at : at + size] = rng.randbytes(size)
    return data


def swap(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """Two pages have changed places."""
    (one, size), (two, _) = _page(data, rng), _page(data, rng)
    data[one : one + size], data[two : two + size] = (
        data[two : two + size],
        data[one : one + size],
    )
    return data


def old_page(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """A page is as it was in the older copy."""
    at, size = _page(data[: len(old)], rng)
    data[at : at + size] = old[at : at + size]
    return data


def old_copy(data: bytearray, rng: random.Random, old: bytes) -> bytearray:
    """All of it is as it was."""
    return bytearray(old)


def _page(data: bytes | bytearray, rng: random.Random) -> tuple[int, int]:
    """Where a page begins, and its size; small files have small ones. No header page of LMDB's."""
    if len(data) > 4 * PAGE:
        return PAGE * rng.randrange(2, len(data) // PAGE), PAGE
    size = max(1, len(data) // 8)
    return size * rng.randrange(len(data) // size), size
