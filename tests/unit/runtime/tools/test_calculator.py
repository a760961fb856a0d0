"""calculator."""

import math

import pytest

from services.common.errors import Reason
from services.runtime.toolbox.utility import expression

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("2 ^ 3 ^ 2", 512),
        ("2 ** 10", 1024),
        ("10 - 4 - 3", 3),
        ("-7 % 3", -1),
        ("1.5e3 + .5", 1500.5),
        ("sqrt(16) + abs(-3)", 7),
        ("log(100) + log(2, 8) + ln(e())", 6),
        ("sin(pi() / 2)", 1),
        ("atan2(1, 1) * 4 == pi", 1),
        ("round(2.5) + round(-2.5)", 0),
        ("round(0.25, 1.1)", 1),
        ("ceil(1.2) + floor(1.8) + int(-1.8)", 2),
        ("min(3, 1, 2) + max(4)", 5),
        ("1 < 2 && !(2 <= 1) || 0", 1),
        ("not 1 or 0 and 1", 0),
        ("sign(-3) * cbrt(27)", -3),
    ],
)
async def test_expressions_mean_what_mathematics_says(source, value):
    """Precedence, association, functions and truth."""
    assert expression.evaluate(expression.read(source), {}) == pytest.approx(value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 / 0", math.inf),
        ("-1 / 0", -math.inf),
        ("0 / 0", math.nan),
        ("sqrt(-1)", math.nan),
        ("5 % 0", math.nan),
        ("exp(1000)", math.inf),
        ("(-10) ^ 309", -math.inf),
        ("(-8) ^ 0.5", math.nan),
        ("0 ^ -1", math.inf),
        ("ln(0)", -math.inf),
        ("sinh(-1000)", -math.inf),
        ("int(1/0)", math.inf),
        ("9" * 400, math.inf),
    ],
)
async def test_what_has_no_number_is_infinite_or_none(source, value):
    """IEEE 754 where Python would raise."""
    assert expression.evaluate(expression.read(source), {}) == pytest.approx(value, nan_ok=True)


async def test_it_evaluates_with_variables(hand):
    """The fields of the original, and what it took."""
    done = await hand.outcome("calculator", expression="x^2 + y", variables={"x": 3, "y": 0.5})
    usage = done.result.pop("resource_usage")
    assert done.result == {
        "input": "x^2 + y",
        "result": 9.5,
        "result_type": "float",
        "variables": {"x": 3, "y": 0.5},
    }
    assert usage["operations_count"] == 2
    assert isinstance(done.result["result"], float)


async def test_special_numbers_are_words(hand):
    """JSON has no infinity."""
    result = await hand.result("calculator", input="-1/0")
    assert (result["result"], result["result_type"]) == ("-Infinity", "special")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("2 +", "syntax_error"),
        ("2 $ 3", "syntax_error"),
        ("(1", "syntax_error"),
        ("1 2", "syntax_error"),
        ("__import__('os')", "unknown_function"),
        ("x.y", "syntax_error"),
        ("y + 1", "unknown_variable"),
        ("sqrt(1, 2)", "wrong_arguments"),
        ("pi(1)", "wrong_arguments"),
        ("(" * 200 + "1" + ")" * 200, "too_deep"),
        ("-" * 200 + "1", "too_deep"),
        ("1" + "+1" * 10_001, "operation_limit"),
        ("1" * 60_000, "too_long"),
    ],
)
async def test_what_cannot_be_evaluated_is_an_answer(hand, source, code):
    """Success is false and the code says why."""
    done = await hand.outcome("calculator", input=source)
    assert done.failure is not None
    assert done.failure.code == code


async def test_it_validates_and_lists_its_functions(hand):
    """Reading without evaluating; every function that is listed is one."""
    valid = await hand.result("calculator", operation="validate", input="a + b")
    assert valid == {"input": "a + b", "valid": True}
    invalid = await hand.result("calculator", operation="validate", input="a +")
    assert (invalid["valid"], "position 4" in invalid["error"]) == (False, True)
    known = await hand.result("calculator", operation="functions")
    for group in ("trigonometric", "hyperbolic", "mathematical", "rounding", "utility"):
        for name in known[group]:
            assert (await hand.outcome("calculator", input=f"{name}(1)")).failure is None or (
                await hand.outcome("calculator", input=f"{name}(1, 1)")
            ).failure is None


async def test_wrong_arguments_are_refused(hand):
    """No expression, or a variable that is no number."""
    assert (await hand.refusal("calculator", input="  ")).reason == Reason.FIELD_INVALID
    error = await hand.refusal("calculator", input="x", variables={"x": "1"})
    assert (error.reason, error.metadata["field"]) == (Reason.FIELD_INVALID, "variables.x")
