"""XML of strangers as trees, by expat: no entity is declared, nothing outside is read."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers import expat

from services.runtime.toolbox.model import field_invalid, limit_exceeded

DEPTH_MAX = 200
NODES_MAX = 200_000


class EntityError(Exception):
    """A document declares entities, or wants one from outside."""


class _Reader:
    """What expat tells, given to a builder."""

    def __init__(self, *, namespaces: bool) -> None:
        self._builder = TreeBuilder(insert_comments=True, insert_pis=True)
        self._depth = 0
        self._count = 0
        self._namespaces = namespaces
        self._parser = expat.ParserCreate(namespace_separator="}" if namespaces else None)
        self._parser.buffer_text = True
        self._parser.ordered_attributes = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._builder.data
        self._parser.CommentHandler = self._builder.comment
        self._parser.ProcessingInstructionHandler = self._builder.pi
        self._parser.EntityDeclHandler = self._refuse
        self._parser.ExternalEntityRefHandler = self._refuse
        self._parser.UnparsedEntityDeclHandler = self._refuse

    def tree(self, source: str) -> Element:
        self._parser.Parse(source, True)  # noqa: FBT003 - expat takes no keywords
        root: Element = self._builder.close()
        return root

    def _start(self, tag: str, attributes: list[str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > DEPTH_MAX:
            raise limit_exceeded("input", self._depth, DEPTH_MAX, "elements inside each other")
        if self._count > NODES_MAX:
            raise limit_exceeded("input", self._count, NODES_MAX, "elements")
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        self._builder.start(self._name(tag), {self._name(name): value for name, value in pairs})

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(self._name(tag))

    def _name(self, name: str) -> str:
        return "{" + name if self._namespaces and "}" in name else name

    def _refuse(self, *_: Any) -> int:
        raise EntityError


def read(source: str, *, namespaces: bool = False) -> Element:
    """The root; names are `{uri}local` with namespaces, as they are written otherwise.

    Raises:
        ParseError: It is not well formed; position is a line and a column.
        EntityError: It has entities of its own.
        ToolError: LIMIT_EXCEEDED.
    """
    try:
        return _Reader(namespaces=namespaces).tree(source)
    except expat.ExpatError as error:
        broken = ParseError(expat.ErrorString(error.code))
        broken.position = error.lineno, error.offset + 1
        raise broken from None


def given(source: str, *, namespaces: bool = False) -> Element:
    """The same for an argument.

    Raises:
        ToolError: FIELD_INVALID with line and column, LIMIT_EXCEEDED.
    """
    try:
        return read(source, namespaces=namespaces)
    except (ParseError, EntityError) as error:
        raise field_invalid("input", f"is not XML that is taken: {why(error)}") from None


def why(error: Exception) -> str:
    """What is wrong, in words."""
    if isinstance(error, ParseError):
        line, column = error.position
        return f"{error.msg} in line {line}, column {column}"
    return "it declares entities, or wants one from outside"


def compact(element: Element) -> Any:
    """An element as plain values: attributes as `@name`, text as `#text`, repeated ones as lists.

    One that has text alone is its text; one that has nothing is null.
    """
    value: dict[str, Any] = {f"@{name}": text for name, text in element.attrib.items()}
    for child in _elements(element):
        inner = compact(child)
        known = value.get(child.tag)
        if child.tag not in value:
            value[child.tag] = inner
        elif isinstance(known, list):
            known.append(inner)
        else:
            value[child.tag] = [known, inner]
    text = _text(element)
    if not value:
        return text or None
    if text:
        value["#text"] = text
    return value


def tree(element: Element) -> dict[str, Any]:
    """An element with every part by name, in order."""
    return {
        "tag": element.tag,
        "attributes": dict(element.attrib),
        "text": _text(element),
        "children": [tree(child) for child in _elements(element)],
    }


def _elements(element: Element) -> list[Element]:
    """Children that are no comments and no instructions; those have a function for a tag."""
    return [child for child in element if isinstance(child.tag, str)]


def _text(element: Element) -> str:
    pieces = [element.text, *(child.tail for child in element)]
    return "".join(piece for piece in pieces if piece).strip()
