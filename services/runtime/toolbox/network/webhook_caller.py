"""webhook-caller: a payload as JSON to an address, again where that may help."""

from __future__ import annotations

import time
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Failure,
    Level,
    Need,
    Outcome,
    Tool,
    ToolLimits,
    parameters,
)
from services.runtime.toolbox.network import calling, url
from services.runtime.toolbox.network.calling import Attempts
from services.runtime.toolbox.network.decoding import as_text
from services.runtime.toolbox.network.http import Http, Request, Response

BODY_BYTES_MAX = MIB // 2
_OK, _REDIRECTED = 200, 300


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    headers = url.checked_headers(arguments["headers"])
    body = calling.body_of(arguments.get("payload", {}), headers, "payload")
    address = url.parse(arguments["input"])
    request = Request(url=address, method=arguments["method"], headers=headers, body=body)
    http = Http(desk, timeout_s=arguments["timeout"], body_bytes=BODY_BYTES_MAX)
    attempts = Attempts(most=arguments["max_retries"] + 1, delay_s=0.5, everything=True)
    begin = time.monotonic()
    response, made = attempts.run(http.send, request, http.until)
    result = _told(address, response, made, time.monotonic() - begin)
    failure = None
    if not result["success"]:
        text = f"{address} answers {response.status} {response.reason}."
        failure = Failure(message=text, code="http_status", details={"status": response.status})
    return Outcome(
        operation="call",
        result=result,
        message=f"{request.method} {address}: {response.status} {response.reason}",
        failure=failure,
    )


def _told(address: url.Url, response: Response, attempts: int, elapsed_s: float) -> dict[str, Any]:
    text = as_text(response.body, response.content_type)
    value, is_json = calling.as_json(text)
    return {
        "success": _OK <= response.status < _REDIRECTED,
        "webhook_url": str(address),
        "status_code": response.status,
        "status_text": response.reason,
        "response": {
            "body": text or "",
            "json": value,
            "headers": response.headers,
            "body_is_json": is_json,
        },
        "response_time_ms": round(elapsed_s * 1000),
        "retry_count": attempts - 1,
        "retries_attempted": attempts > 1,
    }


TOOLS = (
    Tool(
        name="webhook-caller",
        description="Sends a payload as JSON to a webhook, with attempts.",
        category="data",
        level=Level.RESTRICTED,
        needs=frozenset({Need.NETWORK}),
        synonyms={"url": "input", "data": "payload", "body": "payload"},
        limits=ToolLimits(wall_s=calling.TIMEOUT_SECONDS_MAX + 5),
        parameters=parameters(
            ("input",),
            input=calling.URL,
            payload={"description": "What to send: a table or list as JSON, a text as it is."},
            headers=calling.HEADERS,
            method={
                "enum": ["POST", "PUT", "PATCH", "GET", "DELETE"],
                "default": "POST",
                "description": "Method.",
            },
            max_retries={
                "type": "integer",
                "minimum": 0,
                "maximum": calling.ATTEMPTS_MAX - 1,
                "default": 3,
                "description": "How often to try again, after 0.5 s, then twice that and so on.",
            },
            timeout=calling.timeout(30.0),
        ),
        result={
            "type": "object",
            "properties": {
                "success": {"description": "Whether the status is of success.", "type": "boolean"},
                "webhook_url": {"description": "Where it went.", "type": "string"},
                "status_code": {"description": "Status, such as 200.", "type": "integer"},
                "status_text": {"description": "The same in words.", "type": "string"},
                "response": {
                    "description": "`body`, `json`, `headers`, `body_is_json`.",
                    "type": "object",
                },
                "response_time_ms": {"description": "How long it took.", "type": "integer"},
                "retry_count": {"description": "How often it was tried again.", "type": "integer"},
                "retries_attempted": {"description": "Whether it was.", "type": "boolean"},
            },
            "required": ["success", "webhook_url", "status_code", "response", "retry_count"],
        },
        notes="It is tried again after no answer and after 429, 500, 502, 503 and 504, so a hook "
        "may be called twice: give it an id in the payload.",
        run=_run,
    ),
)
