"""Addresses of the web, read in one way only, and a request's headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from services.runtime.toolbox.model import field_invalid, limit_exceeded

URL_LENGTH_MAX = 8192
HOST_LENGTH_MAX = 253
HEADERS_MAX = 64
"""Headers of a request."""
HEADER_LENGTH_MAX = 8192
"""Characters of one header's value."""

_PORTS = {"http": 80, "https": 443}
_NOT_OF_A_URL = re.compile(r"[\x00-\x20\x7f\\]")
"""Browsers, libraries and servers disagree on what these mean."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_OURS = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te",
        "trailer", "expect", "proxy-authorization", "proxy-connection", "accept-encoding",
    }
)  # fmt: skip
"""Headers by which a caller could make a server read another request than was sent."""

"".encode("idna")  # loads the codec, which nothing can do in the jail


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """An address of the web without user and fragment."""

    scheme: str
    """`http` or `https`."""
    host: str
    """In lower case, an IPv6 address without brackets."""
    port: int
    target: str
    """Path and query, encoded."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """To whom credentials belong."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def parse(text: str, field: str = "input") -> Url:
    """Read an address.

    Raises:
        ToolError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if len(text) > URL_LENGTH_MAX:
        raise limit_exceeded(field, len(text), URL_LENGTH_MAX, "characters")
    text = text.strip()
    if _NOT_OF_A_URL.search(text):
        raise field_invalid(field, "must not hold spaces, control characters or backslashes")
    try:
        found = parse_url(_ascii(text))
    except (LocationParseError, ValueError, UnicodeError):
        raise field_invalid(field, "is not the address of a web page") from None
    if found.scheme not in _PORTS:
        raise field_invalid(field, "must begin with http:// or https://")
    if found.auth is not None:
        raise field_invalid(field, "must not hold a user name; use `auth`")
    host = (found.host or "").strip("[]")
    if not host or "%" in host:
        raise field_invalid(field, "must name a host")
    target = found.request_uri
    port = found.port or _PORTS[found.scheme]
    return Url(scheme=found.scheme, host=host, port=port, target=target)


def joined(base: Url, location: str) -> Url:
    """The address that a page's link or a redirect means.

    Raises:
        ToolError: FIELD_INVALID naming `location`.
    """
    try:
        text = urljoin(str(base), location.strip())
    except ValueError:
        raise field_invalid("location", "is not the address of a web page") from None
    return parse(text, "location")


def _ascii(text: str) -> str:
    """A host of letters beyond ASCII as name servers know it."""
    parts = urlsplit(text)
    if parts.netloc.isascii():
        return text
    netloc = parts.netloc.encode("idna").decode()
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, parts.fragment))


def checked_headers(given: Mapping[str, object], field: str = "headers") -> dict[str, str]:
    """A caller's headers, which neither add a line nor change where a request ends.

    Raises:
        ToolError: FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if len(given) > HEADERS_MAX:
        raise limit_exceeded(field, len(given), HEADERS_MAX, "headers")
    checked = {name: str(value).strip() for name, value in given.items()}
    for name, value in checked.items():
        where = f"{field}.{name[:64]}"
        if not _HEADER_NAME.fullmatch(name):
            raise field_invalid(field, "must be named by letters, digits and hyphens")
        if name.lower() in _OURS:
            raise field_invalid(where, "is set by this tool")
        if len(value) > HEADER_LENGTH_MAX:
            raise limit_exceeded(where, len(value), HEADER_LENGTH_MAX, "characters")
        if not value.replace("\t", "").isprintable():
            raise field_invalid(where, "must be one line of printable characters")
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise field_invalid(where, "must be of Latin-1 characters") from None
    return checked
