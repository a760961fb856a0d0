"""api-tester: one request, with what was sent, what came back and how long it took."""

from __future__ import annotations

import time
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    parameters,
)
from services.runtime.toolbox.network import calling, url
from services.runtime.toolbox.network.calling import METHODS
from services.runtime.toolbox.network.decoding import as_text
from services.runtime.toolbox.network.http import Http, Request, Response

BODY_BYTES_MAX = MIB // 2
_OK, _REDIRECTED = 200, 300


def told(response: Response) -> dict[str, Any]:
    """What an answer says; its body as JSON where it is JSON."""
    text = as_text(response.body, response.content_type)
    value, is_json = calling.as_json(text)
    return {
        "status_code": response.status,
        "status_text": response.reason,
        "is_success": _OK <= response.status < _REDIRECTED,
        "headers": response.headers,
        "body": value if is_json else text or "",
        "body_is_json": is_json,
    }


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    headers = url.checked_headers(arguments["headers"])
    body = calling.body_of(arguments.get("body"), headers)
    method = arguments["method"]
    request = Request(url=url.parse(arguments["input"]), method=method, headers=headers, body=body)
    http = Http(desk, timeout_s=arguments["timeout"], body_bytes=BODY_BYTES_MAX)
    begin = time.monotonic()
    response = http.send(request)
    elapsed_s = time.monotonic() - begin
    return Outcome(
        operation="test",
        result={
            "request": {
                "method": method,
                "url": str(request.url),
                "timeout": arguments["timeout"],
            },
            "response": told(response),
            "timing": {"duration_ms": round(elapsed_s * 1000), "duration_secs": elapsed_s},
        },
        message=f"{method} {response.url}: {response.status} {response.reason}",
    )


TOOLS = (
    Tool(
        name="api-tester",
        description="Sends one request and tells what came back, and how long it took.",
        category="data",
        level=Level.RESTRICTED,
        needs=frozenset({Need.NETWORK}),
        synonyms={"url": "input", "endpoint": "input", "data": "body"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("input",),
            input=calling.URL,
            method={"enum": list(METHODS), "default": "GET", "description": "Method."},
            headers=calling.HEADERS,
            body=calling.BODY,
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "request": {"description": "`method`, `url`, `timeout`.", "type": "object"},
                "response": {
                    "description": "Status, headers and body; `is_success`, `body_is_json`.",
                    "type": "object",
                    "properties": {
                        "status_code": {"type": "integer"},
                        "status_text": {"type": "string"},
                        "is_success": {"type": "boolean"},
                        "headers": {"type": "object"},
                        "body": {},
                        "body_is_json": {"type": "boolean"},
                    },
                },
                "timing": {
                    "description": "`duration_ms`, `duration_secs`.",
                    "type": "object",
                    "properties": {
                        "duration_ms": {"type": "integer"},
                        "duration_secs": {"type": "number"},
                    },
                },
            },
            "required": ["request", "response", "timing"],
        },
        notes="A body that is JSON comes as its value, another one as text.",
        run=_run,
    ),
)
