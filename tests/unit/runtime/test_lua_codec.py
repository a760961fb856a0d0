"""The two codecs in Lua against their Python counterparts, in a VM of this process."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.limits import FRAME_BYTES_MAX, FRAME_DEPTH_MAX, FRAME_NODES_MAX
from services.runtime.worker import vm

# Loaded after the others: gives this test what scripts never get.
OPEN_UP = b"""
local kit = ...
local codec, json, host = kit.codec, kit.json, kit.host
local ways = {
  msgpack = function(data) return codec.encode(codec.decode(data), "value") end,
  to_json = function(data) return json.encode(codec.decode(data), "value") end,
  from_json = function(data)
    local ok, value = json.decode(data)
    if not ok then return false, value end
    return codec.encode(value, "value")
  end,
}
local prepare = kit.prepare
function kit.prepare(way, data, bytes, depth, nodes)
  if way == "limits" then
    return prepare("", "", "", false, 0, bytes, depth, nodes, "", 1, 2, "")
  end
  return ways[way](data)
end
"""


@pytest.fixture(scope="module")
def convert():
    """Bytes one way through Lua; gives success and bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vm, "_SOURCES", (*vm._SOURCES, (b"=test", OPEN_UP)))
        _, prepare, _ = vm.build(lambda *_: 0)
    prepare(b"limits", b"", FRAME_BYTES_MAX, FRAME_DEPTH_MAX, FRAME_NODES_MAX)
    return lambda way, data: prepare(way.encode(), data)


leaves = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=18) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=30,
)


@given(trees)
def test_messagepack_comes_back_as_it_was(convert, tree):
    """Whatever the host sends, Lua reads and writes again: types, order of lists, empties."""
    ok, data = convert("msgpack", msgspec.msgpack.encode(tree))
    assert ok is True
    back = msgspec.msgpack.decode(data)
    assert repr(sort_keys(back)) == repr(sort_keys(tree))


def sort_keys(tree):
    """Maps in order of keys, so that repr compares types too."""
    if isinstance(tree, dict):
        return {key: sort_keys(tree[key]) for key in sorted(tree)}
    return [sort_keys(inner) for inner in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_every_length_has_its_head(convert, size):
    """Text, bytes, lists and maps at the edges of the format's sizes."""
    for tree in ("x" * size, b"\xff" * size, [1] * size, {str(n): n for n in range(size)}):
        ok, data = convert("msgpack", msgspec.msgpack.encode(tree))
        if size > 50_000 and isinstance(tree, dict):
            assert ok is False  # keys count, so this is over 100 000 values
            continue
        # An empty byte string is valid UTF-8, so it comes back as text.
        assert msgspec.msgpack.decode(data) == (tree or ("" if tree == b"" else tree))


@pytest.mark.parametrize(
    "number",
    [
        0,
        127,
        128,
        255,
        256,
        65535,
        65536,
        2**32 - 1,
        2**32,
        2**63 - 1,
        -1,
        -32,
        -33,
        -128,
        -(2**63),
    ],
)
def test_integers_stay_integers(convert, number):
    """Integers stay integers at the edges of the format's sizes."""
    ok, data = convert("msgpack", msgspec.msgpack.encode(number))
    assert ok is True
    assert repr(msgspec.msgpack.decode(data)) == repr(number)


def test_an_integer_past_lua_s_becomes_a_float(convert):
    """2^63 cannot be a Lua integer, and must not wrap to a negative one."""
    _, data = convert("msgpack", msgspec.msgpack.encode(2**63))
    assert repr(msgspec.msgpack.decode(data)) == repr(2.0**63)


def test_single_precision_is_read(convert):
    """The format's float32 is not what we send, but it is in the format."""
    _, data = convert("msgpack", b"\xca\x3f\xc0\x00\x00")
    assert msgspec.msgpack.decode(data) == 1.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_messagepack_refuses_what_is_not_finite(convert, value):
    """The message names the place."""
    ok, text = convert("msgpack", msgspec.msgpack.encode({"a": [1, value]}))
    assert (ok, text) == (False, b"value.a[2] is not a finite number")


@given(trees)
def test_json_reads_as_python_reads_it(convert, tree):
    """Writing in Lua and reading in Python gives the same tree, and the other way round."""
    ok, text = convert("to_json", msgspec.msgpack.encode(tree))
    assert ok is True
    assert repr(sort_keys(json.loads(text))) == repr(sort_keys(tree))
    ok, data = convert("from_json", json.dumps(tree, indent=1).encode())
    assert ok is True
    assert repr(sort_keys(msgspec.msgpack.decode(data))) == repr(sort_keys(tree))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit(convert, value):
    """The shortest text that reads back as the same number, and as a float."""
    _, text = convert("to_json", msgspec.msgpack.encode(value))
    back = json.loads(text)
    assert isinstance(back, float)
    assert math.copysign(1, back) == math.copysign(1, value)
    assert back == value


@given(st.text(max_size=30))
def test_json_parsing_never_does_worse_than_refuse(convert, text):
    """What Python's strict reader accepts, Lua accepts with the same value; the rest is refused."""
    data = text.encode("utf-8", "replace")
    ok, _ = convert("from_json", data)
    try:
        json.loads(data, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        assert ok is False


BAD_JSON = {
    "": "expected a value, found the end at line 1, column 1",
    "[1,\n 2": "expected ',' or ']', found the end at line 2, column 3",
    '{"a":1,}': 'expected a key in quotes, found "}" at line 1, column 8',
    '{"a" 1}': "expected ':', found \"1\" at line 1, column 6",
    "[1 2]": "expected ',' or ']', found \"2\" at line 1, column 4",
    "01": 'expected a value, found "0" at line 1, column 1',
    "+1": 'expected a value, found "+" at line 1, column 1',
    ".5": 'expected a value, found "." at line 1, column 1',
    "1.": 'expected the end, found "." at line 1, column 2',
    "NaN": 'expected a value, found "N" at line 1, column 1',
    "tru": 'expected a value, found "t" at line 1, column 1',
    "1e999": "a number out of range at line 1, column 1",
    '"a': "text without an end at line 1, column 1",
    '"a\tb"': "a control character in text at line 1, column 3",
    '"\\x"': "an unknown escape at line 1, column 2",
    '"\\u12"': "\\u needs four hexadecimal digits at line 1, column 4",
    '"\\ud800"': "a lone high surrogate at line 1, column 4",
    '"\\udc00"': "a lone low surrogate at line 1, column 4",
    "[" * 65: "nested deeper than 64 at line 1, column 65",
    "nul": 'expected a value, found "n" at line 1, column 1',
    "1 1": 'expected the end, found "1" at line 1, column 3',
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_JSON.items())
def test_bad_json_is_refused_with_its_place(convert, text, message):
    """Line, column, what was expected and what was found."""
    assert convert("from_json", text.encode()) == (False, message.encode())


def test_surrogate_pairs_are_one_character(convert):
    """What JavaScript writes as two escapes is one code point."""
    assert msgspec.msgpack.decode(convert("from_json", rb'"\ud83d\ude00\u00e9"')[1]) == "😀é"
