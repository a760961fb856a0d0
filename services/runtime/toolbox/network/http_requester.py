"""http-requester: one request of any method, with credentials and attempts."""

from __future__ import annotations

import base64
import time
from typing import Any

from services.runtime.toolbox import clock
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
from services.runtime.toolbox.network.calling import METHODS, Attempts
from services.runtime.toolbox.network.decoding import as_text
from services.runtime.toolbox.network.http import REDIRECTS_MAX, Http, Request

BODY_BYTES_MAX = MIB


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    begin = time.monotonic()
    headers = url.checked_headers(arguments["headers"])
    headers |= calling.credentials(arguments.get("auth"))
    body = calling.body_of(arguments.get("body"), headers)
    request = Request(
        url=url.parse(arguments["input"]), method=arguments["method"], headers=headers, body=body
    )
    http = Http(
        desk,
        timeout_s=arguments["timeout"],
        redirects=arguments["max_redirects"] if arguments["follow_redirects"] else 0,
        body_bytes=BODY_BYTES_MAX,
    )
    response, attempts = _attempts(arguments.get("retry", {})).run(http.send, request, http.until)
    text = as_text(response.body, response.content_type)
    result: dict[str, Any] = {
        "status_code": response.status,
        "headers": response.headers,
        "body": base64.b64encode(response.body).decode() if text is None else text,
        "body_encoding": "base64" if text is None else "text",
        "timestamp": clock.now().isoformat(),
    }
    return Outcome(
        operation=request.method.lower(),
        result=result,
        message=f"{request.method} {response.url}: {response.status} {response.reason}",
        metadata={
            "method": request.method,
            "url": str(response.url),
            "redirects": list(response.redirects),
            "attempts": attempts,
            "duration_ms": round((time.monotonic() - begin) * 1000),
        },
    )


def _attempts(retry: dict[str, Any]) -> Attempts:
    return Attempts(
        most=retry.get("max_attempts", 3),
        delay_s=retry.get("initial_delay_ms", 1000) / 1000,
        delay_max_s=retry.get("max_delay_ms", 30_000) / 1000,
        factor=retry.get("backoff_multiplier", 2.0),
        statuses=tuple(retry.get("retry_on_status", calling.RETRIED)),
        everything=bool(retry),
    )


_DELAY = {"type": "integer", "minimum": 0, "maximum": calling.DELAY_MS_MAX}
_RETRY = {
    "type": "object",
    "properties": {
        "max_attempts": {
            "type": "integer",
            "minimum": 1,
            "maximum": calling.ATTEMPTS_MAX,
            "description": "Attempts in all; 3 where it is not given.",
        },
        "initial_delay_ms": {**_DELAY, "description": "Before the second; 1000."},
        "max_delay_ms": {**_DELAY, "description": "Never more between two; 30000."},
        "backoff_multiplier": {
            "type": "number",
            "minimum": 1,
            "maximum": 10,
            "description": "Each delay is so many times the one before; 2.",
        },
        "retry_on_status": {
            "type": "array",
            "items": {"type": "integer", "minimum": 100, "maximum": 599},
            "description": "Statuses after which it is tried again; 429, 500, 502, 503, 504.",
        },
    },
    "additionalProperties": False,
    "description": "When to try again. POST and PATCH that got no answer are, only if this is set.",
}

TOOLS = (
    Tool(
        name="http-requester",
        description="Sends an HTTP request and returns status, headers and body.",
        category="api",
        level=Level.SAFE,
        needs=frozenset({Need.NETWORK}),
        old_names=("http_request", "http-request"),
        synonyms={"url": "input", "endpoint": "input", "uri": "input", "data": "body"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("input",),
            input=calling.URL,
            method={"enum": list(METHODS), "default": "GET", "description": "Method."},
            headers=calling.HEADERS,
            body=calling.BODY,
            auth=calling.AUTH,
            retry=_RETRY,
            timeout=calling.timeout(30.0),
            follow_redirects={
                "type": "boolean",
                "default": True,
                "description": "Whether to go where the answer points.",
            },
            max_redirects={
                "type": "integer",
                "minimum": 1,
                "maximum": REDIRECTS_MAX,
                "default": REDIRECTS_MAX,
                "description": "Most steps of that.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "status_code": {"description": "Status, such as 200.", "type": "integer"},
                "headers": {
                    "description": "Headers, in lower case.",
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                },
                "body": {"description": "Text, or base64.", "type": "string"},
                "body_encoding": {
                    "description": "Which of the two `body` is.",
                    "enum": ["text", "base64"],
                },
                "timestamp": {"description": "When it came, RFC 3339.", "type": "string"},
            },
            "required": ["status_code", "headers", "body", "body_encoding", "timestamp"],
        },
        notes="Answers of at most 1 MiB, unpacked. Headers come in lower case. A status of "
        "400 and more is an answer, not a failure.",
        run=_run,
    ),
)
