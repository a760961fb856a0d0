"""xml-processor: XML as plain values, queried, checked and printed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any
from xml.etree import ElementTree as ET

from services.runtime.toolbox import text_bytes
from services.runtime.toolbox.data import xml_trees
from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    field_invalid,
    limit_exceeded,
    parameters,
    required,
)
from services.runtime.toolbox.schema import (
    anything,
    choice,
    flag,
    listing,
    mapping,
    one_of,
    record,
    text,
    whole,
)

INPUT_BYTES_MAX = 8 * MIB
RESULTS_MAX = 10_000
_TAIL = re.compile(r"(?P<path>.*?)/?(?P<what>@[\w:.-]+|text\(\))", re.DOTALL)


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    source = _source(arguments, desk)
    return Outcome(operation=operation, result=_OPERATIONS[operation](source, arguments))


def _source(arguments: Arguments, desk: Desk) -> str:
    if "input_file" in arguments:
        path = arguments["input_file"]
        data = desk.folder.read(path, field="input_file", limit=INPUT_BYTES_MAX)
        # A declaration would contradict the text that the bytes have become.
        source = re.sub(r"^\ufeff?<\?xml[^>]*\?>", "", text_bytes.decoded(data)[0])
    else:
        source = required(arguments, "input")
    if len(source.encode()) > INPUT_BYTES_MAX:
        raise limit_exceeded("input", len(source.encode()), INPUT_BYTES_MAX, "bytes")
    return source


def _parse(source: str, arguments: Arguments) -> dict[str, Any]:
    root = xml_trees.given(source)
    if arguments["style"] == "tree":
        return xml_trees.tree(root)
    return {str(root.tag): xml_trees.compact(root)}


def _query(source: str, arguments: Arguments) -> dict[str, Any]:
    root = xml_trees.given(source, namespaces=True)
    path, what = _parted(required(arguments, "query"))
    try:
        found = _found(root, path, arguments["namespaces"])
        values = list(itertools.islice(_values(found, what), RESULTS_MAX + 1))
    except (SyntaxError, KeyError, ValueError, TypeError) as error:
        words = f"is no path that ElementTree takes: {error}"
        raise field_invalid("query", words[:300]) from None
    if len(values) > RESULTS_MAX:
        raise limit_exceeded("query", len(values), RESULTS_MAX, "results")
    return {"results": values, "count": len(values)}


def _parted(query: str) -> tuple[str, str]:
    """Path, and which attribute or text of what it leads to."""
    match = _TAIL.fullmatch(query.strip())
    return (match["path"], match["what"]) if match else (query.strip(), "")


def _found(root: ET.Element, path: str, namespaces: dict[str, str]) -> Iterable[ET.Element]:
    """Elements; a path may begin at the document, or at the root."""
    if path in ("", "."):
        return [root]
    if path.startswith("//"):
        path = f".{path}"
    document = ET.Element("document")
    document.append(root)
    if path.startswith("/"):
        return document.iterfind(path[1:], namespaces)
    if path.startswith(".//"):
        return document.iterfind(path, namespaces)
    return root.iterfind(path, namespaces)


def _values(found: Iterable[ET.Element], what: str) -> Iterable[Any]:
    for element in found:
        if not what:
            yield {
                "tag": element.tag,
                "text": (element.text or "").strip(),
                "attributes": dict(element.attrib),
                "value": xml_trees.compact(element),
            }
        elif what == "text()":
            yield "".join(element.itertext()).strip()
        elif what[1:] in element.attrib:
            yield element.attrib[what[1:]]


def _validate(source: str, _: Arguments) -> dict[str, Any]:
    try:
        root = xml_trees.read(source)
    except ET.ParseError as error:
        line, column = error.position
        return {"valid": False, "error": str(error.msg), "line": line, "column": column}
    except xml_trees.EntityError as error:
        return {"valid": False, "error": xml_trees.why(error)}
    elements = [element for element in root.iter() if isinstance(element.tag, str)]
    return {"valid": True, "root": root.tag, "element_count": len(elements)}


def _format(source: str, arguments: Arguments) -> str:
    root = xml_trees.given(source)
    indent = int(arguments["indent"])
    if indent:
        ET.indent(root, " " * indent)
    else:
        _without_blanks(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _without_blanks(root: ET.Element) -> None:
    for element in root.iter():
        if not (element.text or "").strip() and len(element):
            element.text = None
        if not (element.tail or "").strip():
            element.tail = None


_OPERATIONS: dict[str, Callable[[str, Arguments], Any]] = {
    "parse": _parse,
    "query": _query,
    "validate": _validate,
    "format": _format,
}

TOOLS = (
    Tool(
        name="xml-processor",
        description="Reads XML as plain values, queries, checks and prints it.",
        category="data",
        level=Level.SAFE,
        needs=frozenset({Need.FILES}),
        synonyms={
            "xml": "input",
            "data": "input",
            "text": "input",
            "content": "input",
            "xpath": "query",
            "path": "input_file",
            "file": "input_file",
        },
        parameters=parameters(
            (),
            operation=choice("What to do.", *_OPERATIONS, default="parse"),
            input=text("The XML text."),
            input_file=text("A file that holds it, instead of `input`."),
            query=text("query: a path such as `.//book[@id='1']/title`, `//a/@href`, `b/text()`."),
            namespaces=mapping("query: address by prefix.", {"type": "string"}, default={}),
            style=choice(
                "parse: how elements become values.", "compact", "tree", default="compact"
            ),
            indent=whole("format: blanks a level; 0 is one line.", default=2, minimum=0, maximum=8),
        ),
        result=one_of(
            record(
                "Of query.",
                ("results", "count"),
                results=listing(
                    "Texts, or elements with tag, text, attributes and value.", anything("One.")
                ),
                count=whole("How many."),
            ),
            record(
                "Of validate.",
                ("valid",),
                valid=flag("Whether it is well formed."),
                error=text("What is wrong."),
                line=whole("Where."),
                column=whole("Where."),
                root=text("Name of the outermost element."),
                element_count=whole("Elements."),
            ),
            mapping("Of parse: the outermost element by its name, or a tree.", {}),
            text("Of format."),
        ),
        notes="Documents that declare entities are refused. Queries are ElementTree's part of "
        "XPath, with `@name` and `text()` at the end. A schema is not checked.",
        run=_run,
    ),
)
