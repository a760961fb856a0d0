"""rss-reader: a feed and its entries, RSS or Atom."""

from __future__ import annotations

import calendar
import io
from datetime import UTC, datetime
from typing import Any

import feedparser

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    failed,
    field_invalid,
    parameters,
)
from services.runtime.toolbox.network import calling, pages, url
from services.runtime.toolbox.network.http import Http

ENTRIES_MAX = 500
_TEXT_LENGTH_MAX = 4096
_LISTED_MAX = 50
_ACCEPT = "application/rss+xml, application/atom+xml, application/xml;q=0.9, */*;q=0.8"

# Loads what the library loads late, which nothing can be in the jail.
for _sample in (b"<rss version='2.0'><channel><title>a</title></channel></rss>", b"<a><b>"):
    feedparser.parse(io.BytesIO(_sample))


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    if ("input" in arguments) == ("content" in arguments):
        raise field_invalid("input", "or content must be set, and not both")
    data, kind, address = _source(arguments, desk)
    try:
        told = feedparser.parse(io.BytesIO(data), response_headers={"content-type": kind})
    except Exception as error:  # noqa: BLE001 - whatever hostile bytes raise in it
        raise failed(f"The feed cannot be read: {type(error).__name__}.") from None
    if not told.version:
        raise failed(f"{address or 'The text'} is no feed.")
    entries = [_entry(entry) for entry in told.entries[: arguments["max_items"]]]
    result = {
        "url": address,
        "format": told.version,
        "feed": _feed(told.feed),
        "entries": entries,
        "count": len(entries),
        "total": len(told.entries),
        "well_formed": not told.bozo,
    }
    return Outcome(operation="read", result=result, message=f"Read {len(entries)} entries")


def _source(arguments: Arguments, desk: Desk) -> tuple[bytes, str, str | None]:
    """Bytes, content type, address."""
    if "content" in arguments:
        return arguments["content"].encode(), "application/xml; charset=utf-8", None
    http = Http(desk, timeout_s=arguments["timeout"])
    response = pages.page(http, url.parse(arguments["input"]), accept=_ACCEPT)
    return response.body, response.content_type or "application/xml", str(response.url)


def _feed(feed: Any) -> dict[str, Any]:
    return _filled(
        title=feed.get("title"),
        link=feed.get("link"),
        description=feed.get("subtitle"),
        language=feed.get("language"),
        author=feed.get("author"),
        generator=feed.get("generator"),
        updated=_time(feed.get("updated_parsed") or feed.get("published_parsed")),
    )


def _entry(entry: Any) -> dict[str, Any]:
    content = entry.get("content") or [{}]
    told = _filled(
        id=entry.get("id") or entry.get("link"),
        title=entry.get("title"),
        link=entry.get("link"),
        author=entry.get("author"),
        summary=entry.get("summary"),
        content=content[0].get("value"),
        published=_time(entry.get("published_parsed")),
        updated=_time(entry.get("updated_parsed")),
    )
    tags = entry.get("tags") or ()
    told["categories"] = [str(tag.get("term") or "")[:200] for tag in tags[:_LISTED_MAX]]
    told["enclosures"] = [
        _filled(url=one.get("href"), type=one.get("type"), length=one.get("length"))
        for one in (entry.get("enclosures") or ())[:_LISTED_MAX]
    ]
    return told


def _filled(**values: Any) -> dict[str, Any]:
    return {name: str(value)[:_TEXT_LENGTH_MAX] for name, value in values.items() if value}


def _time(parsed: Any) -> str | None:
    """RFC 3339 of a time in UTC; None where there is none that can be."""
    try:
        return datetime.fromtimestamp(calendar.timegm(parsed), UTC).isoformat() if parsed else None
    except (ValueError, OverflowError, OSError, TypeError):
        return None


TOOLS = (
    Tool(
        name="rss-reader",
        description="Reads a feed, RSS or Atom.",
        category="web",
        level=Level.SAFE,
        needs=frozenset({Need.NETWORK}),
        synonyms={"url": "input", "feed_url": "input", "limit": "max_items"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            input=calling.URL,
            content={"type": "string", "description": "The feed itself instead of its address."},
            max_items={
                "type": "integer",
                "minimum": 1,
                "maximum": ENTRIES_MAX,
                "default": 50,
                "description": "Most entries, in the feed's order.",
            },
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "url": {"description": "The feed, after redirects.", "type": ["string", "null"]},
                "format": {"type": "string", "description": "Such as `rss20` or `atom10`."},
                "feed": {"description": "What it says of itself.", "type": "object"},
                "entries": {
                    "description": "Entries, in its order.",
                    "type": "array",
                    "items": {"type": "object"},
                },
                "count": {"description": "How many are told.", "type": "integer"},
                "total": {"description": "How many it has.", "type": "integer"},
                "well_formed": {"description": "Whether it is as it should be.", "type": "boolean"},
            },
            "required": ["format", "feed", "entries", "count", "total", "well_formed"],
        },
        notes="Texts are cut at 4096 characters, and HTML in them is sanitised. Times are UTC.",
        run=_run,
    ),
)
