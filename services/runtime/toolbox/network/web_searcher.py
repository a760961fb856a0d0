"""web-searcher: asks the search service that the operator has chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

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
    not_implemented,
    parameters,
)
from services.runtime.toolbox.network import calling, url
from services.runtime.toolbox.network.decoding import as_text
from services.runtime.toolbox.network.http import Http, Request

RESULTS_MAX = 50
TEXT_LENGTH_MAX = 2000
QUERY_LENGTH_MAX = 1000
_OK, _REDIRECTED = 200, 300

Ask = Callable[[Arguments, str, str], Request]
"""Arguments, the service's address, its key → what to send."""


def _get(base: str, path: str, query: Mapping[str, object], **headers: str) -> Request:
    address = url.parse(f"{base.rstrip('/')}{path}?{urlencode(query)}", "search_base_url")
    return Request(url=address, headers={"Accept": "application/json", **headers})


def _post(base: str, path: str, body: Mapping[str, object], **headers: str) -> Request:
    address = url.parse(f"{base.rstrip('/')}{path}", "search_base_url")
    given = {"Accept": "application/json", "Content-Type": "application/json", **headers}
    return Request(url=address, method="POST", headers=given, body=json.dumps(body).encode())


def _searxng(arguments: Arguments, base: str, _: str) -> Request:
    kinds = {"web": "general", "news": "news", "images": "images"}
    query = {
        "q": arguments["input"],
        "format": "json",
        "language": arguments["language"],
        "safesearch": int(arguments["safe_search"]),
        "categories": kinds[arguments["search_type"]],
    }
    return _get(base, "/search", query)


def _brave(arguments: Arguments, base: str, key: str) -> Request:
    kind = {"web": "web", "news": "news", "images": "images"}[arguments["search_type"]]
    query = {
        "q": arguments["input"],
        "count": min(arguments["max_results"], 20),
        "search_lang": arguments["language"],
        "safesearch": "strict" if arguments["safe_search"] else "off",
    }
    return _get(base, f"/res/v1/{kind}/search", query, **{"X-Subscription-Token": key})


def _tavily(arguments: Arguments, base: str, key: str) -> Request:
    body = {
        "query": arguments["input"],
        "max_results": min(arguments["max_results"], 20),
        "topic": "news" if arguments["search_type"] == "news" else "general",
    }
    return _post(base, "/search", body, Authorization=f"Bearer {key}")


def _serperdev(arguments: Arguments, base: str, key: str) -> Request:
    body = {
        "q": arguments["input"],
        "num": arguments["max_results"],
        "hl": arguments["language"],
        "safe": "active" if arguments["safe_search"] else "off",
    }
    kind = {"web": "search"}.get(arguments["search_type"], arguments["search_type"])
    return _post(base, f"/{kind}", body, **{"X-API-KEY": key})


def _serpapi(arguments: Arguments, base: str, key: str) -> Request:
    kind = {"web": "", "news": "nws", "images": "isch"}[arguments["search_type"]]
    query = {
        "engine": "google",
        "q": arguments["input"],
        "num": arguments["max_results"],
        "hl": arguments["language"],
        "safe": "active" if arguments["safe_search"] else "off",
        "api_key": key,
        **({"tbm": kind} if kind else {}),
    }
    return _get(base, "/search.json", query)


def _google(arguments: Arguments, base: str, key: str) -> Request:
    """Its Custom Search API; the key file has the key and, after a blank, the engine's id."""
    api_key, _, engine = key.partition(" ")
    query = {
        "key": api_key,
        "cx": engine.strip(),
        "q": arguments["input"],
        "num": min(arguments["max_results"], 10),
        "hl": arguments["language"],
        "safe": "active" if arguments["safe_search"] else "off",
        **({"searchType": "image"} if arguments["search_type"] == "images" else {}),
    }
    return _get(base, "/customsearch/v1", query)


def _bing(arguments: Arguments, base: str, key: str) -> Request:
    kind = {"web": "", "news": "/news", "images": "/images"}[arguments["search_type"]]
    query = {
        "q": arguments["input"],
        "count": arguments["max_results"],
        "setLang": arguments["language"],
        "safeSearch": "Strict" if arguments["safe_search"] else "Off",
    }
    return _get(base, f"/v7.0{kind}/search", query, **{"Ocp-Apim-Subscription-Key": key})


def _duckduckgo(arguments: Arguments, base: str, _: str) -> Request:
    """Its instant answers: what it knows of a subject, not a list of pages."""
    query = {"q": arguments["input"], "format": "json", "no_html": 1, "no_redirect": 1}
    return _get(base, "/", query | ({"kp": 1} if arguments["safe_search"] else {}))


