"""The filter shorthand: what it means, and how it says what is wrong."""

from datetime import UTC, datetime

import pytest
from google.protobuf.json_format import MessageToDict
from llmspell._filters import to_filter
from llmspell.errors import InvalidArgument
from llmspell.v1.types_pb2 import Filter


def condition(field, **test):
    """The wire form of one test."""
    return {"condition": {"field": field, **test}}


EN = condition("lang", equals={"string_value": "en"})
TAGS = {"values": [{"string_value": "a"}, {"string_value": "b"}]}

MEANINGS = {
    "text": ({"lang": "en"}, EN),
    "whole number": ({"n": 3}, condition("n", equals={"int_value": "3"})),
    "fraction": ({"n": 3.0}, condition("n", equals={"double_value": 3.0})),
    "boolean": ({"ok": True}, condition("ok", equals={"bool_value": True})),
    "equals": ({"lang": {"equals": "en"}}, EN),
    "eq": ({"lang": {"eq": "en"}}, EN),
    "ne": ({"lang": {"ne": "en"}}, {"not": EN}),
    "range": (
        {"year": {"gte": 2000, "lt": 2010}},
        condition("year", range={"gte": {"int_value": "2000"}, "lt": {"int_value": "2010"}}),
    ),
    "open range": (
        {"name": {"gt": "a", "lte": "b"}},
        condition("name", range={"gt": {"string_value": "a"}, "lte": {"string_value": "b"}}),
    ),
    "in": ({"tag": {"in": ["a", "b"]}}, condition("tag", **{"in": TAGS})),
    "list": ({"tag": ["a", "b"]}, condition("tag", **{"in": TAGS})),
    "exists": ({"author": {"exists": False}}, condition("author", exists=False)),
    "several keys": (
        {"lang": "en", "author": {"exists": True}},
        {"all": {"filters": [EN, condition("author", exists=True)]}},
    ),
    "several tests": (
        {"lang": {"exists": True, "ne": "en"}},
        {"all": {"filters": [condition("lang", exists=True), {"not": EN}]}},
    ),
    "any": ({"any": [{"lang": "en"}]}, {"any": {"filters": [EN]}}),
    "all": ({"all": [{"lang": "en"}]}, {"all": {"filters": [EN]}}),
    "not": ({"not": {"lang": "en"}}, {"not": EN}),
    "nested": (
        {"any": [{"not": {"all": [{"lang": "en"}]}}]},
        {"any": {"filters": [{"not": {"all": {"filters": [EN]}}}]}},
    ),
    "except": ({"tag": {"except": ["a", "b"]}}, condition("tag", **{"except": TAGS})),
    "prefix": ({"name": {"prefix": "Mac"}}, condition("name", prefix="Mac")),
    "is empty": ({"note": {"is_empty": True}}, condition("note", is_empty=True)),
    "moment": (
        {"t": {"since": "2024-05-01", "before": "2024-05-01T12:00:00+02:00"}},
        condition("t", time={"gte": "2024-05-01T00:00:00Z", "lt": "2024-05-01T10:00:00Z"}),
    ),
    "moment as a datetime": (
        {"t": {"after": datetime(2024, 5, 1, tzinfo=UTC), "until": "2025-01-01T00:00:00Z"}},
        condition("t", time={"gt": "2024-05-01T00:00:00Z", "lte": "2025-01-01T00:00:00Z"}),
    ),
    "entry of a list": (
        {"nested": {"field": "cities", "filter": {"lang": "en"}}},
        {"nested": {"field": "cities", "filter": EN}},
    ),
    "at least": (
        {"at_least": {"count": 2, "filters": [{"lang": "en"}, {"n": 3}]}},
        {"clauses": {"should": [EN, condition("n", equals={"int_value": "3"})], "min_should": 2}},
    ),
    "dotted field": ({"a.b": "en"}, condition("a.b", equals={"string_value": "en"})),
}


CITY = condition("city", equals={"string_value": "London"})
RED = {"key": "color", "match": {"value": "red"}}
OF_QDRANT = {
    "must": (
        {"must": [{"key": "city", "match": {"value": "London"}}]},
        {"clauses": {"must": [CITY]}},
    ),
    "one of each": (
        {"must": {"key": "city", "match": {"value": "London"}}, "should": [RED], "must_not": [RED]},
        {
            "clauses": {
                "must": [CITY],
                "should": [condition("color", equals={"string_value": "red"})],
                "must_not": [condition("color", equals={"string_value": "red"})],
            }
        },
    ),
    "min should": (
        {"min_should": {"conditions": [RED, RED], "min_count": 2}},
        {
            "clauses": {
                "should": [condition("color", equals={"string_value": "red"})] * 2,
                "min_should": 2,
            }
        },
    ),
    "any": ({"key": "tag", "match": {"any": ["a", "b"]}}, condition("tag", **{"in": TAGS})),
    "except": (
        {"key": "tag", "match": {"except": ["a", "b"]}},
        condition("tag", **{"except": TAGS}),
    ),
    "range": (
        {"key": "n", "range": {"gte": 1, "lt": 2.5}},
        condition("n", range={"gte": {"int_value": "1"}, "lt": {"double_value": 2.5}}),
    ),
    "range of times": (
        {"key": "t", "range": {"gt": "2023-02-08T10:49:00Z", "lte": "2024-01-31T10:14:31Z"}},
        condition("t", time={"gt": "2023-02-08T10:49:00Z", "lte": "2024-01-31T10:14:31Z"}),
    ),
    "is empty": (
        {"must": [{"is_empty": {"key": "r"}}]},
        {"clauses": {"must": [condition("r", is_empty=True)]}},
    ),
    "is null": ({"is_null": {"key": "r"}}, condition("r", exists=False)),
    "is empty of a field": ({"key": "r", "is_empty": False}, condition("r", is_empty=False)),
    "nested": (
        {"must": [{"nested": {"key": "cities", "filter": {"must": [RED]}}}]},
        {
            "clauses": {
                "must": [
                    {
                        "nested": {
                            "field": "cities",
                            "filter": {
                                "clauses": {
                                    "must": [condition("color", equals={"string_value": "red"})]
                                }
                            },
                        }
                    }
                ]
            }
        },
    ),
    "clauses in clauses": (
        {"must": [{"must_not": [RED]}]},
        {
            "clauses": {
                "must": [
                    {"clauses": {"must_not": [condition("color", equals={"string_value": "red"})]}}
                ]
            }
        },
    ),
}


