"""url-analyzer: the parts of an address; what the server says of it only if that is wanted."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.network import url
from services.runtime.toolbox.network.http import Http, Request

_PORTS = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443, "ssh": 22}
_PARAMETERS_MAX = 1000
_FETCH_SECONDS = 15.0


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    text = arguments["input"]
    if len(text) > url.URL_LENGTH_MAX:
        raise limit_exceeded("input", len(text), url.URL_LENGTH_MAX, "characters")
    try:
        result = _parts(text.strip(), decode=arguments["decode_params"])
    except ValueError as error:
        return Outcome(
            operation="analyze",
            result={"valid": False, "original": text, "error": str(error)},
            message="This is not an address",
        )
    if arguments["fetch_metadata"]:
        result["metadata"] = _fetched(text, desk)
    return Outcome(operation="analyze", result=result, message=f"Analysed {result['normalized']}")


def _parts(text: str, *, decode: bool) -> dict[str, Any]:
    """Raises ValueError."""
    parts = urlsplit(text)
    if not parts.scheme or not (parts.hostname or parts.path):
        raise ValueError("it has no scheme")
    if not parts.hostname and parts.scheme in _PORTS:
        raise ValueError("it names no host")
    host, port = parts.hostname or "", parts.port
    return {
        "valid": True,
        "original": text,
        "normalized": _normalized(parts, host, port),
        "scheme": parts.scheme,
        "host": host,
        "port": port if port is not None else _PORTS.get(parts.scheme),
        "path": parts.path or "/",
        "query": parts.query or None,
        "fragment": parts.fragment or None,
        "query_params": _parameters(parts.query, decode=decode),
        "username": unquote(parts.username) if parts.username else None,
        "has_auth": parts.username is not None,
        "has_password": parts.password is not None,
        "host_type": _host_type(host),
    }


def _normalized(parts: SplitResult, host: str, port: int | None) -> str:
    """Scheme and host in lower case, no default port, no credentials, a path."""
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS.get(parts.scheme):
        netloc = f"{netloc}:{port}"
    return urlunsplit(
        (
            parts.scheme,
            netloc,
            parts.path or "/" if host else parts.path,
            parts.query,
            parts.fragment,
        )
    )


def _parameters(query: str, *, decode: bool) -> dict[str, Any]:
    """Those of one name become a list."""
    if decode:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_PARAMETERS_MAX)
    else:
        split = [pair.partition("=") for pair in query.split("&")[:_PARAMETERS_MAX] if pair]
        pairs = [(name, value) for name, _, value in split]
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _host_type(host: str) -> dict[str, Any]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return {"type": "domain", "value": host, "is_ip": False}
    return {"type": f"ipv{address.version}", "value": str(address), "is_ip": True}


def _fetched(text: str, desk: Desk) -> dict[str, Any]:
    http = Http(desk, timeout_s=_FETCH_SECONDS, redirects=0)
    response = http.send(Request(url=url.parse(text), method="HEAD"))
    headers = response.headers
    length = headers.get("content-length", "")
    told = {
        "status_code": response.status,
        "content_type": headers.get("content-type"),
        "content_length": int(length) if length.isdigit() and len(length) < 16 else None,  # noqa: PLR2004 - digits of what fits
        "server": headers.get("server"),
        "last_modified": headers.get("last-modified"),
        "etag": headers.get("etag"),
        "redirect_location": headers.get("location"),
    }
    return {name: value for name, value in told.items() if value is not None}


TOOLS = (
    Tool(
        name="url-analyzer",
        description="Takes an address apart; asks its server about it if that is wanted.",
        category="data",
        level=Level.SAFE,
        needs=frozenset({Need.NETWORK}),
        synonyms={"url": "input"},
        limits=ToolLimits(wall_s=_FETCH_SECONDS + 5),
        parameters=parameters(
            ("input",),
            input={"type": "string", "description": "The address, of any scheme."},
            fetch_metadata={
                "type": "boolean",
                "default": False,
                "description": "Whether to send a HEAD request and tell what came back.",
            },
            decode_params={
                "type": "boolean",
                "default": True,
                "description": "Whether to decode `%20` and the like in `query_params`.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "valid": {"description": "Whether it is an address.", "type": "boolean"},
                "original": {"description": "What was given.", "type": "string"},
                "error": {"description": "Why it is none.", "type": "string"},
                "normalized": {
                    "description": "In plain form, without credentials.",
                    "type": "string",
                },
                "scheme": {"description": "Such as `https`.", "type": "string"},
                "host": {"description": "Name or address.", "type": "string"},
                "port": {"description": "Port, if one is named.", "type": ["integer", "null"]},
                "path": {"description": "Path.", "type": "string"},
                "query": {"description": "Behind `?`.", "type": ["string", "null"]},
                "fragment": {"description": "Behind `#`.", "type": ["string", "null"]},
                "query_params": {
                    "description": "Values by name; several are a list.",
                    "type": "object",
                },
                "username": {"description": "User, if one is named.", "type": ["string", "null"]},
                "has_auth": {"description": "Whether there is a user.", "type": "boolean"},
                "has_password": {"description": "Whether there is a password.", "type": "boolean"},
                "host_type": {
                    "description": "`type` (domain, ipv4, ipv6), `value`, `is_ip`.",
                    "type": "object",
                },
                "metadata": {
                    "description": "What the server said, with `fetch_metadata`.",
                    "type": "object",
                },
            },
            "required": ["valid", "original"],
        },
        notes="`valid` is false for a text that is no address, and `error` says why. The network "
        "is used with `fetch_metadata` only.",
        run=_run,
    ),
)
