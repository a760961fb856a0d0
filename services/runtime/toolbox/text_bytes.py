"""Bytes of strangers as text: which encoding they are in.

All codecs that may be asked for are loaded when the tools' zygote starts: in the jail none can be.
"""

from __future__ import annotations

import codecs
import contextlib

import charset_normalizer
from charset_normalizer.constant import IANA_SUPPORTED

SAMPLE_BYTES = 64 * 1024
"""How much of the bytes a guess looks at."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
for _name in (*IANA_SUPPORTED, "utf-8-sig", "utf-16", "utf-32"):
    with contextlib.suppress(LookupError):
        codecs.lookup(_name)


def decoded(data: bytes) -> tuple[str, str]:
    """The text and the name of its encoding; what cannot be read is replaced."""
    encoding = encoding_of(data)
    return data.decode(encoding, "replace"), encoding.removesuffix("-sig")


def encoding_of(data: bytes) -> str:
    """By its mark, as UTF-8, or by a guess."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    try:
        data.decode()
    except UnicodeDecodeError:
        guess = charset_normalizer.from_bytes(data[:SAMPLE_BYTES]).best()
        return guess.encoding.replace("_", "-") if guess else "latin-1"
    return "utf-8"
