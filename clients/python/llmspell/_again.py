"""When a refused call is made again: where the server says when, and there is time for it."""

from __future__ import annotations

import random

from llmspell._contract import Method
from llmspell.errors import LLMSpellError, ResourceExhausted

_NOTHING_DONE = frozenset({"QUOTA_EXCEEDED", "OVERLOADED", "RUN_QUEUE_FULL"})
"""Refused before anything was done, so that any call may be made again."""
_SPREAD = 0.25
"""Of the pause is added at most, by chance: callers that were refused together come apart."""


def pause_before_again(error: LLMSpellError, method: Method, left_s: float) -> float | None:
    """Seconds to wait before the call is made again; None: it is not.

    Args:
        error: Why it failed.
        method: What was called.
        left_s: Seconds that are left of the call's time.
    """
    pause_s = error.retry_after_s
    if pause_s is None or not isinstance(error, ResourceExhausted):
        return None
    if error.reason not in _NOTHING_DONE and not method.repeatable:
        return None
    pause_s *= 1 + random.random() * _SPREAD  # noqa: S311  (no secret)
    return pause_s if pause_s < left_s else None
