"""Regular expressions of strangers, by RE2: in linear time, so without look-around.

Syntax: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import re2

from services.runtime.toolbox.model import MIB, field_invalid, limit_exceeded

PATTERN_BYTES_MAX = 4096


def compiled(pattern: str, flags: str = "", *, field: str) -> Any:
    """An expression with the methods of `re`.

    Raises:
        ToolError: FIELD_INVALID where it is none or wants what RE2 has not; LIMIT_EXCEEDED.
    """
    size = len(pattern.encode())
    if size > PATTERN_BYTES_MAX:
        raise limit_exceeded(field, size, PATTERN_BYTES_MAX, "bytes")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 * MIB
    options.case_sensitive = "i" not in flags
    letters = "".join(letter for letter in "ms" if letter in flags)
    try:
        return re2.compile(f"(?{letters}){pattern}" if letters else pattern, options)
    except re2.error as error:
        words = error.args[0] if error.args else ""
        words = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise field_invalid(field, f"is no expression of RE2: {words}") from None


def matches(found: Any, source: str) -> Iterator[Any]:
    """Every match, in order; re2 itself tells of an empty one ahead of it twice."""
    last = None
    for match in found.finditer(source):
        if match.span() != last:
            yield match
        last = match.span()


_REFERENCE = re.compile(r"\\(?:(?P<number>\d{1,2})|g<(?P<name>\w{1,100})>|(?P<sign>.))", re.DOTALL)


def replacement(found: Any, template: str) -> Callable[[Any], str]:
    r"""What a match is replaced by: `\1`, `\g<1>` and `\g<name>` are groups, `\\` is one `\`.

    Raises:
        ToolError: FIELD_INVALID where there is no such group.
    """
    parts: list[str | int] = []
    end = 0
    for reference in _REFERENCE.finditer(template):
        parts.append(template[end : reference.start()])
        end = reference.end()
        if reference["sign"]:
            parts.append({"n": "\n", "t": "\t"}.get(reference["sign"], reference["sign"]))
        else:
            parts.append(_group(found, reference["number"] or reference["name"]))
    parts.append(template[end:])
    return lambda match: "".join(
        part if isinstance(part, str) else match.group(part) or "" for part in parts
    )


def _group(found: Any, name: str) -> int:
    number = int(name) if name.isdigit() else found.groupindex.get(name, -1)
    if not 0 <= number <= found.groups:
        raise field_invalid("replacement", f"has a group {name}, which the pattern has not")
    return int(number)
