"""json-processor."""

import pytest

from services.common.errors import Reason, ServiceError
from tests.unit.runtime.tooling import caller

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "json-processor"
SHOP = {"items": [{"name": "pen", "price": 2}, {"name": "ink", "price": 9}]}


@pytest.mark.parametrize(
    ("query", "result"),
    [
        (".items[0].name", "pen"),
        (".items[].name", ["pen", "ink"]),
        ("[.items[] | select(.price > 5) | .name]", ["ink"]),
        ("empty", None),
        ("[.items[].price] | add / length", 5.5),
        ("env", {"TZ": "UTC0"}),
        ("$ENV", {"TZ": "UTC0"}),
        ("nan", None),
        ("100000000000000000000", 1e20),
    ],
)
async def test_queries_are_jqs(hand, query, result):
    """One value is itself, several are a list, none is null; the environment is the jail's."""
    assert await hand.result(NAME, operation="query", input=SHOP, query=query) == result


async def test_old_names_and_texts_will_do(hand):
    """A JSON text, under the names of older scripts."""
    assert await hand.result("json_processor", data='{"a": [1, 2]}', expression=".a[1]") == 2


async def test_json_lines_are_streamed(hand):
    """Each document is asked."""
    lines = '{"n": 1}\n\n{"n": 2}\n'
    done = await hand.outcome(NAME, operation="stream", input=lines, query=".n * 2")
    assert (done.result, done.metadata["document_count"]) == ([2, 4], 2)
    error = await hand.refusal(NAME, operation="stream", input='{"n": 1}\n{"n": }')
    assert "line 2" in error.message


async def test_a_value_is_validated(hand):
    """What does not fit is told by place and rule."""
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"tags": {"items": {"type": "string", "pattern": "^[a-z]+$"}}},
    }
    good = await hand.result(
        NAME, operation="validate", input={"name": "a", "tags": ["b"]}, schema=schema
    )
    assert good == {"valid": True, "errors": []}
    bad = await hand.result(
        NAME, operation="validate", input={"tags": ["b", "C", 3]}, schema=schema
    )
    assert not bad["valid"]
    assert {(one["path"], one["rule"]) for one in bad["errors"]} == {
        ("", "required"),
        ("/tags/1", "pattern"),
        ("/tags/2", "type"),
    }


async def test_a_schema_reaches_nothing_outside(hand):
    """References to other documents are refused, not fetched."""
    for address in ("http://127.0.0.1:1/x", "file:///etc/passwd"):
        error = await hand.refusal(NAME, operation="validate", input=1, schema={"$ref": address})
        assert (error.reason, error.metadata["field"]) == (Reason.FIELD_INVALID, "schema")


async def test_objects_are_merged_and_printed(hand):
    """The later wins, deep; lists are replaced."""
    merged = await hand.result(
        NAME, operation="merge", input=[{"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}]
    )
    assert merged == {"a": {"b": 1, "c": [2]}}
    assert await hand.result(NAME, operation="merge", input='{"a":1}', other='{"b":2}') == {
        "a": 1,
        "b": 2,
    }
    printed = await hand.result(
        NAME, operation="format", input={"b": 1, "a": "ä"}, indent=0, sort_keys=True
    )
    assert printed == '{"a":"ä","b":1}'


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({}, Reason.FIELD_REQUIRED, "input"),
        ({"input": "{"}, Reason.FIELD_INVALID, "input"),
        ({"input": '["\\ud800"]'}, Reason.FIELD_INVALID, "input"),
        ({"input": [b"\xff"]}, Reason.FIELD_INVALID, "input"),
        ({"input": "[NaN]"}, Reason.FIELD_INVALID, "input"),
        ({"input": "[1e999]"}, Reason.FIELD_INVALID, "input"),
        ({"input": "[" * 100_000}, Reason.FIELD_INVALID, "input"),
        ({"input": 1, "query": ".["}, Reason.FIELD_INVALID, "query"),
        ({"input": 1, "query": ".a"}, Reason.FIELD_INVALID, "query"),
        ({"input": 1, "query": 'import "x" as x; .'}, Reason.FIELD_INVALID, "query"),
        ({"input": 1, "query": "repeat(1)"}, Reason.LIMIT_EXCEEDED, "query"),
        ({"input": 1, "operation": "validate"}, Reason.FIELD_REQUIRED, "schema"),
        ({"input": 1, "operation": "validate", "schema": {"type": "x"}}, Reason.FIELD_INVALID,
         "schema"),
        ({"input": [1], "operation": "merge"}, Reason.FIELD_INVALID, "input"),
    ],
)  # fmt: skip
async def test_wrong_input_is_refused(hand, arguments, reason, field):
    """The field is named."""
    error = await hand.refusal(NAME, **arguments)
    assert (error.reason, error.metadata["field"]) == (reason, field)


LIMITS = {
    Reason.TOOL_TIME_LIMIT,
    Reason.TOOL_CPU_LIMIT,
    Reason.TOOL_MEMORY_LIMIT,
    Reason.TOOL_WORKER_LOST,  # jq ends its process where there is no memory
}


@pytest.mark.parametrize("query", ["def f: f; f", "[range(1e9)]"])
async def test_a_query_cannot_hold_the_machine(hand, query):
    """One without end, and one without bounds, end at a limit."""
    with pytest.raises(ServiceError) as caught:
        await hand.toolbox.execute(NAME, {"input": 1, "query": query}, caller(), timeout_s=2)
    assert caught.value.reason in LIMITS


async def test_a_query_that_runs_out_of_memory_is_told_so(hand):
    """Although jq ends its process without a word, so that no more than a guess can be told."""
    error = await hand.refusal(NAME, input=1, query='"x" * 1000000000 | length')
    assert error.reason == Reason.TOOL_WORKER_LOST
    assert "256 MiB of memory" in error.message
