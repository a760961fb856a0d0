"""A body as it was before it was packed, and as text; both within limits."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable

from services.runtime.toolbox.model import ToolError, failed, limit_exceeded

_GZIP_OR_ZLIB, _BARE = 47, -15
_CHARSETS = (
    "utf-8", "ascii", "latin-1", "cp1252", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
    "utf-32", "iso8859-2", "iso8859-5", "iso8859-7", "iso8859-9", "iso8859-15", "cp1250", "cp1251",
    "cp1253", "cp1254", "cp1255", "cp1256", "koi8-r", "koi8-u", "shift_jis", "cp932", "euc_jp",
    "iso2022_jp", "gb2312", "gbk", "gb18030", "big5", "euc_kr", "cp949",
)  # fmt: skip
_KNOWN = frozenset(codecs.lookup(name).name for name in _CHARSETS)
"""Loaded now, because nothing can be in the jail."""
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)


def unpacked(chunks: Iterable[bytes], encoding: str, limit_bytes: int) -> bytes:
    """Read a body to its end, or until it is too large, packed or not.

    Args:
        chunks: As they came.
        encoding: Of Content-Encoding.
        limit_bytes: Most bytes, before and after.

    Raises:
        ToolError: LIMIT_EXCEEDED as soon as it is; TOOL_FAILED where it is not packed as it says.
    """
    unpack = _unpacker(encoding.strip().lower())
    data, packed = bytearray(), 0
    try:
        for chunk in chunks:
            packed += len(chunk)
            if packed > limit_bytes:
                raise _too_large(limit_bytes)
            data += unpack(chunk, limit_bytes + 1 - len(data)) if unpack else chunk
            if len(data) > limit_bytes:
                raise _too_large(limit_bytes)
    except zlib.error as error:
        raise failed(f"The body is not packed as it says: {error}.") from None
    return bytes(data)


def _too_large(limit_bytes: int) -> ToolError:
    return limit_exceeded("body", limit_bytes + 1, limit_bytes, "bytes")


class _Unpack:
    """gzip, also several members in a row, zlib, and deflate without a header."""

    def __init__(self) -> None:
        self._begun = False
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)

    def __call__(self, chunk: bytes, most: int) -> bytes:
        data = b""
        while chunk and len(data) < most:
            if self._stream.eof:
                self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
            data += self._step(chunk, most - len(data))
            chunk = self._stream.unused_data or self._stream.unconsumed_tail
        return data

    def _step(self, chunk: bytes, most: int) -> bytes:
        try:
            return self._stream.decompress(chunk, most)
        except zlib.error:
            if self._begun:
                raise
            self._stream = zlib.decompressobj(_BARE)
            return self._stream.decompress(chunk, most)
        finally:
            self._begun = True


def _unpacker(encoding: str) -> _Unpack | None:
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Unpack()
    raise failed(f"The body is packed in a way that was not asked for: {encoding[:40]!r}.")


def charset_of(content_type: str) -> str:
    """What Content-Type says of the text's encoding, where it is a known one; else empty."""
    found = _CHARSET.search(content_type)
    if not found:
        return ""
    try:
        name = codecs.lookup(found[1]).name
    except LookupError:
        return ""
    return name if name in _KNOWN else ""


def as_text(body: bytes, content_type: str) -> str | None:
    """The body as text; None where it is none."""
    for charset in filter(None, (charset_of(content_type), "utf-8-sig")):
        try:
            return body.decode(charset)
        except (UnicodeDecodeError, UnicodeError):
            continue
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind.endswith(("+xml", "/xml", "/json", "/javascript")):
        return body.decode("cp1252", "replace")
    return None
