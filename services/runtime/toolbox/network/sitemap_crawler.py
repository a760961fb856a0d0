"""sitemap-crawler: the addresses of a site's sitemaps, index files and packed ones among them."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    failed,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.network import calling, pages, url
from services.runtime.toolbox.network.http import BODY_BYTES_MAX, Http, Response
from services.runtime.toolbox.network.url import Url

SITEMAPS_MAX = 50
"""Files that are fetched."""
DEPTH_MAX = 3
"""Index files that lead to one another."""
URLS_MAX = 10_000
_VALUE_LENGTH_MAX = 2048
_FACTS = ("lastmod", "changefreq", "priority")


@dataclass(slots=True, kw_only=True)
class _Map:
    """What one file holds."""

    sitemaps: list[str] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)


class _Reader:
    """Reads one file without a document type, which could name entities and other files."""

    def __init__(self) -> None:
        self.found = _Map()
        self._entry: dict[str, str] | None = None
        self._text: list[str] = []
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append
        self._parser.StartDoctypeDeclHandler = self._refuse

    def read(self, data: bytes) -> _Map:
        self._parser.Parse(data, True)  # noqa: FBT003 - a C function's
        return self.found

    def _begin(self, name: str, _: dict[str, str]) -> None:
        self._text.clear()
        if name.rpartition(" ")[2] in ("url", "sitemap"):
            self._entry = {}

    def _end(self, name: str) -> None:
        plain = name.rpartition(" ")[2]
        if self._entry is None:
            return
        if plain == "sitemap":
            self.found.sitemaps.append(self._entry.get("loc", ""))
            self._entry = None
        elif plain == "url":
            self.found.pages.append(_page(self._entry))
            self._entry = None
        elif plain in ("loc", *_FACTS):
            # Extensions such as image:loc come after the page's own.
            self._entry.setdefault(plain, "".join(self._text).strip()[:_VALUE_LENGTH_MAX])

    def _refuse(self, *_: object) -> None:
        raise failed("A sitemap must have no document type.")


def _page(entry: dict[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"url": entry.get("loc", "")}
    told |= {name: entry[name] for name in _FACTS if entry.get(name)}
    if "priority" in told:
        try:
            told["priority"] = min(max(float(told["priority"]), 0.0), 1.0)
        except ValueError:
            del told["priority"]
    told["has_metadata"] = len(told) > 1
    return told


def _read(response: Response) -> _Map:
    data = _plain(response.body)
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):  # a list of addresses is one too
        lines = data.decode("utf-8", "replace").split()
        return _Map(pages=[_page({"loc": line[:_VALUE_LENGTH_MAX]}) for line in lines])
    try:
        return _Reader().read(data)
    except expat.ExpatError as error:
        raise failed(f"{response.url} is no sitemap: {error}.") from None


def _plain(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            plain = file.read(BODY_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise failed(f"A packed sitemap cannot be read: {error}.") from None
    if len(plain) > BODY_BYTES_MAX:
        raise limit_exceeded("sitemap", len(plain), BODY_BYTES_MAX, "bytes")
    return plain


@dataclass(slots=True)
class _Crawl:
    """Goes through the files of one site, each once."""

    http: Http
    urls_max: int
    follow: bool
    urls: list[dict[str, Any]] = field(default_factory=list)
    discovered: int = 0
    indexes: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def visit(self, address: Url, depth: int = 0) -> None:
        """Read one file, and those it names; only the first must be readable."""
        self.seen.add(str(address))
        found = _read(pages.page(self.http, address, accept="application/xml, */*;q=0.8"))
        self.discovered += len(found.pages)
        self.urls += found.pages[: self.urls_max - len(self.urls)]
        self.indexes += bool(found.sitemaps)
        if self.follow and depth < DEPTH_MAX:
            for location in found.sitemaps:
                self._follow(address, location, depth)

    def _follow(self, base: Url, location: str, depth: int) -> None:
        if len(self.urls) >= self.urls_max or len(self.seen) >= SITEMAPS_MAX:
            return
        try:
            address = url.joined(base, location)
            if str(address) not in self.seen:
                self.visit(address, depth + 1)
        except ToolError as error:
            self.errors.append({"sitemap": location[:_VALUE_LENGTH_MAX], "error": error.message})


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    address = url.parse(arguments["input"])
    http = Http(desk, timeout_s=arguments["timeout"])
    crawl = _Crawl(http, arguments["max_urls"], arguments["follow_sitemaps"])
    crawl.visit(address)
    urls = crawl.urls
    return Outcome(
        operation="crawl",
        result={
            "sitemap_url": str(address),
            "urls_found": len(urls),
            "max_urls": arguments["max_urls"],
            "follow_sitemaps": arguments["follow_sitemaps"],
            "urls": urls,
            "errors": crawl.errors,
            "stats": {
                "sitemaps_processed": len(crawl.seen) - len(crawl.errors),
                "index_files_found": crawl.indexes,
                "total_urls_discovered": crawl.discovered,
                "urls_with_metadata": sum(found["has_metadata"] for found in urls),
            },
        },
        message=f"Found {len(urls)} addresses",
    )


TOOLS = (
    Tool(
        name="sitemap-crawler",
        description="Lists the addresses of a site's sitemaps, also through index files.",
        category="data",
        level=Level.SAFE,
        needs=frozenset({Need.NETWORK}),
        synonyms={"url": "input"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("input",),
            input={**calling.URL, "description": "Address of a sitemap or of an index of them."},
            follow_sitemaps={
                "type": "boolean",
                "default": True,
                "description": "Whether to read the sitemaps that an index names.",
            },
            max_urls={
                "type": "integer",
                "minimum": 1,
                "maximum": URLS_MAX,
                "default": 1000,
                "description": "Most addresses to list.",
            },
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "sitemap_url": {"description": "Where it began.", "type": "string"},
                "urls_found": {"description": "How many addresses there are.", "type": "integer"},
                "max_urls": {"description": "The most that were asked for.", "type": "integer"},
                "follow_sitemaps": {
                    "description": "Whether index files were followed.",
                    "type": "boolean",
                },
                "urls": {
                    "description": "Each with `url`, and what is known of it.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "url": {"type": "string"},
                            "lastmod": {"type": "string"},
                            "changefreq": {"type": "string"},
                            "priority": {"type": "number"},
                            "has_metadata": {"type": "boolean"},
                        },
                    },
                },
                "errors": {
                    "description": "Sitemaps that could not be read, and why.",
                    "type": "array",
                    "items": {"type": "object"},
                },
                "stats": {
                    "description": "Sitemaps read, index files, addresses, those with metadata.",
                    "type": "object",
                },
            },
            "required": ["sitemap_url", "urls_found", "urls", "stats"],
        },
        notes="At most 50 files, 3 steps from the first. A file behind an index that cannot be "
        "read is listed in `errors`.",
        run=_run,
    ),
)
