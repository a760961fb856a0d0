"""diff-calculator."""

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "diff-calculator"
OLD, NEW = "one\ntwo\nthree\n", "one\n2\nthree\nfour\n"


@pytest.mark.parametrize(
    ("shape", "diff"),
    [
        ("unified", "--- old\n+++ new\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n+four\n"),
        ("inline", "  one\n- two\n+ 2\n  three\n+ four\n"),
        ("simple", "- two\n+ 2\n+ four\n"),
    ],
)
async def test_texts_are_compared_in_each_format(hand, shape, diff):
    """Lines that go and come, and how many."""
    result = await hand.result(NAME, old_text=OLD, new_text=NEW, format=shape)
    assert result["diff"] == diff
    assert result["stats"] == {"old_lines": 3, "new_lines": 4, "added": 2, "removed": 1}


async def test_files_are_compared(hand):
    """In the context format, under their own names; the same files do not differ."""
    (hand.folder / "a.txt").write_text(OLD)
    (hand.folder / "b.txt").write_text(NEW)
    result = await hand.result(
        "diff_calculator", old_file="a.txt", new_file="b.txt", format="context"
    )
    assert result["diff"].startswith("*** a.txt\n--- b.txt\n***************\n")
    assert "! two" in result["diff"]
    same = await hand.result(NAME, old_file="a.txt", new_file="a.txt")
    assert same["diff"] == ""


async def test_json_values_are_compared_by_place(hand):
    """Added, removed, modified and unchanged; texts of JSON will do."""
    old = {"a": 1, "b": {"c": [1, 2], "d": True}, "e": None}
    result = await hand.result(
        NAME, type="json", old_json=old, new_json='{"a":1,"b":{"c":[1,3,4],"d":1},"f":{}}'
    )
    assert result["diff"] == {
        "added": {"b.c[2]": 4, "f": {}},
        "removed": {"e": None},
        "modified": {"b.c[1]": {"old": 2, "new": 3}, "b.d": {"old": True, "new": 1}},
        "unchanged": ["a", "b.c[0]"],
    }
    assert result["summary"] == {"added": 2, "removed": 1, "modified": 2, "unchanged": 2}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"old_text": "a"}, Reason.FIELD_REQUIRED),
        ({"old_text": "a", "new_text": "b", "new_file": "c"}, Reason.FIELD_INVALID),
        ({"old_json": "{", "new_json": "{}"}, Reason.FIELD_INVALID),
        ({"old_text": "a", "new_text": "b", "format": "colour"}, Reason.FIELD_INVALID),
        ({"old_file": "absent", "new_text": "a"}, Reason.FILE_NOT_FOUND),
        ({"old_text": "\n" * 60_000, "new_text": "a"}, Reason.LIMIT_EXCEEDED),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason):
    """One side missing, both forms of a side, what is no JSON, too many lines."""
    assert (await hand.refusal(NAME, **arguments)).reason == reason
