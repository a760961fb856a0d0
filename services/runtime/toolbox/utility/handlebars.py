"""The core of Handlebars, https://handlebarsjs.com/guide/: paths, blocks, comments, escapes.

There is no well-kept library of it for Python. Helpers of one's own, partials, decorators and block
parameters are refused by name.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from services.runtime.toolbox.model import field_invalid, limit_exceeded, not_implemented

OUTPUT_BYTES_MAX = 1_000_000
STEPS_MAX = 100_000
DEPTH_MAX = 50

_TAG = re.compile(
    r"\{\{(?P<left>~?)(?:!--(?P<long>.*?)--|!(?P<comment>[^}]*)|\{(?P<raw>[^}]*)\}|(?P<tag>[^{}]*))"
    r"~?\}\}",
    re.DOTALL,
)
_BLOCKS = ("if", "unless", "each", "with")
_REFUSED = {">": "partials", "*": "decorators", "#>": "partial blocks", "#*": "inline partials"}


@dataclass(slots=True)
class _Block:
    """A block, or the template itself where it has no name."""

    name: str
    path: str
    line: int
    inner: list[_Node] = field(default_factory=list)
    otherwise: list[_Node] = field(default_factory=list)
    in_otherwise: bool = False
    chained: bool = False
    """Whether it came of `{{else if}}`, and so ends with the block around it."""

    def add(self, node: _Node) -> None:
        (self.otherwise if self.in_otherwise else self.inner).append(node)


@dataclass(frozen=True, slots=True)
class _Value:
    """What a path leads to."""

    path: str
    raw: bool


_Node = str | _Value | _Block


@dataclass(frozen=True, slots=True)
class _Frame:
    """What paths begin at, and the frame around it."""

    value: Any
    data: dict[str, Any]
    """`@index` and its kind."""
    outer: _Frame | None = None


def render(source: str, context: dict[str, Any]) -> str:
    """The text that a template makes.

    Raises:
        ToolError: FIELD_INVALID naming the line, NOT_IMPLEMENTED, LIMIT_EXCEEDED.
    """
    return _Renderer(context).text(_read(source))


def _read(source: str) -> list[_Node]:
    stack = [_Block("", "", 1)]
    end = 0
    trim = False
    for match in _TAG.finditer(source):
        plain = source[end : match.start()]
        plain = plain.lstrip() if trim else plain
        stack[-1].add(plain.rstrip() if match["left"] else plain)
        end, trim = match.end(), match[0].endswith("~}}")
        line = source.count("\n", 0, match.start()) + 1
        _take(match, stack, line)
    rest = source[end:]
    if "{{" in rest:
        raise _wrong("has {{ without }}", source.count("\n", 0, end + rest.index("{{")) + 1)
    stack[-1].add(rest.lstrip() if trim else rest)
    if len(stack) > 1:
        raise _wrong(f"has a block {stack[-1].name} without end", stack[-1].line)
    return stack[0].inner


def _wrong(what: str, line: int) -> Exception:
    return field_invalid("input", f"{what} in line {line}")


def _take(match: re.Match[str], stack: list[_Block], line: int) -> None:
    if match["raw"] is not None:
        stack[-1].add(_Value(_path(match["raw"], line), raw=True))
    elif match["tag"] is not None:
        _take_tag(match["tag"].strip().rstrip("~").strip(), stack, line)


def _take_tag(tag: str, stack: list[_Block], line: int) -> None:
    for sign in ("#>", "#*", ">", "*"):
        if tag.startswith(sign):
            raise not_implemented(f"Handlebars' {_REFUSED[sign]} are not offered (line {line}).")
    if tag.startswith("#"):
        stack.append(_block(tag[1:].strip(), line))
        if len(stack) > DEPTH_MAX:
            raise limit_exceeded("input", len(stack), DEPTH_MAX, "blocks inside each other")
    elif tag.startswith("/"):
        _close(tag[1:].strip(), stack, line)
    elif tag in ("else", "^") or tag.startswith("else "):
        _otherwise(tag.removeprefix("else").strip(" ^"), stack, line)
    elif tag.startswith("^"):
        stack.append(_Block("unless", _path(tag[1:], line), line))
    else:
        stack[-1].add(_Value(_path(tag.removeprefix("&"), line), raw=tag.startswith("&")))


def _block(tag: str, line: int) -> _Block:
    name, _, path = tag.partition(" ")
    if name not in _BLOCKS:
        raise not_implemented(
            f"Of Handlebars' blocks there are {', '.join(_BLOCKS)}; {name} is not (line {line})."
        )
    return _Block(name, _path(path, line), line)


def _otherwise(more: str, stack: list[_Block], line: int) -> None:
    if not stack[-1].name or stack[-1].in_otherwise:
        raise _wrong("has an else without its block", line)
    stack[-1].in_otherwise = True
    if more:
        block = _block(more, line)
        block.chained = True
        stack.append(block)


def _close(name: str, stack: list[_Block], line: int) -> None:
    while True:
        block = stack.pop()
        if not stack:
            raise _wrong(f"ends a block {name} that does not begin", line)
        stack[-1].add(block)
        if not block.chained:
            break
    if block.name != name and not (block.name == "unless" and block.path == name):
        raise _wrong(f"ends a block {name} where {block.name} is open", line)


def _path(source: str, line: int) -> str:
    path = source.strip()
    if not path:
        raise _wrong("has an empty tag", line)
    if " as |" in path:
        raise not_implemented(f"Handlebars' block parameters are not offered (line {line}).")
    if re.search(r"\s|=|\(|\"", path):
        name = re.split(r"[\s(]", path.lstrip("("))[0]
        raise not_implemented(f"Handlebars' helpers are not offered: {name[:50]} (line {line}).")
    return path


def _steps(path: str) -> list[str]:
    """`a.[b c].d/e` is a, b c, d, e."""
    return [
        bracketed or plain for bracketed, plain in re.findall(r"\[([^\]]*)\]|([^./\[\]]+)", path)
    ]


class _Renderer:
    def __init__(self, context: dict[str, Any]) -> None:
        self._root = _Frame(context, {"root": context})
        self._size = 0
        self._count = 0

    def text(self, nodes: list[_Node]) -> str:
        return "".join(self._pieces(nodes, self._root))

    def _pieces(self, nodes: list[_Node], frame: _Frame) -> Iterator[str]:
        for node in nodes:
            self._count += 1
            if self._count > STEPS_MAX:
                raise limit_exceeded("input", self._count, STEPS_MAX, "steps")
            if isinstance(node, _Block):
                yield from self._block_pieces(node, frame)
                continue
            piece = node if isinstance(node, str) else _shown(_found(node.path, frame), node.raw)
            self._size += len(piece.encode())
            if self._size > OUTPUT_BYTES_MAX:
                raise limit_exceeded("output", self._size, OUTPUT_BYTES_MAX, "bytes")
            yield piece

    def _block_pieces(self, block: _Block, frame: _Frame) -> Iterator[str]:
        value = _found(block.path, frame)
        holds = _is_true(value) is (block.name != "unless")
        if not holds:
            yield from self._pieces(block.otherwise, frame)
        elif block.name == "each":
            yield from self._each(block, value, frame)
        elif block.name == "with":
            yield from self._pieces(block.inner, _Frame(value, frame.data, frame))
        else:
            yield from self._pieces(block.inner, frame)

    def _each(self, block: _Block, value: Any, frame: _Frame) -> Iterator[str]:
        if not isinstance(value, dict | list):
            yield from self._pieces(block.otherwise, frame)
            return
        pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
        for at, (key, inner) in enumerate(pairs):
            own = {"index": at, "key": key, "first": at == 0, "last": at == len(pairs) - 1}
            yield from self._pieces(block.inner, _Frame(inner, {**frame.data, **own}, frame))


def _found(path: str, frame: _Frame) -> Any:
    while path.startswith("../"):
        frame, path = frame.outer or frame, path[3:]
    if path.startswith("@"):
        first, *rest = _steps(path[1:])
        value = frame.data.get(first)
    else:
        path = re.sub(r"^(this|\.)(?=$|[./])", "", path)
        value, rest = frame.value, _steps(path)
    for step in rest:
        value = _part(value, step)
    return value


def _part(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list):
        if step == "length":
            return len(value)
        return value[int(step)] if step.isdecimal() and int(step) < len(value) else None
    return None


def _is_true(value: Any) -> bool:
    """As Handlebars has it, but an empty object is false: Lua's empty list arrives as one."""
    return bool(value)


def _shown(value: Any, raw: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float) and value.is_integer():
        text = str(int(value))
    elif isinstance(value, list):
        text = ",".join(_shown(inner, raw=True) for inner in value)
    else:
        text = "[object Object]" if isinstance(value, dict) else str(value)
    return text if raw else html.escape(text)
