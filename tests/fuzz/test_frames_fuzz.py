"""Random and mutated bytes against what reads a worker's frames."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.limits import FRAME_BYTES_MAX
from services.runtime.frames import (
    HEADER,
    FrameError,
    Kind,
    RunOrder,
    check_tree,
    pack,
    parse_header,
)
from services.runtime.runs import _parse_call

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=50)
    | st.binary(max_size=50)
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=30,
)


@given(trees)
def test_what_a_codec_writes_passes(tree):
    """No well-formed tree within the limits is refused."""
    check_tree(msgspec.msgpack.encode(tree), depth_max=64, nodes_max=100_000)


@given(st.binary(max_size=200))
def test_what_passes_can_be_built(data):
    """Bytes that pass the check are a tree, unless text in them is not UTF-8."""
    try:
        check_tree(data, depth_max=64, nodes_max=1000)
        msgspec.msgpack.decode(data)
    except FrameError:
        return
    except msgspec.DecodeError as error:
        problem = str(error)
    except UnicodeDecodeError:
        return
    else:
        return
    pytest.fail(problem)


@given(trees, st.data())
def test_a_changed_call_is_a_call_or_an_error(tree, data):
    """One byte changed in a call never does more than break the protocol."""
    call = {"method": "m/x", "args": {"tree": tree}}
    payload = bytearray(msgspec.msgpack.encode(call))
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] = data.draw(st.integers(0, 255))
    try:
        parsed = _parse_call(bytes(payload), 1)
    except FrameError:
        return
    assert isinstance(parsed.method, str)
    assert isinstance(parsed.args, dict)


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_a_header_is_within_the_limit_or_refused(header):
    """No five bytes make the host read more than the limit."""
    try:
        kind, length = parse_header(header, FRAME_BYTES_MAX)
    except FrameError:
        return
    assert length <= FRAME_BYTES_MAX
    assert pack(kind, b"")[4] == header[4]


@given(st.binary(max_size=100), st.binary(max_size=100), st.sampled_from(Kind))
def test_orders_and_frames_come_back(source, arguments, kind):
    """Whatever bytes the parts hold."""
    order = RunOrder({"name": "n"}, source, arguments)
    frame = pack(kind, order.payload())
    assert RunOrder.parse(frame[HEADER.size :]) == order
    with pytest.raises(FrameError):
        parse_header(frame[: HEADER.size], len(order.payload()) - 1)
