"""How much each test here does: little in `make test`, the full figure in `make test-crash`.

One knob: `LLMSPELL_CRASH_SCALE` is a share of the full figures, 1 in `make test-crash`; 5 does five
times as much.
"""

from __future__ import annotations

import os

_TEXT = os.environ.get("LLMSPELL_CRASH_SCALE", "")
SCALE = float(_TEXT) if _TEXT else None
"""None in `make test`."""


def count(few: int, full: int) -> int:
    """How often to do something: `few` times in `make test`."""
    return few if SCALE is None else max(1, round(full * SCALE))