PROVIDERS: dict[str, tuple[str, Ask]] = {
    "searxng": ("", _searxng),
    "brave": ("https://api.search.brave.com", _brave),
    "tavily": ("https://api.tavily.com", _tavily),
    "serperdev": ("https://google.serper.dev", _serperdev),
    "serpapi": ("https://serpapi.com", _serpapi),
    "google": ("https://customsearch.googleapis.com", _google),
    "bing": ("https://api.bing.microsoft.com", _bing),
    "duckduckgo": ("https://api.duckduckgo.com", _duckduckgo),
}
"""Name → its own address, and how it is asked."""
_LISTS = (
    "results",
    "organic",
    "organic_results",
    "news",
    "news_results",
    "images",
    "images_results",
    "items",
    "value",
    "RelatedTopics",
)
_TITLES = ("title", "name", "Text")
_SNIPPETS = ("snippet", "content", "description", "Text")
_LINKS = ("url", "link", "imageUrl", "original", "contentUrl", "FirstURL")
_WITHIN = ("web", "webPages")


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    name = _provider(arguments, desk.settings)
    own, ask = PROVIDERS[name]
    query = arguments["input"].strip()
    if not query or len(query) > QUERY_LENGTH_MAX:
        raise field_invalid("input", f"must be 1 to {QUERY_LENGTH_MAX} characters")
    base = desk.settings.get("base_url") or own
    http = Http(desk, timeout_s=arguments["timeout"])
    response = http.send(ask(arguments, base, desk.settings.get("api_key", "")))
    told, is_json = calling.as_json(as_text(response.body, response.content_type))
    if not is_json or not _OK <= response.status < _REDIRECTED:
        raise failed(
            f"The search service {name} answers {response.status} {response.reason}.",
            status_code=response.status,
        )
    found = [result for result in map(_result, _found(told)) if result["url"]]
    results = found[: arguments["max_results"]]
    return Outcome(
        operation=arguments["search_type"],
        result={"query": query, "provider": name, "count": len(results), "results": results},
        message=f"Found {len(results)} results",
    )


def _provider(arguments: Arguments, settings: Mapping[str, Any]) -> str:
    chosen: str = settings.get("provider", "")
    if not chosen:
        raise not_implemented("This deployment has no search provider: tools.search_provider.")
    asked = arguments.get("provider", chosen)
    if asked != chosen:
        raise not_implemented(f"This deployment asks {chosen}, not {asked}.")
    return chosen


def _found(told: Any) -> list[dict[str, Any]]:
    """The list of results, wherever a service puts it."""
    inner = [told.get(name) for name in _WITHIN] if isinstance(told, dict) else []
    places: list[dict[str, Any]] = [one for one in (told, *inner) if isinstance(one, dict)]
    for place in places:
        for name in _LISTS:
            if isinstance(place.get(name), list):
                return [one for one in place[name] if isinstance(one, dict)]
    return []


def _result(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": _text(told, _TITLES),
        "url": _text(told, _LINKS),
        "snippet": _text(told, _SNIPPETS),
    }


def _text(told: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if isinstance(told.get(name), str):
            return str(told[name])[:TEXT_LENGTH_MAX]
    return ""


TOOLS = (
    Tool(
        name="web-searcher",
        description="Searches the web with the service that this deployment has.",
        category="web",
        level=Level.SAFE,
        needs=frozenset({Need.NETWORK}),
        old_names=("web_search", "web-search"),
        synonyms={"query": "input", "q": "input", "limit": "max_results"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("input",),
            input={"type": "string", "description": "What to look for."},
            provider={
                "enum": list(PROVIDERS),
                "description": "Which service; only the one that the operator has chosen answers.",
            },
            max_results={
                "type": "integer",
                "minimum": 1,
                "maximum": RESULTS_MAX,
                "default": 10,
                "description": "Most results.",
            },
            search_type={
                "enum": ["web", "news", "images"],
                "default": "web",
                "description": "Of pages, news or images.",
            },
            safe_search={
                "type": "boolean",
                "default": True,
                "description": "Whether the service leaves out what is not for everybody.",
            },
            language={
                "type": "string",
                "pattern": "^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})?$",
                "default": "en",
                "description": "Of the results.",
            },
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "query": {"description": "What was looked for.", "type": "string"},
                "provider": {"description": "Who answered.", "type": "string"},
                "count": {"description": "How many results.", "type": "integer"},
                "results": {
                    "description": "`title`, `url`, `snippet` of each.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "title": {"type": "string"},
                            "url": {"type": "string"},
                            "snippet": {"type": "string"},
                        },
                    },
                },
            },
            "required": ["query", "provider", "count", "results"],
        },
        notes="Without `tools.search_provider` in the operator's settings it answers "
        "NOT_IMPLEMENTED. duckduckgo gives what it knows of a subject, which may be nothing; "
        "google gives 10 results at most, brave and tavily 20.",
        run=_run,
    ),
)
