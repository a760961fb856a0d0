"""What tools that call web services share: parameters, credentials, bodies, attempts."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.toolbox.model import Schema, ToolError, field_invalid, field_required
from services.runtime.toolbox.network.http import Request, Response
from services.runtime.toolbox.network.url import checked_headers

TIMEOUT_SECONDS_MAX = 120.0
ATTEMPTS_MAX = 10
DELAY_MS_MAX = 30_000
JSON_DEPTH_MAX = 10
"""Levels of a JSON body that is told as a value; a deeper one stays text."""
_NUMBER_MAX = 2**63
RETRIED = (429, 500, 502, 503, 504)
"""Statuses after which trying again may help."""
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

URL: Schema = {"type": "string", "description": "Address, beginning with http:// or https://."}
HEADERS: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number"]},
    "default": {},
    "description": "Headers of the request, by name.",
}
BODY: Schema = {
    "description": "Body: text as it is; a table or list as JSON, with that content type.",
}


def timeout(default: float, most: float = TIMEOUT_SECONDS_MAX) -> Schema:
    """The parameter that says how long a tool may take."""
    return {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": most,
        "default": default,
        "description": "Seconds for all of it together.",
    }


AUTH: Schema = {
    "type": "object",
    "properties": {
        "type": {"enum": ["none", "basic", "bearer", "api_key"], "description": "Kind."},
        "username": {"type": "string", "description": "For `basic`."},
        "password": {"type": "string", "description": "For `basic`."},
        "token": {"type": "string", "description": "For `bearer`."},
        "key": {"type": "string", "description": "For `api_key`."},
        "header": {
            "type": "string",
            "default": "X-API-Key",
            "description": "For `api_key`: the header that it stands in.",
        },
    },
    "required": ["type"],
    "additionalProperties": False,
    "description": "Credentials. No other origin is told them when a redirect leads there.",
}
_AUTH_NEEDS = {
    "none": (), "basic": ("username", "password"), "bearer": ("token",), "api_key": ("key",),
}  # fmt: skip


def credentials(auth: Mapping[str, str] | None) -> dict[str, str]:
    """The header that stands for credentials.

    Raises:
        ToolError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if auth is None:
        return {}
    for name in _AUTH_NEEDS[auth["type"]]:
        if name not in auth:
            raise field_required(f"auth.{name}")
    if auth["type"] == "basic":
        if ":" in auth["username"]:
            raise field_invalid("auth.username", "must not hold a colon")
        both = f"{auth['username']}:{auth['password']}".encode()
        return {"Authorization": f"Basic {base64.b64encode(both).decode()}"}
    if auth["type"] == "bearer":
        return checked_headers({"Authorization": f"Bearer {auth['token']}"}, "auth")
    if auth["type"] == "api_key":
        return checked_headers({auth.get("header", "X-API-Key"): auth["key"]}, "auth")
    return {}


def body_of(value: Any, headers: dict[str, str], field: str = "body") -> bytes | None:
    """The bytes of a body; the content type is added where it is JSON or text and none is given.

    Raises:
        ToolError: FIELD_INVALID where it holds what JSON cannot say.
    """
    if value is None:
        return None
    given = any(name.lower() == "content-type" for name in headers)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        if not given:
            headers["Content-Type"] = "text/plain; charset=utf-8"
        return value.encode()
    if not given:
        headers["Content-Type"] = "application/json"
    return to_json(value, field)


def to_json(value: Any, field: str) -> bytes:
    """A value as JSON.

    Raises:
        ToolError: FIELD_INVALID where there is no JSON for it: bytes, infinity.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError):
        raise field_invalid(field, "must be what JSON can say: no bytes, no infinity") from None


def as_json(text: str | None) -> tuple[Any, bool]:
    """The value that a text is as JSON, and whether it is one that an answer can hold."""
    if text is None:
        return None, False
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None, False
    return (value, True) if _is_tellable(value, JSON_DEPTH_MAX) else (None, False)


def _is_tellable(value: Any, depth: int) -> bool:
    """Whether an answer can hold it."""
    if isinstance(value, int | float):
        return abs(value) < _NUMBER_MAX
    if not isinstance(value, list | dict):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_tellable(one, depth - 1) for one in inner)


def _no_number(text: str) -> float:
    raise ValueError(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """How often to try, and how long to wait between."""

    most: int = 3
    delay_s: float = 1.0
    delay_max_s: float = 30.0
    factor: float = 2.0
    statuses: tuple[int, ...] = RETRIED
    everything: bool = False
    """Also what may have been done although no answer came, such as a POST."""

    def run(
        self, send: Callable[[Request], Response], request: Request, until: float
    ) -> tuple[Response, int]:
        """Send until it is answered otherwise; the answer, and the number of attempts.

        Raises:
            ToolError: of the last attempt.
        """
        for attempt in range(1, self.most + 1):
            wait_s = min(self.delay_s * self.factor ** (attempt - 1), self.delay_max_s)
            last = attempt == self.most or time.monotonic() + wait_s >= until
            try:
                response = send(request)
            except ToolError as error:
                again = self.everything or request.method in _REPEATABLE
                if last or not again or error.reason != "HOST_UNREACHABLE":
                    raise
            else:
                if last or response.status not in self.statuses:
                    return response, attempt
                wait_s = max(wait_s, _asked_wait_s(response))
                if time.monotonic() + wait_s >= until:
                    return response, attempt
            time.sleep(wait_s)
        raise AssertionError("an attempt is always the last")


def _asked_wait_s(response: Response) -> float:
    """Seconds of Retry-After; a date there is not read."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() and len(text) < 6 else 0.0  # noqa: PLR2004 - a day and more
