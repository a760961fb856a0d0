"""services.state.rules."""

import pytest

from services.common.errors import Reason, ServiceError
from services.state import numbers, rules
from services.state.model import Condition, Encoding, Item, Precondition, Value


def json(content):
    return Value(Encoding.JSON, content)


@pytest.mark.parametrize(
    ("content", "delta", "total"),
    [
        (b"1", 2, 3),
        (b"9223372036854775806", 1, 2**63 - 1),
        (b"-9223372036854775807", -1, -(2**63)),
        (b"1", 0.5, 1.5),
        (b"1.5", 1, 2.5),
        (b" 1e3 ", 1, 1001.0),
        (b"-0", 1, 1),
        (b"0.1", 0.2, 0.1 + 0.2),
    ],
)
def test_add(content, delta, total):
    """Sums keep their kind: int and int an int, a float on either side a float."""
    got = numbers.add("k", json(content), delta)
    assert (got, type(got)) == (total, type(total))


def test_add_to_nothing():
    """An absent item counts as 0."""
    assert numbers.add("k", None, 7) == 7


@pytest.mark.parametrize("content", [b"not json", b"", b"1 2", b"1e999", b"[" * 100_000])
def test_add_to_bytes_that_are_no_json(content):
    """What says that it is JSON and is not, is not a number."""
    with pytest.raises(ServiceError) as info:
        numbers.add("k", json(content), 1)
    assert info.value.reason == Reason.VALUE_NOT_NUMBER


@pytest.mark.parametrize(
    ("number", "content"),
    [(5, b"5"), (-(2**63), b"-9223372036854775808"), (1.0, b"1.0"), (1e300, b"1e300")],
)
def test_number_value(number, content):
    """A number is kept as JSON that tells an int from a float."""
    assert numbers.number_value(number) == json(content)
    assert numbers.add("k", json(content), 0) == number


def item(revision):
    return Item(key="k", value=None, revision=revision, create_time_ns=0, update_time_ns=0)


@pytest.mark.parametrize(
    ("condition", "revision", "found", "holds"),
    [
        (Condition.ABSENT, 0, None, True),
        (Condition.ABSENT, 0, item(3), False),
        (Condition.PRESENT, 0, item(3), True),
        (Condition.PRESENT, 0, None, False),
        (Condition.REVISION, 3, item(3), True),
        (Condition.REVISION, 2, item(3), False),
        (Condition.REVISION, 0, None, False),
    ],
)
def test_preconditions(condition, revision, found, holds):
    """Each condition, held and not held; the answer names the key and its revision."""
    precondition = Precondition(condition, revision)
    if holds:
        rules.check_precondition("k", found, precondition)
        return
    with pytest.raises(ServiceError) as info:
        rules.check_precondition("k", found, precondition)
    assert info.value.reason == Reason.REVISION_MISMATCH
    assert info.value.metadata == {"key": "k", "revision": str(found.revision if found else 0)}


def test_every_error_is_one_sentence_that_names_field_and_limit():
    """A caller learns which field broke which limit."""
    with pytest.raises(ServiceError) as info:
        rules.normal_key("k" * 300)
    assert info.value.message == "key is 300 bytes; the limit is 256 bytes."
    with pytest.raises(ServiceError) as info:
        rules.check_ttl(10**9 * 10**10)
    assert info.value.metadata == {
        "field": "ttl",
        "got": str(10**10),
        "limit": str(100 * 365 * 86_400),
    }
