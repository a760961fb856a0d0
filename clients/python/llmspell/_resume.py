"""Whether a stream that has ended is made again, and after how long. No I/O."""

from __future__ import annotations

from llmspell.errors import LLMSpellError

_PAUSE_S = 0.1
_PAUSE_S_MAX = 2.0
_LOST_S = 30.0


class Patience:
    """How long a stream's reader goes on trying."""

    def __init__(self) -> None:
        self._begun = False
        self._failing_s: float | None = None
        self._pause_s = _PAUSE_S

    def answered(self) -> None:
        """Something came."""
        self._begun, self._failing_s, self._pause_s = True, None, _PAUSE_S

    def pause_s(self, error: LLMSpellError, now_s: float) -> float:
        """Seconds to wait before trying again.

        Raises:
            LLMSpellError: `error`, where it never began or nothing has answered for long.
        """
        if self._failing_s is None:
            self._failing_s = now_s
        if not self._begun or now_s - self._failing_s > _LOST_S:
            raise error
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _PAUSE_S_MAX)
        return pause_s
