"""Framing and the shape of trees, without any process."""

import socket

import msgspec
import pytest

from services.common.limits import FRAME_BYTES_MAX, FRAME_DEPTH_MAX, FRAME_NODES_MAX
from services.runtime.frames import (
    HEADER,
    FrameError,
    Kind,
    RunOrder,
    check_tree,
    pack,
    parse_header,
    receive,
)


def check(data):
    """With the limits in force."""
    check_tree(data, depth_max=FRAME_DEPTH_MAX, nodes_max=FRAME_NODES_MAX)


def test_a_frame_is_length_kind_payload():
    """Parts are joined; the header tells their length together."""
    frame = pack(Kind.CALL, b"ab", b"c")
    assert frame == b"\x03\0\0\0\x12abc"
    assert parse_header(frame[: HEADER.size], 3) == (Kind.CALL, 3)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.pack(FRAME_BYTES_MAX + 1, Kind.OUTPUT), "a frame of 2097153 bytes"),
        (HEADER.pack(0xFFFFFFFF, Kind.OUTPUT), "a frame of 4294967295 bytes"),
        (HEADER.pack(0, 99), "unknown kind 99"),
    ],
)
def test_a_bad_header_is_refused_before_its_payload_is_read(header, message):
    """Length and kind are checked on five bytes."""
    with pytest.raises(FrameError, match=message):
        parse_header(header, FRAME_BYTES_MAX)


def test_receive_puts_pieces_together_and_notices_the_end():
    """A frame may arrive in pieces; half a frame and then nothing is the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frame = pack(Kind.REPLY, b"x" * 1000)
        ours.sendall(frame[:3])
        ours.sendall(frame[3:])
        assert receive(theirs) == (Kind.REPLY, b"x" * 1000)
        ours.sendall(frame[:-1])
        ours.close()
        with pytest.raises(EOFError):
            receive(theirs)


def test_an_order_survives_the_way():
    """Header, source and arguments come back as they were."""
    order = RunOrder({"name": "é", "limits": {"depth": 1}}, b"\0\xff", b"\x80")
    assert RunOrder.parse(order.payload()) == order
    with pytest.raises(FrameError):
        RunOrder.parse(b"\xff\0\0\0{}")


@pytest.mark.parametrize(
    "tree",
    [
        None,
        True,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        1.5,
        "",
        "x" * 40,
        "x" * 300,
        "x" * 70_000,
        b"",
        b"x" * 300,
        b"x" * 70_000,
        [],
        [1] * 20,
        [1] * 70_000,
        {},
        {"a": [1, {"b": None}]},
        {str(n): n for n in range(20)},
        {str(n): n for n in range(40_000)},
    ],
    ids=lambda tree: f"{type(tree).__name__}{str(tree)[:8]}",
)
def test_well_formed_trees_pass(tree):
    """Every family of the format is known."""
    check(msgspec.msgpack.encode(tree))


def nested(depth):
    """A list in a list, so many deep."""
    return b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends within"),
        (b"\xc1", "lead byte 0xc1"),
        (b"\xc7\x01\x01x", "lead byte 0xc7"),
        (b"\xd4\x01x", "lead byte 0xd4"),
        (b"\xc0\xc0", "after the end"),
        (b"\xa5abc", "ends within"),
        (b"\xdb\xff\xff\xff\xffa", "ends within"),
        (b"\xcb\0", "ends within"),
        (b"\x92\xc0", "ends within"),
        (b"\xdd\xff\xff\xff\xff", "more than 100000 values"),
        (b"\xdf\x00\x00\xff\xff", "more than 100000 values"),
        (b"\xdc\xff\xff" * 4, "ends within"),
        (b"\x81\x01\x01", "key that is not text"),
        (b"\x82\xa1a\x01\xc4\x01a\x01", "key that is not text"),
        (b"\x81\x90\x01", "key that is not text"),
        (nested(65), "deeper than 64"),
        (nested(2_000_000), "deeper than 64"),
        (b"\x81\xa1a" * 65 + b"\xc0", "deeper than 64"),
    ],
)
def test_trees_that_would_hurt_are_refused(data, message):
    """Depth, count, lengths, keys and leftovers are checked before anything is built."""
    with pytest.raises(FrameError, match=message):
        check(data)


def test_depth_and_count_limits_are_exact():
    """The limit passes, one more does not."""
    check(nested(64))
    check(msgspec.msgpack.encode([1] * (FRAME_NODES_MAX - 1)))
    with pytest.raises(FrameError):
        check(msgspec.msgpack.encode([1] * FRAME_NODES_MAX))
