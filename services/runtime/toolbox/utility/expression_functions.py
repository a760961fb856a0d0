"""The operators, functions and constants of `expression`, over floats that may be infinite.

They follow IEEE 754 where Python would raise: 1/0 is infinite, sqrt(-1) is not a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
"""Known without parentheses too, unless a variable has the name."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function and how many numbers it takes."""

    body: Callable[..., float]
    least: int = 1
    most: int | None = 1

    @property
    def takes(self) -> str:
        """How many, in words."""
        if self.most is None:
            return f"{self.least} numbers or more"
        if self.least == self.most:
            return f"{self.least} number{'s' if self.least != 1 else ''}"
        return f"{self.least} to {self.most} numbers"


def _tame(body: Callable[..., float], overflow: float = math.inf) -> Callable[..., float]:
    """The same, with NaN outside its domain and infinity past the largest float."""

    def tamed(*numbers: float) -> float:
        try:
            return body(*numbers)
        except ValueError:
            return math.nan
        except OverflowError:
            return overflow

    return tamed


def _divide(left: float, right: float) -> float:
    if right:
        return left / right
    if not left or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _is_odd(number: float) -> bool:
    return math.fmod(number, 2.0) in (1.0, -1.0)


def _power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and _is_odd(exponent) else math.inf
    except ValueError:
        if base:
            return math.nan
        return math.copysign(math.inf, base) if _is_odd(exponent) else math.inf


def _logarithm(first: float, second: float | None = None) -> float:
    """Of base 10, or `log(base, x)`."""
    if second is None:
        return -math.inf if first == 0 else _tame(math.log10)(first)
    return _divide(_natural(second), _natural(first))


def _natural(number: float) -> float:
    return -math.inf if number == 0 else _tame(math.log)(number)


def _whole(body: Callable[[float], int]) -> Callable[[float], float]:
    return lambda number: float(body(number)) if math.isfinite(number) else number


def _round(first: float, second: float | None = None) -> float:
    """To the nearest whole number, halves away from 0; `round(step, x)` to the nearest step."""
    if second is not None:
        return first * _round(_divide(second, first))
    if not math.isfinite(first):
        return first
    whole = float(math.trunc(first))
    return whole + math.copysign(1.0, first) if abs(first - whole) >= 0.5 else whole  # noqa: PLR2004


def _sign(number: float) -> float:
    return number if not number or math.isnan(number) else math.copysign(1.0, number)


def _hyperbolic_sine(number: float) -> float:
    return _tame(math.sinh, math.copysign(math.inf, number))(number)


OPERATORS: dict[str, Callable[..., float]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divide,
    "%": _tame(math.fmod),
    "^": _power,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "&&": lambda left, right: bool(left) and bool(right),
    "||": lambda left, right: bool(left) or bool(right),
    "!": lambda number: not number,
    "negate": lambda number: -number,
}

FUNCTIONS = {
    "sqrt": Function(_tame(math.sqrt)),
    "cbrt": Function(_tame(math.cbrt)),
    "exp": Function(_tame(math.exp)),
    "ln": Function(_natural),
    "log": Function(_logarithm, 1, 2),
    "log2": Function(lambda number: -math.inf if number == 0 else _tame(math.log2)(number)),
    "log10": Function(_logarithm),
    "abs": Function(abs),
    "sign": Function(_sign),
    "pow": Function(_power, 2, 2),
    "sin": Function(_tame(math.sin)),
    "cos": Function(_tame(math.cos)),
    "tan": Function(_tame(math.tan)),
    "asin": Function(_tame(math.asin)),
    "acos": Function(_tame(math.acos)),
    "atan": Function(math.atan),
    "atan2": Function(math.atan2, 2, 2),
    "sinh": Function(_hyperbolic_sine),
    "cosh": Function(_tame(math.cosh)),
    "tanh": Function(math.tanh),
    "asinh": Function(math.asinh),
    "acosh": Function(_tame(math.acosh)),
    "atanh": Function(_tame(math.atanh)),
    "int": Function(_whole(math.trunc)),
    "ceil": Function(_whole(math.ceil)),
    "floor": Function(_whole(math.floor)),
    "round": Function(_round, 1, 2),
    "min": Function(lambda *numbers: min(numbers), 1, None),
    "max": Function(lambda *numbers: max(numbers), 1, None),
    "pi": Function(lambda: math.pi, 0, 0),
    "e": Function(lambda: math.e, 0, 0),
}
