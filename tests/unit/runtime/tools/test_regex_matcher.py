"""regex-matcher."""

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "regex-matcher"
DATE = r"(?P<year>\d{4})-(?P<month>\d\d)(-\d\d)?"


async def test_a_match_tells_its_groups(hand):
    """Numbered and named, where they took part; positions count letters."""
    result = await hand.result(NAME, pattern=DATE, input="ä 2024-05 and 2025-06-07")
    assert result == {
        "matched": True,
        "match": "2024-05",
        "start": 2,
        "end": 9,
        "groups": ["2024", "05", None],
        "named_groups": {"year": "2024", "month": "05"},
    }
    assert await hand.result(NAME, pattern=DATE, input="never") == {"matched": False}
    assert await hand.result(NAME, pattern="a+", input="aab", full=True) == {"matched": False}


async def test_all_matches_are_found(hand):
    """Up to a limit."""
    result = await hand.result(NAME, operation="find_all", pattern=r"\d+", text="1 22 333")
    assert [match["match"] for match in result["matches"]] == ["1", "22", "333"]
    few = await hand.result(NAME, operation="find_all", pattern=r"\d", input="123", limit=2)
    assert (few["count"], few["truncated"]) == (2, True)


@pytest.mark.parametrize(
    ("pattern", "replacement", "source", "expected"),
    [
        (r"(\w+) (\w+)", r"\2 \1", "big cat", ("cat big", 1)),
        (r"(?P<d>\d)", r"<\g<d>>", "a1b2", ("a<1>b<2>", 2)),
        (("A", "i"), "x", "aAb", ("xxb", 2)),
        (("^", "m"), "> ", "a\nb", ("> a\n> b", 2)),
        ("x*", "-", "abxd", ("-a-b--d-", 5)),
        (("a.b", "s"), "x", "a\nb", ("x", 1)),
        ("a", r"\\", "a", ("\\", 1)),
    ],
)
async def test_matches_are_replaced(hand, pattern, replacement, source, expected):
    """With groups, under each flag."""
    pattern, flags = (pattern, "") if isinstance(pattern, str) else pattern
    given = {"pattern": pattern, "flags": flags, "replacement": replacement, "input": source}
    done = await hand.result(NAME, operation="replace", **given)
    assert (done["result"], done["count"]) == expected


async def test_text_is_split(hand):
    """At each match, or into so many parts; groups are told without a text."""
    result = await hand.result(NAME, operation="split", pattern=r"\s*,\s*", input="a , b,c")
    assert result["parts"] == ["a", "b", "c"]
    two = await hand.result(NAME, operation="split", pattern=",", input="a,b,c", limit=2)
    assert two["parts"] == ["a", "b,c"]
    groups = await hand.result(NAME, operation="groups", pattern=DATE)
    assert groups == {"count": 3, "names": {"year": 1, "month": 2}}


async def test_no_expression_takes_long(hand):
    """What makes other engines take for ever is done at once."""
    result = await hand.result(NAME, pattern="^(a+)+$", input="a" * 50_000 + "b")
    assert result == {"matched": False}


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({"pattern": "("}, Reason.FIELD_INVALID, "pattern"),
        ({"pattern": "(?=a)"}, Reason.FIELD_INVALID, "pattern"),
        ({"pattern": r"(a)\1"}, Reason.FIELD_INVALID, "pattern"),
        ({"pattern": "(a{1000}){1000}"}, Reason.FIELD_INVALID, "pattern"),
        ({"pattern": "a" * 5000}, Reason.LIMIT_EXCEEDED, "pattern"),
        ({"pattern": "a", "flags": "z"}, Reason.FIELD_INVALID, "flags"),
        ({"pattern": "a", "operation": "replace"}, Reason.FIELD_REQUIRED, "replacement"),
        (
            {"pattern": "a", "operation": "replace", "replacement": r"\1"},
            Reason.FIELD_INVALID,
            "replacement",
        ),
        (
            {
                "pattern": "a",
                "operation": "replace",
                "replacement": "b" * 10_000,
                "input": "a" * 1000,
            },
            Reason.LIMIT_EXCEEDED,
            "result",
        ),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """What is no expression, or wants more than RE2 has, or makes too much."""
    error = await hand.refusal("regex_matcher", **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)
