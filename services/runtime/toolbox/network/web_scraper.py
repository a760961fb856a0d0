"""web-scraper: title, text, links, images and metadata of a page, and what selectors find."""

from __future__ import annotations

from typing import Any

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    not_implemented,
    parameters,
)
from services.runtime.toolbox.network import calling, pages, url
from services.runtime.toolbox.network.http import Http

TEXT_LENGTH_MAX = MIB // 2
FOUND_MAX = 1000
"""Links, images, and elements that one selector finds."""
SELECTORS_MAX = 50
_CONTENT = frozenset({"title", "text", "links", "images", "metadata", "selected_content"})


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    if arguments["wait_for_js"]:
        raise not_implemented("web-scraper has no browser: wait_for_js is not offered.")
    http = Http(desk, timeout_s=arguments["timeout"])
    response = pages.page(http, url.parse(arguments["input"]))
    tree = pages.parsed(response)
    base = pages.base_of(tree, response.url)
    content: dict[str, Any] = {"title": pages.title_of(tree)}
    if arguments["extract_links"]:
        content["links"] = _addresses(tree, base, "a", "href")
    if arguments["extract_images"]:
        content["images"] = _addresses(tree, base, "img", "src")
    if arguments["extract_meta"]:
        content["metadata"] = _metadata(tree)
    if "selector" in arguments:
        content["selected_content"] = _texts(tree, arguments["selector"], "selector")
    for name, selector in arguments["selectors"].items():
        known = name if name not in _CONTENT else f"selected_{name}"
        content[known] = _texts(tree, selector, f"selectors.{name}")
    content["text"] = "\n".join(pages.lines_of(tree))[:TEXT_LENGTH_MAX]
    return Outcome(
        operation="scrape",
        result={"url": str(response.url), "content": content},
        message=f"Read {response.url}",
        metadata={"status_code": response.status, "redirects": list(response.redirects)},
    )


def _addresses(tree: LexborHTMLParser, base: url.Url, tag: str, attribute: str) -> list[str]:
    found = pages.links_of(tree, base, tag, attribute)
    return [str(link) for link, _ in zip(found, range(FOUND_MAX), strict=False)]


def _texts(tree: LexborHTMLParser, selector: str, field: str) -> list[str]:
    nodes: list[LexborNode] = pages.selected(tree, selector, field)
    return [pages.text_of(node) for node in nodes[:FOUND_MAX]]


def _metadata(tree: LexborHTMLParser) -> dict[str, Any]:
    tags: dict[str, str] = {}
    for node in tree.css("meta[content]")[:FOUND_MAX]:
        told = node.attributes
        name = told.get("name") or told.get("property") or told.get("http-equiv")
        if name:
            tags.setdefault(name[:200], (told.get("content") or "")[:2000])
    return {"description": tags.get("description", ""), "meta_tags": tags}


def _flag(text: str) -> dict[str, Any]:
    return {"type": "boolean", "default": False, "description": text}


TOOLS = (
    Tool(
        name="web-scraper",
        description="Reads a web page: title, text, links, images, metadata, CSS selectors.",
        category="data",
        level=Level.RESTRICTED,
        needs=frozenset({Need.NETWORK}),
        synonyms={"url": "input"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("input",),
            input=calling.URL,
            selector={"type": "string", "description": "CSS selector of what is wanted."},
            selectors={
                "type": "object",
                "additionalProperties": {"type": "string"},
                "maxProperties": SELECTORS_MAX,
                "default": {},
                "description": "CSS selectors by the name under which their texts come.",
            },
            extract_links=_flag("Whether to list where the page's links lead."),
            extract_images=_flag("Whether to list the page's images."),
            extract_meta=_flag("Whether to tell the page's metadata."),
            wait_for_js=_flag("Not offered: there is no browser."),
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "url": {"description": "The page, after redirects.", "type": "string"},
                "content": {
                    "description": "`title`, `text`, and what was asked for by its name.",
                    "type": "object",
                    "properties": {
                        "title": {"type": "string"},
                        "text": {"type": "string"},
                        "links": {"type": "array", "items": {"type": "string"}},
                        "images": {"type": "array", "items": {"type": "string"}},
                        "metadata": {"type": "object"},
                        "selected_content": {"type": "array", "items": {"type": "string"}},
                    },
                    "additionalProperties": {"type": "array", "items": {"type": "string"}},
                    "required": ["title", "text"],
                },
            },
            "required": ["url", "content"],
        },
        notes="Scripts of the page are not run. At most 1000 links, images, and elements of one "
        "selector.",
        run=_run,
    ),
)
