"""The filter shorthand: what it means, and how it says what is wrong."""

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
    "dotted field": ({"a.b": "en"}, condition("a.b", equals={"string_value": "en"})),
}


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
