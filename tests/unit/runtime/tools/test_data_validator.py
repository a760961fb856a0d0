"""data-validator."""

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "data-validator"


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"type": "required"}, 0, None),
        ({"type": "required"}, "a", ""),
        ({"type": "type", "expected": "integer"}, 3.0, 3.5),
        ({"type": "type", "expected": "boolean"}, False, 0),
        ({"type": "type", "expected": "null"}, None, 0),
        ({"type": "type", "expected": "array"}, [], "a"),
        ({"type": "length", "min": 2, "max": 3}, "abc", "a"),
        ({"type": "length", "max": 1}, [1], [1, 2]),
        ({"type": "range", "min": 0, "max": 10}, 10, 10.5),
        ({"type": "pattern", "regex": "^[a-z]+$"}, "abc", "aBc"),
        ({"type": "enum", "values": ["a", 1]}, "a", True),
        ({"type": "email"}, "jo.e+x@mail.example.org", "joe@localhost"),
        ({"type": "email"}, "a@b.co", "a@-b.co"),
        ({"type": "url"}, "https://example.org/a?b", "example.org"),
        ({"type": "url"}, "http://[::1]:80/", "http://a b/"),
        ({"type": "date"}, "2024-02-29", "2023-02-29"),
        ({"type": "date", "format": "%d/%m/%Y"}, "01/12/2024", "2024-12-01"),
        ({"type": "custom", "name": "credit_card"}, "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ({"type": "custom", "name": "ipv6"}, "::1", "127.0.0.1"),
        ({"type": "custom", "name": "uuid"}, "886313e1-3b8a-5372-9b90-0c9aee199e5d", "x"),
        ({"type": "array", "min_items": 1, "unique": True}, [1, "1"], [1, 1]),
        ({"type": "array", "max_items": 1}, {}, [1, 2]),
        ({"type": "object", "required": ["a"]}, {"a": 1}, {"b": 1}),
        ({"type": "object", "properties": {"a": []}, "additional_properties": False},
         {"a": 1}, {"b": 1}),
    ],
)  # fmt: skip
async def test_each_rule_tells_right_from_wrong(hand, rule, good, bad):
    """What keeps the rule is valid; what breaks it is told with rule and value."""
    assert await hand.result(NAME, input=good, rules={"rules": [rule]}) == {
        "valid": True,
        "errors": [],
    }
    result = await hand.result(NAME, input=bad, rules=[rule])
    assert result["valid"] is False
    assert {error["rule"] for error in result["errors"]} == {rule["type"]}


async def test_places_are_named(hand):
    """Rules of items and of properties, inside each other, with a message of one's own."""
    rules = [
        {
            "type": "object",
            "required": ["name"],
            "properties": {
                "users": {
                    "rules": [
                        {
                            "type": "array",
                            "item_rules": [
                                {
                                    "type": "object",
                                    "properties": {
                                        "mail": [{"type": "email", "message": "No mail"}],
                                        "age": [{"type": "range", "min": 18}],
                                    },
                                }
                            ],
                        }
                    ]
                },
                "tags": [
                    {"type": "array", "item_rules": ["required", {"type": "length", "max": 2}]}
                ],
            },
        }
    ]
    value = {"users": [{"mail": "a@b.co"}, {"mail": "x", "age": 3}], "tags": ["ok", "long"]}
    result = await hand.result("data_validation", data=value, rules={"rules": rules})
    assert {(error["field"], error["rule"], error["message"]) for error in result["errors"]} == {
        ("name", "object", "is required"),
        ("users[1].mail", "email", "No mail"),
        ("users[1].age", "range", "value is 3, and must be at least 18"),
        ("tags[1]", "length", "length is 4, and must be at most 2"),
    }
    assert (await hand.result(NAME, input="x", rules=[{"type": "email"}]))["errors"][0][
        "field"
    ] == "input"


async def test_a_fault_does_not_repeat_what_is_large(hand):
    """Of a long text its beginning is told, of a large list nothing."""
    result = await hand.result(
        NAME, input="x" * 9000, rules=["email", {"type": "length", "max": 1}]
    )
    assert [len(error["value"]) for error in result["errors"]] == [500, 500]
    result = await hand.result(NAME, input=[1] * 9000, rules=[{"type": "array", "max_items": 1}])
    assert result["errors"][0]["value"] is None


@pytest.mark.parametrize(
    ("rules", "reason", "field"),
    [
        ([{"type": "sorcery"}], Reason.FIELD_INVALID, "rules[0].type"),
        ([{"type": "length", "mix": 1}], Reason.FIELD_INVALID, "rules[0].mix"),
        ([{"type": "pattern"}], Reason.FIELD_REQUIRED, "rules[0].regex"),
        ([{"type": "pattern", "regex": "(?=a)"}], Reason.FIELD_INVALID, "rules[0].regex"),
        ([{"type": "type", "expected": "int"}], Reason.FIELD_INVALID, "rules[0].expected"),
        ([{"type": "custom", "name": "x"}], Reason.FIELD_INVALID, "rules[0].name"),
        ([{"type": "array", "item_rules": [{"type": "x"}]}], Reason.FIELD_INVALID,
         "rules[0].item_rules[0].type"),
        ("email", Reason.FIELD_INVALID, "rules"),
    ],
)  # fmt: skip
async def test_rules_that_are_none_are_refused(hand, rules, reason, field):
    """The rule is named, whatever the value."""
    error = await hand.refusal(NAME, input=1, rules=rules)
    assert (error.reason, error.metadata["field"]) == (reason, field)
