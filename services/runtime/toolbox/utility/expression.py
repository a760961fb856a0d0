"""Arithmetic as people write it: a reader that makes postfix code, and its evaluation.

Numbers are floats, as in the original. Truth is 1 and 0. There are no calls but those of the table
here, no attributes, no strings and no loops, so the steps of an evaluation are its instructions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from services.runtime.toolbox.utility import expression_functions

LENGTH_MAX = 50_000
"""Bytes of an expression."""
OPERATIONS_MAX = 10_000
"""Operators and functions that an evaluation may carry out."""
DEPTH_MAX = 100
"""Parentheses and signs inside each other."""
INSTRUCTION_BYTES = 200
"""What one instruction takes in memory, roughly."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\*\*|&&|\|\||[<>=!]=|[-+*/%^<>!(),])"
    r"|(?P<end>$)|(?P<wrong>.))",
    re.ASCII | re.DOTALL,
)
_WORDS = {"and": "&&", "or": "||", "not": "!", "**": "^"}
_PRECEDENCE = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 4, "<=": 4, ">": 4, ">=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "^": 8,
}  # fmt: skip
_PREFIX_PRECEDENCE = 7
_PREFIX = {"-": "negate", "+": "", "!": "!"}


class ExpressionError(Exception):
    """An expression cannot be read or evaluated; `code` is for programs."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Push:
    """Put a number on the stack."""

    value: float


@dataclass(frozen=True, slots=True)
class Load:
    """Put a variable's number on the stack."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Replace the last `count` numbers by what a function makes of them."""

    name: str
    count: int


Instruction = Push | Load | Apply


def read(source: str) -> list[Instruction]:
    """The postfix code of an expression.

    Raises:
        ExpressionError: syntax_error, unknown_function, wrong_arguments, too_long, too_deep.
    """
    if len(source.encode()) > LENGTH_MAX:
        raise ExpressionError("too_long", f"The expression has more than {LENGTH_MAX} bytes.")
    return _Reader(source).code()


def evaluate(code: list[Instruction], variables: Mapping[str, float]) -> float:
    """The number that code makes; infinite or not a number where mathematics says so.

    Raises:
        ExpressionError: unknown_variable, operation_limit.
    """
    operations = sum(isinstance(step, Apply) for step in code)
    if operations > OPERATIONS_MAX:
        raise ExpressionError(
            "operation_limit",
            f"The expression has {operations} operations; the limit is {OPERATIONS_MAX}.",
            limit=OPERATIONS_MAX,
        )
    stack: list[float] = []
    for step in code:
        match step:
            case Push():
                stack.append(step.value)
            case Load():
                stack.append(_variable(step.name, variables))
            case Apply():
                given = stack[len(stack) - step.count :]
                del stack[len(stack) - step.count :]
                stack.append(float(_function(step.name)(*given)))
    return stack[0]


def _variable(name: str, variables: Mapping[str, float]) -> float:
    if name in variables:
        return float(variables[name])
    if name in expression_functions.CONSTANTS:
        return expression_functions.CONSTANTS[name]
    raise ExpressionError("unknown_variable", f"There is no variable {name}.", name=name)


def _function(name: str) -> Callable[..., float]:
    operator = expression_functions.OPERATORS.get(name)
    return operator or expression_functions.FUNCTIONS[name].body


class _Reader:
    """Precedence climbing over tokens."""

    def __init__(self, source: str) -> None:
        self._tokens = _tokens(source)
        self._token = next(self._tokens)
        self._code: list[Instruction] = []
        self._depth = 0

    def code(self) -> list[Instruction]:
        self._expression(0)
        if self._token.kind != "end":
            raise self._unexpected()
        return self._code

    def _advance(self) -> _Token:
        token = self._token
        self._token = next(self._tokens, token)
        return token

    def _unexpected(self) -> ExpressionError:
        token = self._token
        what = f"{token.text!r} is not expected" if token.text else "More is expected"
        return ExpressionError(
            "syntax_error", f"{what} at position {token.position}.", position=token.position
        )

    def _is(self, sign: str) -> bool:
        return self._token.kind == "sign" and self._token.text == sign

    def _expect(self, sign: str) -> None:
        if not self._is(sign):
            raise self._unexpected()
        self._advance()

    def _expression(self, floor: int) -> None:
        """An expression whose operators bind at least as tightly as `floor`."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ExpressionError("too_deep", f"The expression nests deeper than {DEPTH_MAX}.")
        self._operand()
        while self._token.kind == "sign" and _PRECEDENCE.get(self._token.text, -1) >= floor:
            operator = self._advance().text
            precedence = _PRECEDENCE[operator]
            # The power of a power is read from the right.
            self._expression(precedence if operator == "^" else precedence + 1)
            self._code.append(Apply(operator, 2))
        self._depth -= 1

    def _operand(self) -> None:
        token = self._token
        if token.kind == "sign" and token.text in _PREFIX:
            self._advance()
            self._expression(_PREFIX_PRECEDENCE)
            if _PREFIX[token.text]:
                self._code.append(Apply(_PREFIX[token.text], 1))
        elif self._is("("):
            self._advance()
            self._expression(0)
            self._expect(")")
        elif token.kind == "number":
            self._code.append(Push(float(self._advance().text)))
        elif token.kind == "name":
            self._name(self._advance().text)
        else:
            raise self._unexpected()

    def _name(self, name: str) -> None:
        if self._is("("):
            self._call(name)
        else:
            self._code.append(Load(name))

    def _call(self, name: str) -> None:
        known = expression_functions.FUNCTIONS.get(name)
        if known is None:
            raise ExpressionError("unknown_function", f"There is no function {name}.", name=name)
        self._expect("(")
        count = 0
        while not self._is(")"):
            if count:
                self._expect(",")
            self._expression(0)
            count += 1
        self._expect(")")
        if not known.least <= count <= (math.inf if known.most is None else known.most):
            raise ExpressionError(
                "wrong_arguments", f"{name} takes {known.takes}, not {count}.", name=name
            )
        self._code.append(Apply(name, count))


def _tokens(source: str) -> Iterator[_Token]:
    position = 0
    while match := _TOKEN.match(source, position):
        kind = match.lastgroup or "end"
        text = match[kind]
        start = match.start(kind) + 1
        if kind == "wrong":
            raise ExpressionError(
                "syntax_error", f"{text!r} is not expected at position {start}.", position=start
            )
        if text in _WORDS:
            kind, text = "sign", _WORDS[text]
        yield _Token(kind, text, start)
        if kind == "end":
            return
        position = match.end()
