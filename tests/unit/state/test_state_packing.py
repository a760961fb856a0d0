"""services.state.layout.items: values that are kept packed, and what damage to them does."""

import random
import struct

import lz4.block
import pytest

from services.common.errors import Reason, ServiceError
from services.common.limits import STATE_VALUE_BYTES_MAX
from services.state.layout import items as layout
from services.state.model import Encoding, Item, Value

HEADER_BYTES = struct.calcsize(">BQQQQ")


def stored(content):
    """How an item of this content is kept."""
    return layout.pack_item(
        Item(
            key="k",
            value=Value(Encoding.RAW, content),
            revision=1,
            create_time_ns=1,
            update_time_ns=1,
        )
    )


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 5000, STATE_VALUE_BYTES_MAX])
@pytest.mark.parametrize("alike", [True, False])
def test_a_value_reads_back(size, alike):
    """Of every size, packed or not, the bytes come back, and their length is known before."""
    content = b"ab" * (size // 2) + b"c" * (size % 2) if alike else random.randbytes(size)
    kept = stored(content)
    assert layout.unpack_item("k", kept).value == Value(Encoding.RAW, content)
    assert layout.plain_bytes(kept) == size
    assert layout.unpack_item("k", kept, values=False).value is None
    assert (len(kept) < size) == (alike and size >= 1024)


def test_what_does_not_pay_is_kept_plain():
    """Where packing saves less than an eighth the bytes are kept as they came."""
    content = random.randbytes(9000) + bytes(900)
    assert stored(content).endswith(content)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\0\0",
        struct.pack(">I", 0),
        struct.pack(">I", 2000),
        struct.pack(">I", 1999) + lz4.block.compress(bytes(2000), store_size=False),
        struct.pack(">I", 2001) + lz4.block.compress(bytes(2000), store_size=False),
        struct.pack(">I", 2**32 - 1) + lz4.block.compress(bytes(2000), store_size=False),
        struct.pack(">I", 2000) + b"\xff" * 100,
    ],
)
def test_a_damaged_value_is_not_unpacked(packed):
    """A length that is not the value's, or a block that is none, is told as damage."""
    header = bytearray(stored(bytes(2000))[:HEADER_BYTES])
    with pytest.raises(ServiceError) as info:
        layout.unpack_item("k", bytes(header) + packed)
    assert info.value.reason == Reason.RECORD_CORRUPT


def test_a_bomb_takes_no_memory():
    """A block that says it holds 4 GiB is refused by its length, before a byte of room is taken."""
    header = stored(bytes(2000))[:HEADER_BYTES]
    bomb = header + struct.pack(">I", STATE_VALUE_BYTES_MAX + 1) + b"\x1f\0" + b"\xff" * 5000
    with pytest.raises(ServiceError) as info:
        layout.unpack_item("k", bomb)
    assert info.value.reason == Reason.RECORD_CORRUPT
