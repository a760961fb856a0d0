"""service-checker: whether a service answers: a port, a web server, a name."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    field_invalid,
    parameters,
)
from services.runtime.toolbox.network import calling, url
from services.runtime.toolbox.network.http import Http, Request
from services.runtime.toolbox.network.url import HOST_LENGTH_MAX

TIMEOUT_SECONDS_MAX = 30.0
_DNS_PORT = 443
"""A look-up connects to nothing; whether the name may be known is asked for this port."""
_BAD = 500
_PORT_MAX = 65535

Fact = tuple[str, dict[str, Any], bool]
"""Status, metadata, whether the service is available."""


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    target, kind = _target(arguments), arguments["check_type"]
    timeout_s = arguments["timeout_seconds"]
    begin = time.monotonic()
    error = None
    try:
        status, metadata, available = _CHECKS[kind](target, timeout_s, desk)
    except ToolError as refusal:
        if refusal.reason != "HOST_UNREACHABLE":
            raise
        status, metadata, available, error = "unreachable", {}, False, refusal.message
    result = {
        "target": target,
        "check_type": kind,
        "available": available,
        "response_time_ms": round((time.monotonic() - begin) * 1000),
        "status": status,
        "error": error,
        "metadata": metadata,
        "timeout_seconds": timeout_s,
    }
    word = "answers" if available else "does not answer"
    return Outcome(operation=kind, result=result, message=f"{target} {word}")


def _target(arguments: Arguments) -> str:
    if ("target" in arguments) == ("host" in arguments):
        raise field_invalid("target", "or host must be set, and not both")
    if "target" in arguments:
        return str(arguments["target"])
    port = f":{arguments['port']}" if "port" in arguments else ""
    return f"{arguments['host']}{port}"


def _tcp(target: str, timeout_s: float, desk: Desk) -> Fact:
    host, port = _host_port(target)
    with desk.connect(host, port, timeout_s):
        return "open", {"host": host, "port": port}, True


def _web(scheme: str) -> Callable[[str, float, Desk], Fact]:
    def check(target: str, timeout_s: float, desk: Desk) -> Fact:
        text = target if "://" in target else f"{scheme}://{target}"
        address = url.parse(text, "target")
        if address.scheme != scheme:
            raise field_invalid("target", f"must be an address of {scheme}")
        http = Http(desk, timeout_s=timeout_s, redirects=0)
        response = http.send(Request(url=address, method="HEAD"))
        told = {"status_code": response.status, "server": response.headers.get("server", "")}
        return f"{response.status} {response.reason}", told, response.status < _BAD

    return check


def _dns(target: str, timeout_s: float, desk: Desk) -> Fact:
    addresses = desk.addresses(_host(target), _DNS_PORT, timeout_s)
    return "resolved", {"addresses": addresses}, True


def _host(target: str) -> str:
    if not target or len(target) > HOST_LENGTH_MAX:
        raise field_invalid("target", "must be a host's name")
    return target


def _host_port(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii() or not 0 < int(port) <= _PORT_MAX:
        raise field_invalid("target", "must be HOST:PORT")
    return _host(host), int(port)


_CHECKS: dict[str, Callable[[str, float, Desk], Fact]] = {
    "tcp": _tcp,
    "http": _web("http"),
    "https": _web("https"),
    "dns": _dns,
}

TOOLS = (
    Tool(
        name="service-checker",
        description="Tells whether a service answers: a port, a web server or a name.",
        category="system",
        level=Level.RESTRICTED,
        needs=frozenset({Need.NETWORK}),
        synonyms={"input": "target", "url": "target", "timeout": "timeout_seconds"},
        limits=ToolLimits(wall_s=TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            target={
                "type": "string",
                "description": "`host:port` for tcp, an address or host for http and https, a "
                "name for dns.",
            },
            host={"type": "string", "description": "Instead of target, with port."},
            port={
                "type": "integer",
                "minimum": 1,
                "maximum": _PORT_MAX,
                "description": "With host.",
            },
            check_type={
                "enum": list(_CHECKS),
                "default": "tcp",
                "description": "What to try.",
            },
            timeout_seconds=calling.timeout(5.0, TIMEOUT_SECONDS_MAX),
        ),
        result={
            "type": "object",
            "properties": {
                "target": {"description": "What was asked for.", "type": "string"},
                "check_type": {"description": "How it was checked.", "type": "string"},
                "available": {"description": "Whether it answers.", "type": "boolean"},
                "response_time_ms": {"description": "How long it took.", "type": "integer"},
                "status": {"description": "What it said.", "type": "string"},
                "error": {"description": "Why it does not answer.", "type": ["string", "null"]},
                "metadata": {"description": "More of it.", "type": "object"},
                "timeout_seconds": {"description": "How long it was waited for.", "type": "number"},
            },
            "required": ["target", "check_type", "available", "status", "error"],
        },
        notes="Only hosts and ports that the operator allows; another one is refused with "
        "ADDRESS_REFUSED whether or not anything listens there. A web server that answers with a "
        "status below 500 is available.",
        run=_run,
    ),
)
