"""calculator: arithmetic with functions and variables, by a reader of its own."""

from __future__ import annotations

import math
import time
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Failure,
    Level,
    Outcome,
    Tool,
    ToolLimits,
    field_invalid,
    parameters,
)
from services.runtime.toolbox.schema import choice, flag, mapping, number, one_of, record, text
from services.runtime.toolbox.utility import expression
from services.runtime.toolbox.utility.expression import Apply, ExpressionError

VARIABLES_MAX = 1_000

_KNOWN = {
    "arithmetic": ["+", "-", "*", "/", "%", "^"],
    "comparison": ["==", "!=", "<", "<=", ">", ">="],
    "logical": ["&&", "||", "!", "and", "or", "not"],
    "trigonometric": ["sin", "cos", "tan", "asin", "acos", "atan", "atan2"],
    "hyperbolic": ["sinh", "cosh", "tanh", "asinh", "acosh", "atanh"],
    "mathematical": ["sqrt", "cbrt", "pow", "exp", "ln", "log", "log2", "log10", "abs", "sign"],
    "rounding": ["int", "ceil", "floor", "round"],
    "constants": ["pi()", "e()", "pi", "e", "tau"],
    "utility": ["min", "max"],
    "examples": ["2 + 3 * 4", "sqrt(x^2 + y^2)", "log(2, 1024)", "max(1, 2, 3) >= 3 && 1"],
    "note": "log(x) is of base 10, log(base, x) of any; angles are radians; truth is 1 and 0; "
    "round(step, x) rounds to a multiple of step.",
}


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    del desk
    operation = arguments["operation"]
    if operation == "functions":
        return Outcome(operation=operation, result=_KNOWN, message="What expressions may hold")
    if not arguments.get("input", "").strip():
        raise field_invalid("input", "must be an expression")
    return _validate(arguments) if operation == "validate" else _evaluate(arguments)


def _validate(arguments: Arguments) -> Outcome:
    source = arguments["input"]
    result = {"input": source, "valid": True}
    try:
        expression.read(source)
    except ExpressionError as error:
        result |= {"valid": False, "error": error.message}
    return Outcome(operation="validate", result=result)


def _evaluate(arguments: Arguments) -> Outcome:
    source, variables = arguments["input"], arguments["variables"]
    if len(variables) > VARIABLES_MAX:
        raise field_invalid("variables", f"must be at most {VARIABLES_MAX}")
    started = time.process_time()
    try:
        code = expression.read(source)
        value = expression.evaluate(code, variables)
    except ExpressionError as error:
        failure = Failure(message=error.message, code=error.code, details=error.details)
        return Outcome(operation="evaluate", message="Evaluation failed", failure=failure)
    usage = {
        "memory_bytes": len(source.encode()) + len(code) * expression.INSTRUCTION_BYTES,
        "cpu_time_ms": round((time.process_time() - started) * 1000, 3),
        "operations_count": sum(isinstance(step, Apply) for step in code),
    }
    return Outcome(
        operation="evaluate",
        result={**_result(source, value, variables), "resource_usage": usage},
        message=f"{source[:200]} = {_words(value)}",
    )


def _result(source: str, value: float, variables: dict[str, float]) -> dict[str, Any]:
    special = not math.isfinite(value)
    return {
        "input": source,
        "result": _words(value) if special else value,
        "result_type": "special" if special else "float",
        "variables": variables,
    }


def _words(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:g}" if value.is_integer() and abs(value) < 1e6 else repr(value)  # noqa: PLR2004


_VARIABLES = mapping("Numbers by name.", number("Its value."), default={})
_NAMES = {"type": "array", "items": {"type": "string"}}

TOOLS = (
    Tool(
        name="calculator",
        description="Evaluates arithmetic with functions and variables.",
        category="utility",
        level=Level.SAFE,
        synonyms={"expression": "input", "text": "input", "formula": "input", "vars": "variables"},
        limits=ToolLimits(wall_s=5.0, cpu_s=5, memory_bytes=64 * MIB),
        parameters=parameters(
            (),
            operation=choice(
                "What to do.", "evaluate", "validate", "functions", default="evaluate"
            ),
            input=text("The expression, such as `2 * (x + 1)`."),
            variables=_VARIABLES,
        ),
        result=one_of(
            record(
                "Of evaluate.",
                ("input", "result", "result_type", "variables"),
                input=text("The expression."),
                result={
                    "type": ["number", "string"],
                    "description": "A float, or NaN, Infinity or -Infinity in words.",
                },
                result_type=choice("Which of the two.", "float", "special"),
                variables=_VARIABLES,
                resource_usage=mapping(
                    "memory_bytes, cpu_time_ms, operations_count.", number("A count.")
                ),
            ),
            record(
                "Of validate.",
                ("input", "valid"),
                input=text("The expression."),
                valid=flag("Whether it can be read."),
                error=text("Why not."),
            ),
            record(
                "Of functions.",
                tuple(_KNOWN),
                **{name: _NAMES for name in _KNOWN if name != "note"},
                note=text("What else to know."),
            ),
        ),
        notes="What cannot be evaluated is an answer with success false and a code. Numbers are "
        "64-bit floats: division by 0 is infinite, as IEEE 754 says. "
        f"At most {expression.OPERATIONS_MAX} operations.",
        run=_run,
    ),
)
