"""text-manipulator."""

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("operation", "source", "options", "result"),
    [
        ("uppercase", "straße", {}, "STRASSE"),
        ("lowercase", "ÄB", {}, "äb"),
        ("reverse", "abc", {}, "cba"),
        ("trim", "  a b \n", {}, "a b"),
        ("replace", "a-b-c", {"from": "-", "to": "+"}, "a+b+c"),
        ("substring", "Hello, World", {"start": 7, "end": 12}, "World"),
        ("substring", "Hello", {"start": 2, "end": 9}, ""),
        ("substring", "äb", {"start": 1, "end": 3}, ""),
        ("split", "a,b", {"delimiter": ","}, '["a","b"]'),
        ("split", "a b", {}, '["a","b"]'),
        ("join", '["a","b"]', {"delimiter": "-"}, "a-b"),
        ("join", ["a", "b"], {}, "a b"),
        ("snake_case", "HelloWorld HTTPServer", {}, "hello_world_http_server"),
        ("camel_case", "hello_big world", {}, "helloBigWorld"),
        ("pascal_case", "hello-world", {}, "HelloWorld"),
        ("sanitize", "  Hi\x00 ä\n ", {}, "Hi \n"),
        ("truncate", "Hello, world!", {"max_length": 8}, "Hello..."),
        ("truncate", "ääää", {"max_length": 6}, "ä..."),
        ("truncate", "Hello", {"max_length": 2}, ".."),
        ("truncate", "Hello", {}, "Hello"),
        ("indent", "a\nb", {"spaces": 2}, "  a\n  b"),
        ("dedent", "  a\n    b", {}, "a\n  b"),
        ("normalize_whitespace", " a \n\t b ", {}, "a b"),
        (
            "word_wrap",
            "This is a long line to wrap",
            {"width": 12},
            "This is a\nlong line to\nwrap",
        ),
        ("count", "one two  three", {}, 3),
        ("count", "añb", {"count_type": "chars"}, 3),
        ("count", "añb", {"count_type": "bytes"}, 4),
        ("count", "a\nb", {"count_type": "lines"}, 2),
    ],
)
async def test_each_operation_does_what_it_says(hand, operation, source, options, result):
    """Result and the lengths in bytes."""
    done = await hand.result("text-manipulator", input=source, operation=operation, options=options)
    assert done["result"] == result
    assert done["result_length"] == len(str(result).encode())
    if isinstance(source, str):
        assert done["original_length"] == len(source.encode())


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({"operation": "shout", "input": "a"}, Reason.FIELD_INVALID, "operation"),
        ({"operation": "trim"}, Reason.FIELD_REQUIRED, "input"),
        ({"operation": "replace", "input": "a"}, Reason.FIELD_REQUIRED, "options.from"),
        (
            {"operation": "replace", "input": "a", "options": {"from": "", "to": "b"}},
            Reason.FIELD_INVALID,
            "options.from",
        ),
        ({"operation": "join", "input": "a"}, Reason.FIELD_INVALID, "input"),
        (
            {"operation": "substring", "input": "a", "options": {"start": -1, "end": 1}},
            Reason.FIELD_INVALID,
            "options.start",
        ),
        (
            {
                "operation": "replace",
                "input": "a" * 10_000,
                "options": {"from": "a", "to": "b" * 10_000},
            },
            Reason.LIMIT_EXCEEDED,
            "result",
        ),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """The field is named, and a result cannot be blown up."""
    error = await hand.refusal("text_manipulator", **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)
