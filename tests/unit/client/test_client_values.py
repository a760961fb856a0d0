"""Python values as the contract's, and back."""

import json
import math
from array import array
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from llmspell._values import (
    from_fields,
    from_payload,
    from_timestamp,
    from_vector,
    to_duration,
    to_fields,
    to_payload,
    to_timestamp,
    to_vector,
)
from llmspell.errors import InvalidArgument
from llmspell.v1.state_pb2 import Item, Payload
from llmspell.v1.types_pb2 import Vector

METADATA = {
    "absent": None,
    "yes": True,
    "whole": -(2**63),
    "one": 1,
    "fraction": 1.0,
    "text": "grün",
    "bytes": b"\x00\xff",
    "list": [1, "a", [None]],
    "map": {"a": {"b": False}},
}


def test_metadata_round_trip():
    """Metadata come back as they went, 1 as int, 1.0 as float, True as bool."""
    back = from_fields(to_fields(METADATA, "metadata"))
    assert back == METADATA
    assert {name: type(value) for name, value in back.items()} == {
        name: type(value) for name, value in METADATA.items()
    }


def test_metadata_takes_numpy_numbers_and_tuples():
    """Whole numbers of numpy are ints, tuples are lists."""
    back = from_fields(to_fields({"n": np.int64(3), "t": (1, 2)}, "metadata"))
    assert back == {"n": 3, "t": [1, 2]}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, "metadata.a"),
        ([1, math.inf], "metadata.a[1]"),
        ({"b": object()}, "metadata.a.b"),
        (2**63, "metadata.a"),
        ({1: 2}, "metadata.a"),
        (datetime.now(UTC), "metadata.a"),
    ],
)
def test_metadata_mistake_names_its_path(value, path):
    """What the contract cannot hold is refused with its place."""
    with pytest.raises(InvalidArgument) as caught:
        to_fields({"a": value}, "metadata")
    assert caught.value.metadata["field"] == path


def test_metadata_that_holds_itself_is_refused():
    """A list within itself ends in an error, not in a crash."""
    endless = []
    endless.append(endless)
    with pytest.raises(InvalidArgument, match="contains itself"):
        to_fields({"a": endless}, "metadata")


@pytest.mark.parametrize("value", [None, 1, 1.5, "x", [1, {"a": None}], {"ü": "ß"}])
def test_payload_json_round_trip(value):
    """What JSON can write comes back as it went."""
    assert from_payload(to_payload(value)) == (value, "json")


def test_payload_text_and_raw():
    """Text stays text where asked for, bytes stay bytes."""
    assert from_payload(to_payload("x", text=True)) == ("x", "text")
    assert from_payload(to_payload(bytearray(b"\xff"))) == (b"\xff", "raw")
    assert from_payload(Payload()) == (None, None)


@pytest.mark.parametrize("value", [math.nan, object(), {1, 2}])
def test_payload_refuses_what_is_not_json(value):
    """What JSON cannot write is refused before it is sent."""
    with pytest.raises(InvalidArgument, match="JSON"):
        to_payload(value)


def test_payload_text_must_be_str():
    """`text` with something else is a mistake, not a conversion."""
    with pytest.raises(InvalidArgument, match="str"):
        to_payload(5, text=True)


@pytest.mark.parametrize(
    "vector",
    [
        [1, 2.5, -3],
        (1.0, 2.5, -3.0),
        array("f", [1, 2.5, -3]),
        array("d", [1, 2.5, -3]),
        np.array([1, 2.5, -3], dtype=np.float32),
        np.array([1, 2.5, -3], dtype=np.float64),
        np.array([1, 2.5, -3], dtype=np.float16),
        np.array([1, 2.5, -3], dtype=">f4"),
        np.array([1, 0, 2.5, 0, -3, 0], dtype=np.float32)[::2],
        (number for number in (1, 2.5, -3)),
    ],
    ids=["list", "tuple", "f", "d", "f32", "f64", "f16", "swapped", "strided", "generator"],
)
def test_vector_is_packed_little_endian(vector):
    """Whatever holds the numbers, they travel as little-endian float32."""
    assert to_vector(vector).f32 == np.array([1, 2.5, -3], dtype="<f4").tobytes()


@pytest.mark.parametrize(
    "vector", [b"\x00\x00\x80\x3f", "abc", ["a"], 5, np.zeros((2, 2), np.float32), [None]]
)
def test_vector_mistakes_are_named(vector):
    """What is not a row of numbers is refused with the field's name."""
    with pytest.raises(InvalidArgument, match=r"^vectors\[3\]"):
        to_vector(vector, "vectors[3]")


def test_vector_is_read_from_both_forms():
    """Packed bytes and plain numbers read the same, and numpy takes the result as it is."""
    packed = from_vector(Vector(f32=np.array([1, 2], "<f4").tobytes()))
    assert packed == from_vector(Vector(values=[1, 2])) == array("f", [1, 2])
    assert np.asarray(packed).dtype == np.float32


def test_times_keep_their_instant():
    """A time in any zone comes back as the same instant in UTC; unset is None."""
    there = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5)))
    item = Item(create_time=to_timestamp(there, "event_time"))
    assert from_timestamp(item, "create_time") == there
    assert from_timestamp(item, "update_time") is None
    assert to_timestamp(None, "event_time") is None


def test_time_without_zone_is_refused():
    """A time that does not say where is a mistake."""
    with pytest.raises(InvalidArgument, match="event_time"):
        to_timestamp(datetime(2026, 1, 2), "event_time")  # noqa: DTZ001  (the point)


def test_duration():
    """Seconds with a fraction; None is none."""
    duration = to_duration(1.5, "ttl_s")
    assert (duration.seconds, duration.nanos) == (1, 500_000_000)
    assert to_duration(None, "ttl_s") is None


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e12])
def test_duration_mistakes_are_named(seconds):
    """A length that is none is refused with the field's name."""
    with pytest.raises(InvalidArgument, match="ttl_s"):
        to_duration(seconds, "ttl_s")


def cyclic():
    """A value whose inner list leads back to a map further out, beside a value used twice."""
    twice = [1]
    a = {"b": [twice, twice, 0]}
    a["b"].append(a)
    return {"first": twice, "a": a}


def test_a_cycle_is_named():
    """Where it is and what it leads back to; a value that is only used twice is none."""
    for make, root in (
        (to_payload, "value"),
        (lambda value: to_fields(value, "metadata"), "metadata"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            make(cyclic())
        assert caught.value.reason == "VALUE_CYCLIC"
        assert caught.value.metadata["path"] == f"{root}.a.b[3] → {root}.a"
    alone = []
    alone.append({"odd key": alone})
    with pytest.raises(InvalidArgument) as caught:
        to_payload(alone)
    assert caught.value.metadata["path"] == "value[0]['odd key'] → value"
    twice = {"x": 1}
    assert json.loads(to_payload([twice, twice]).json) == [twice, twice]