@pytest.mark.parametrize("name", OF_QDRANT)
def test_what_qdrants_users_write_means(name):
    """Each form of theirs becomes this message."""
    shorthand, message = OF_QDRANT[name]
    assert MessageToDict(to_filter(shorthand), preserving_proto_field_name=True) == message


@pytest.mark.parametrize("name", MEANINGS)
def test_filter_shorthand_means(name):
    """Each form of the shorthand becomes this message."""
    shorthand, message = MEANINGS[name]
    assert MessageToDict(to_filter(shorthand), preserving_proto_field_name=True) == message


@pytest.mark.parametrize("nothing", [None, {}])
def test_filter_of_nothing(nothing):
    """Nothing asked for is no filter."""
    assert to_filter(nothing) is None


def test_filter_message_is_kept():
    """A message of the contract goes through as it is."""
    message = Filter()
    assert to_filter(message) is message


def deep(levels):
    """A filter nested so deep."""
    shorthand = {"a": 1}
    for _ in range(levels):
        shorthand = {"not": shorthand}
    return shorthand


def deep_must(levels):
    """Likewise, of clauses."""
    shorthand = {"a": 1}
    for _ in range(levels):
        shorthand = {"must": [shorthand]}
    return shorthand


MISTAKES = {
    "not an object": ([1], "filter"),
    "text": ("lang", "filter"),
    "unknown test": ({"year": {"gte": 1, "above": 2}}, "filter.year.above"),
    "no test": ({"year": {}}, "filter.year"),
    "in without list": ({"tag": {"in": "a"}}, "filter.tag.in"),
    "exists without boolean": ({"tag": {"exists": 1}}, "filter.tag.exists"),
    "any without list": ({"any": {"a": 1}}, "filter.any"),
    "entry of any": ({"any": [{"a": 1}, 5]}, "filter.any[1]"),
    "empty entry": ({"all": [{}]}, "filter.all[0]"),
    "test within": ({"any": [{"a": {"nope": 1}}]}, "filter.any[0].a.nope"),
    "not without object": ({"not": 1}, "filter.not"),
    "empty name": ({"": 1}, "filter"),
    "name that is no text": ({1: 1}, "filter"),
    "value of no kind": ({"a": {"gte": object()}}, "filter.a.gte"),
    "not finite": ({"a": {"in": [1.0, float("nan")]}}, "filter.a.in[1]"),
    "too large": ({"a": 2**63}, "filter.a"),
    "unknown condition": (
        {"must": [{"key": "a", "values_count": {}}]},
        "filter.must[0].values_count",
    ),
    "unknown match": ({"key": "a", "match": {"text": "x"}}, "filter.match.text"),
    "ids": ({"must": [{"has_id": [1]}]}, "filter.must[0].has_id"),
    "key alone": ({"key": "a"}, "filter"),
    "key that is no name": ({"key": 1, "match": {"value": 1}}, "filter.key"),
    "must of text": ({"must": "a"}, "filter.must"),
    "min should of text": ({"should": [], "min_should": "a"}, "filter.min_should"),
    "time without zone": ({"t": {"after": "2024-01-01T10:00:00"}}, "filter.t.after"),
    "time that is none": ({"t": {"before": "soon"}}, "filter.t.before"),
    "prefix of a number": ({"a": {"prefix": 1}}, "filter.a.prefix"),
    "at least none": ({"at_least": {"count": 0, "filters": [{"a": 1}]}}, "filter.at_least"),
    "at least of nothing": ({"at_least": {"count": 1, "filters": []}}, "filter.at_least.filters"),
    "nested without filter": ({"nested": {"field": "a"}}, "filter.nested"),
    "deep must": (deep_must(40), "filter" + ".must[0]" * 33),
    "too deep": (deep(40), "filter" + ".not" * 33),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_filter_mistake_names_its_path(name):
    """Each mistake is FILTER_INVALID and says where it is."""
    shorthand, path = MISTAKES[name]
    with pytest.raises(InvalidArgument) as caught:
        to_filter(shorthand)
    assert caught.value.reason == "FILTER_INVALID"
    assert caught.value.metadata["path"] == path
    assert caught.value.message.startswith(path)
