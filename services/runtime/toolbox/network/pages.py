"""Fetching one page, and what stands in its HTML."""

from __future__ import annotations

from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from services.runtime.toolbox.model import ToolError, failed, field_invalid
from services.runtime.toolbox.network import url as urls
from services.runtime.toolbox.network.decoding import charset_of
from services.runtime.toolbox.network.http import Http, Request, Response
from services.runtime.toolbox.network.url import Url

SELECTOR_LENGTH_MAX = 1000
_UNSEEN = ["script", "style", "noscript", "template", "svg", "head"]
_OK, _REDIRECTED = 200, 300
_DECLARED_WITHIN = 1024
"""Bytes in which a page may say its encoding, by the standard of HTML."""


def page(http: Http, address: Url, *, accept: str = "text/html, */*;q=0.8") -> Response:
    """Fetch a page that is there.

    Raises:
        ToolError: as `Http.send`; TOOL_FAILED naming the status where it is no success.
    """
    response = http.send(Request(url=address, headers={"Accept": accept}))
    if not _OK <= response.status < _REDIRECTED:
        raise failed(
            f"{response.url} answers {response.status} {response.reason}.",
            status_code=response.status,
        )
    return response


def parsed(response: Response) -> LexborHTMLParser:
    """The page as a tree.

    Raises:
        ToolError: TOOL_FAILED where it is no text.
    """
    text = response.text()
    says_so_itself = b"charset" in response.body[:_DECLARED_WITHIN].lower()
    if says_so_itself and not charset_of(response.content_type):
        return LexborHTMLParser(response.body, encoding=True)
    return LexborHTMLParser(text)


def selected(tree: LexborHTMLParser, selector: str, field: str) -> list[LexborNode]:
    """What a CSS selector finds, in order.

    Raises:
        ToolError: FIELD_INVALID where it is none.
    """
    if not selector.strip() or len(selector) > SELECTOR_LENGTH_MAX:
        raise field_invalid(field, "must be a CSS selector")
    try:
        return list(tree.css(selector))
    except (SelectolaxError, ValueError):
        raise field_invalid(field, "must be a CSS selector") from None


def text_of(node: LexborNode) -> str:
    """What a reader sees of it, with single spaces."""
    return " ".join(node.text(separator=" ").split())


def title_of(tree: LexborHTMLParser) -> str:
    """The page's title; empty where it has none."""
    title = tree.css_first("title")
    return text_of(title) if title is not None else ""


def lines_of(tree: LexborHTMLParser) -> list[str]:
    """What a reader sees of the page, a line for each piece. Changes the tree."""
    tree.strip_tags(_UNSEEN)
    body = tree.body
    if body is None:
        return []
    lines = body.text(separator="\n").split("\n")
    return [" ".join(line.split()) for line in lines if line.strip()]


def links_of(tree: LexborHTMLParser, base: Url, tag: str, attribute: str) -> Iterator[Url]:
    """Each address of the web that such elements point at, once."""
    known: set[str] = set()
    for node in tree.css(f"{tag}[{attribute}]"):
        target = node.attributes.get(attribute) or ""
        try:
            link = urls.joined(base, target)
        except ToolError:  # mail addresses, scripts, data
            continue
        if str(link) not in known:
            known.add(str(link))
            yield link


def base_of(tree: LexborHTMLParser, address: Url) -> Url:
    """What the page's links are relative to."""
    base = tree.css_first("base[href]")
    try:
        return urls.joined(address, (base.attributes.get("href") or "") if base else "")
    except ToolError:
        return address
