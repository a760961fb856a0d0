"""HTTP/1.1 over connections that the host has made: one request after the other, each limited.

No proxy, no `.netrc`, no environment, no cookies. Every redirect asks the host for a connection
again, so it is checked again; what belongs to one origin is not told to another.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import MIB, ToolError, failed, limit_exceeded
from services.runtime.toolbox.network import url as urls
from services.runtime.toolbox.network.connections import TLS, connect, trust, unreachable
from services.runtime.toolbox.network.decoding import as_text, unpacked
from services.runtime.toolbox.network.url import Url

BODY_BYTES_MAX = 8 * MIB
"""Of an answer, before it is unpacked and after."""
REQUEST_BYTES_MAX = MIB
"""Of a request's body."""
HEADERS_BYTES_MAX = 64 * 1024
"""Names and values of an answer's headers together."""
REDIRECTS_MAX = 10
USER_AGENT = "llmspell/1 (tool)"

_CHUNK_BYTES = 65536
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOR_EVERYBODY = frozenset({"accept", "accept-language", "user-agent", "content-type"})
"""Headers of a caller that another origin may be told."""
_OF_A_BODY = frozenset({"content-type", "content-encoding", "content-language"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send."""

    url: Url
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Checked ones."""
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back."""

    url: Url
    """Where it came from, after redirects."""
    status: int
    reason: str
    headers: Mapping[str, str]
    """By name in lower case; several of a name are joined with commas."""
    body: bytes
    redirects: tuple[str, ...] = ()
    """Addresses that led here."""

    @property
    def content_type(self) -> str:
        """Of its header; empty where there is none."""
        return self.headers.get("content-type", "")

    def text(self) -> str:
        """The body as text.

        Raises:
            ToolError: TOOL_FAILED where it is none.
        """
        text = as_text(self.body, self.content_type)
        if text is None:
            raise failed(f"{self.url} is not text, but {self.content_type or 'unknown'}.")
        return text


class Http:
    """Sends requests for one execution."""

    def __init__(
        self,
        desk: Desk,
        *,
        timeout_s: float,
        redirects: int = REDIRECTS_MAX,
        body_bytes: int = BODY_BYTES_MAX,
    ) -> None:
        """`timeout_s`: for all of them together."""
        self.until = time.monotonic() + timeout_s
        self._desk = desk
        self._timeout_s = timeout_s
        self._redirects = redirects
        self._body_bytes = body_bytes
        trust(desk)

    def send(self, request: Request) -> Response:
        """Send, follow redirects, and read the answer.

        Raises:
            ToolError: ADDRESS_REFUSED, HOST_UNREACHABLE, LIMIT_EXCEEDED, TOOL_FAILED.
        """
        if request.body is not None and len(request.body) > REQUEST_BYTES_MAX:
            raise limit_exceeded("body", len(request.body), REQUEST_BYTES_MAX, "bytes")
        passed: list[str] = []
        while True:
            response = self._once(request)
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None or not self._redirects:
                return replace(response, redirects=tuple(passed))
            if len(passed) == self._redirects:
                raise limit_exceeded("redirects", len(passed) + 1, self._redirects)
            passed.append(str(request.url))
            request = redirected(request, _next(request.url, location), response.status)

    def _once(self, request: Request) -> Response:
        host = request.url.host
        connection = self._connection(request.url)
        try:
            connection.request(
                request.method,
                request.url.target,
                body=request.body,
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "*/*",
                    **request.headers,
                    "Accept-Encoding": "gzip, deflate",
                    "Connection": "close",
                },
                preload_content=False,
                decode_content=False,
            )
            return self._answer(request.url, connection.getresponse())
        except ssl.SSLCertVerificationError as error:
            raise unreachable(
                host, f"its certificate does not fit: {error.verify_message}"
            ) from None
        except TimeoutError:
            raise unreachable(host, f"no full answer within {self._timeout_s:g} s") from None
        except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
            text = str(error)[:200] or type(error).__name__
            raise unreachable(host, f"it does not answer as HTTP asks: {text}") from None
        finally:
            connection.close()

    def _answer(self, url: Url, raw: HTTPResponse) -> Response:
        headers = {name.lower(): raw.headers[name] for name in raw.headers}
        size = sum(len(name) + len(value) for name, value in raw.headers.items())
        if size > HEADERS_BYTES_MAX:
            raise limit_exceeded("headers", size, HEADERS_BYTES_MAX, "bytes")
        chunks: Iterator[bytes] = raw.stream(_CHUNK_BYTES, decode_content=False)
        body = unpacked(chunks, headers.get("content-encoding", ""), self._body_bytes)
        reason = raw.reason or http.client.responses.get(raw.status, "")
        return Response(url=url, status=raw.status, reason=reason, headers=headers, body=body)

    def _connection(self, url: Url) -> HTTPConnection:
        make = _Tls if url.scheme == "https" else _Plain
        connection = make(url.host, url.port)
        connection.desk, connection.until = self._desk, self.until
        return connection


class _Plain(HTTPConnection):
    desk: Desk
    until: float

    def _new_conn(self) -> socket.socket:
        return connect(self.desk, self.host, self.port or 80, self.until)


class _Tls(HTTPSConnection):
    desk: Desk
    until: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, ssl_context=TLS, **options)

    def _new_conn(self) -> socket.socket:
        return connect(self.desk, self.host, self.port or 443, self.until)


def _next(base: Url, location: str) -> Url:
    try:
        return urls.joined(base, location)
    except ToolError as error:
        raise failed(f"{base} leads to what no request can follow: {error.message}") from None


def redirected(request: Request, url: Url, status: int) -> Request:
    """The request that a redirect asks for, without what the next origin must not be told."""
    method, body, headers = request.method, request.body, dict(request.headers)
    if (status == http.client.SEE_OTHER and method != "HEAD") or (
        status in (http.client.MOVED_PERMANENTLY, http.client.FOUND) and method == "POST"
    ):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name.lower() not in _OF_A_BODY}
    if url.origin != request.url.origin:
        headers = {name: value for name, value in headers.items() if name.lower() in _FOR_EVERYBODY}
    return Request(url=url, method=method, headers=headers, body=body)
