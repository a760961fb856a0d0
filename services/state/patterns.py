"""Patterns of event types: `*` stands for any text, dots and nothing included.

They are matched from left to right without going back, so that no pattern is slow: what stands
before the first `*` must begin the type, what stands behind the last one must end it, and what
stands between them is looked for in order.
"""

from __future__ import annotations

import re

from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded, required
from services.common.limits import EVENT_TYPE_BYTES_MAX

_TYPE = re.compile(r"[A-Za-z0-9_:-]+(?:\.[A-Za-z0-9_:-]+)*", re.ASCII)
_KNOWN_MAX = 4096


class Pattern:
    """One pattern. It remembers what it was asked, since types are few and events many."""

    def __init__(self, text: str) -> None:
        """Read a pattern; the empty text is `*`.

        Raises:
            ServiceError: PATTERN_INVALID.
        """
        self.text = text or "*"
        if len(self.text) > EVENT_TYPE_BYTES_MAX or not _TYPE.fullmatch(
            self.text.replace("*", "x")
        ):
            raise ServiceError(
                Reason.PATTERN_INVALID,
                f"{text[:EVENT_TYPE_BYTES_MAX]!r} is not a pattern of event types: use letters, "
                f"digits, '_', '-', ':' and '*' with dots between them, "
                f"{EVENT_TYPE_BYTES_MAX} at most.",
                pattern=text[:EVENT_TYPE_BYTES_MAX],
            )
        self._parts = self.text.split("*")
        self._known: dict[str, bool] = {}

    def matches(self, event_type: str) -> bool:
        """Whether an event of this type is asked for."""
        known = self._known.get(event_type)
        if known is None:
            known = self._fits(event_type)
            if len(self._known) < _KNOWN_MAX:
                self._known[event_type] = known
        return known

    def _fits(self, event_type: str) -> bool:
        first, *between = self._parts
        if not between:
            return event_type == first
        last = between.pop()
        if len(event_type) < len(first) + len(last):
            return False
        if not (event_type.startswith(first) and event_type.endswith(last)):
            return False
        place, stop = len(first), len(event_type) - len(last)
        for part in between:
            found = event_type.find(part, place, stop)
            if found < 0:
                return False
            place = found + len(part)
        return True


def check_type(event_type: str, field: str) -> None:
    """Refuse what cannot be the type of an event.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    if not event_type:
        raise required(field)
    if len(event_type) > EVENT_TYPE_BYTES_MAX:
        raise limit_exceeded(field, len(event_type.encode()), EVENT_TYPE_BYTES_MAX, "bytes")
    if not _TYPE.fullmatch(event_type):
        raise field_invalid(
            field, "must be letters, digits, '_', '-' and ':' with dots between them"
        )
