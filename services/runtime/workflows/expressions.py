"""Expressions of conditions: `shared.count < 3 and steps.check.success`.

Comparisons, `and`, `or`, `not`, `in`, literals and references; nothing else can be written, so
nothing can be called, and it ends. Python's own parser reads the text, after references have been
taken out of it; of its tree only what is listed here is walked, and no code is made of it.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from services.common.errors import Reason, ServiceError
from services.common.limits import WORKFLOW_EXPRESSION_LENGTH_MAX
from services.runtime.workflows.references import (
    OLD_ROOTS,
    ROOTS,
    Reference,
    ReferenceTextError,
    Values,
    find,
    parse_reference,
)

_NODES_MAX = 500
_DEPTH_MAX = 40
_LITERALS = {"true": True, "false": False, "null": None, "nil": None, "none": None}
_WORDS = {"&&": " and ", "||": " or ", "~=": " != ", "!": " not "}
_TOKENS = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|\{\{(?P<braced>.*?)\}\}"""
    rf"""|(?<![\w.])(?P<path>(?:{"|".join((*ROOTS, *OLD_ROOTS))})\b"""
    r"""(?:\.[A-Za-z0-9_](?:[\w-]*[A-Za-z0-9_])?|\[\s*(?:-?\d+|"[^"\\]*"|'[^'\\]*')\s*\])*)"""
    r"""|(?P<word>&&|\|\||~=|!(?!=))""",
    re.DOTALL,
)
_ORDERED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class ExpressionError(ValueError):
    """A text is no expression; its message says why, for people."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """An expression that was read."""

    text: str
    tree: ast.expr
    references: Sequence[Reference]
    """In order; the tree names them `_0`, `_1` and so on."""


@lru_cache(maxsize=512)
def parse_expression(text: str) -> Parsed:
    """Read an expression.

    Raises:
        ExpressionError: where it is none.
    """
    if len(text) > WORKFLOW_EXPRESSION_LENGTH_MAX:
        raise ExpressionError(f"is longer than {WORKFLOW_EXPRESSION_LENGTH_MAX} characters")
    references: list[Reference] = []
    plain = _without_references(text, references)
    try:
        tree = ast.parse(plain.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError("cannot be read") from None
    _check(tree, len(references))
    return Parsed(text, tree, tuple(references))


def _without_references(text: str, references: list[Reference]) -> str:
    def put(token: re.Match[str]) -> str:
        if token["text"] is not None:
            return token["text"]
        if token["word"] is not None:
            return _WORDS[token["word"]]
        try:
            references.append(parse_reference(token["braced"] or token["path"] or ""))
        except ReferenceTextError as error:
            raise ExpressionError(str(error)) from None
        return f" _{len(references) - 1} "

    if re.search(r"(?<!\w)_\d", text):
        raise ExpressionError("names what it may not: a name that begins with _")
    return _TOKENS.sub(put, text)


def _check(tree: ast.expr, count: int) -> None:
    """Refuse all but what is listed here."""
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    seen = 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _NODES_MAX or depth > _DEPTH_MAX:
            raise ExpressionError("is too large")
        _check_node(node, count)
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


_ALLOWED = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Compare, ast.Eq, ast.NotEq, ast.In,
    ast.NotIn, ast.List, ast.Tuple, ast.Load, *_ORDERED,
)  # fmt: skip


def _check_node(node: ast.AST, count: int) -> None:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return
        case ast.Name(id=name) if name.lower() in _LITERALS:
            return
        case ast.Name(id=name) if re.fullmatch(r"_\d+", name) and int(name[1:]) < count:
            return
        case ast.Name(id=name):
            known = ", ".join(ROOTS)
            raise ExpressionError(f"names {name[:64]}; it may name {known}, true, false and null")
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())) | ast.USub():
            return
        case _ if isinstance(node, _ALLOWED):
            return
    raise ExpressionError(
        f"has what may not stand in one ({type(node).__name__}); there are and, or, not, in, "
        "comparisons, literals and references"
    )


def evaluate(text: str, values: Values) -> bool:
    """Whether an expression is true.

    Raises:
        ServiceError: WORKFLOW_INVALID where it is none, WORKFLOW_REFERENCE_MISSING where it
            compares by order what is not there or not of one kind.
    """
    try:
        parsed = parse_expression(text)
    except ExpressionError as error:
        raise ServiceError(
            Reason.WORKFLOW_INVALID,
            f"The expression {text[:200]!r} {error}.",
            expression=text[:200],
        ) from None
    return bool(_Walk(parsed, values).value(parsed.tree))


@dataclass(frozen=True, slots=True)
class _Walk:
    parsed: Parsed
    values: Values

    def value(self, node: ast.expr) -> Any:  # noqa: PLR0911  (one for each kind of node)
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name.lower() in _LITERALS:
                return _LITERALS[name.lower()]
            case ast.Name(id=name):
                return self._found(self.parsed.references[int(name[1:])])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.value(operand)
            case ast.UnaryOp(operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(self.value(part) for part in parts)
            case ast.BoolOp(values=parts):
                return any(self.value(part) for part in parts)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [self.value(part) for part in parts]
            case ast.Compare():
                return self._compared(node)
        raise AssertionError(type(node))  # `_check` lets nothing else in

    def _found(self, reference: Reference) -> Any:
        """What is not there is null, so that it can be asked for."""
        try:
            return find(reference, self.values)
        except ServiceError:
            return None

    def _compared(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for sign, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part)
            if not self._holds(sign, left, right):
                return False
            left = right
        return True

    def _holds(self, sign: ast.cmpop, left: Any, right: Any) -> bool:
        match sign:
            case ast.Eq():
                return are_equal(left, right)
            case ast.NotEq():
                return not are_equal(left, right)
            case ast.In():
                return _is_in(left, right)
            case ast.NotIn():
                return not _is_in(left, right)
        if not _have_order(left, right):
            raise ServiceError(
                Reason.WORKFLOW_REFERENCE_MISSING,
                f"The expression {self.parsed.text[:200]!r} compares {_told(left)} with "
                f"{_told(right)}, which have no order.",
                expression=self.parsed.text[:200],
            )
        return _ORDERED[type(sign)](left, right)


def are_equal(left: Any, right: Any) -> bool:
    """Whether two values are the same; 1 is 1.0, but true is not 1."""
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return bool(left == right)


def _is_in(part: Any, whole: Any) -> bool:
    if isinstance(whole, str):
        return isinstance(part, str) and part in whole
    if isinstance(whole, Mapping):
        return isinstance(part, str) and part in whole
    if isinstance(whole, Sequence):
        return any(are_equal(part, entry) for entry in whole)
    return False


def _have_order(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if isinstance(left, int | float):
        return isinstance(right, int | float)
    return isinstance(left, str) and isinstance(right, str)


def _told(value: Any) -> str:
    kinds = {dict: "a map", list: "a list", str: "text", bool: "a truth value"}
    number = "a number" if isinstance(value, int | float) else "a map"
    return "nothing" if value is None else kinds.get(type(value), number)
