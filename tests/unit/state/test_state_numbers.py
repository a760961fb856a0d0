"""services.state.numbers: decimals as they are read, written and added."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.state import numbers

texts = st.decimals(
    allow_nan=False, allow_infinity=False, places=4, min_value=-(10**20), max_value=10**20
)


@given(texts, texts)
def test_sums_are_exact(one, other):
    """What is added and taken away again leaves what was there, digit for digit."""
    value = numbers.number_value(one)
    there = numbers.add("k", value, other)
    back = numbers.add("k", numbers.number_value(there), -other)
    assert back == one
    assert msgspec.json.decode(numbers.number_value(there).content) == float(there)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0.1", "0.1"),
        ("-0", "0"),
        ("1e3", "1000"),
        ("1.50", "1.50"),
        ("1e-7", "0.0000001"),
        ("1E+300", "1E+300"),
        ("-12.5e1", "-125"),
    ],
)
def test_decimals_are_written_as_json(text, written):
    """Plainly where that is short, and always so that JSON reads it."""
    number = numbers.read_decimal(text, "decimal_delta")
    assert numbers.write_decimal(number) == written
    assert msgspec.json.decode(written.encode()) == float(Decimal(text))


@pytest.mark.parametrize(
    "text", ["", "x", "1.", ".5", "+1", "01", "NaN", "Infinity", "1_0", "1 ", "٣"]
)
def test_what_json_does_not_call_a_number(text):
    """Is refused by its field."""
    with pytest.raises(ServiceError) as info:
        numbers.read_decimal(text, "decimal_delta")
    assert info.value.reason == Reason.FIELD_INVALID
    assert info.value.metadata["field"] == "decimal_delta"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1" * 35, Reason.LIMIT_EXCEEDED),
        ("0." + "1" * 35, Reason.LIMIT_EXCEEDED),
        ("1" * 401, Reason.LIMIT_EXCEEDED),
        ("1e301", Reason.FIELD_INVALID),
        ("1e-301", Reason.FIELD_INVALID),
        ("1e999999999", Reason.FIELD_INVALID),
    ],
)
def test_decimals_have_limits(text, reason):
    """Too many digits and too wide a range are named, and cost no time."""
    with pytest.raises(ServiceError) as info:
        numbers.read_decimal(text, "decimal_delta")
    assert info.value.reason == reason
