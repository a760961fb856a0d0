"""Values cross between messages and Python without change."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmspell.v1.types_pb2 import ListValue, MapValue, Value

from services.common.errors import Reason, ServiceError
from services.common.values import fill_map, map_to_python, to_python, to_value

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


def exactly(value):
    """A value with its kinds, without the order of its maps."""
    if isinstance(value, dict):
        return "dict", sorted((key, exactly(entry)) for key, entry in value.items())
    if isinstance(value, list):
        return "list", [exactly(entry) for entry in value]
    return type(value).__name__, repr(value)


@given(values)
def test_every_value_survives_the_wire(value):
    """Kind and amount stay the same: 3 is not 3.0, an empty map is not an empty list."""
    wire = to_value(value).SerializeToString()
    back = to_python(Value.FromString(wire), "v")
    assert exactly(back) == exactly(value)


def test_a_map_of_values_survives_the_wire():
    """Metadata maps go both ways."""
    message = MapValue()
    fill_map(message.fields, {"a": None, "b": [1, {"c": b"\0"}]})
    assert map_to_python(message.fields, "metadata") == {"a": None, "b": [1, {"c": b"\0"}]}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_must_be_finite(number):
    """The error names the field down to the entry; on output it is our fault."""
    inner = Value(list_value=ListValue(values=[Value(), Value(double_value=number)]))
    with pytest.raises(ServiceError) as error:
        map_to_python({"k": inner}, "metadata")
    assert error.value.reason == Reason.FIELD_INVALID
    assert error.value.metadata["field"] == "metadata.k[1]"
    with pytest.raises(ValueError, match="finite"):
        to_value([number])


def nested(depth, wrap):
    """A value of so many levels."""
    value = Value(int_value=1)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: Value(list_value=ListValue(values=[inner])),
        lambda inner: Value(map_value=MapValue(fields={"k": inner})),
    ],
)
def test_nesting_has_a_limit(wrap):
    """16 levels pass, 17 do not."""
    to_python(nested(16, wrap), "v")
    with pytest.raises(ServiceError) as error:
        to_python(nested(17, wrap), "v")
    assert error.value.reason == Reason.LIMIT_EXCEEDED
    assert error.value.metadata["limit"] == "16"


def test_other_kinds_are_refused():
    """What has no message is an error here, not a silent text."""
    with pytest.raises(TypeError, match="set"):
        to_value({1, 2})
    with pytest.raises(ValueError, match="range"):
        to_value(2**63)
