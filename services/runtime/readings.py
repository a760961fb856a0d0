"""Time and memory as a run is told them: by its host, so that a run made again is told the same."""

from __future__ import annotations

from collections.abc import Callable

from services.common import limits
from services.common.clock import Clock, SystemClock
from services.common.errors import Reason, ServiceError
from services.runtime.frames import FrameError

Readings = Callable[[bytes], int]
"""What is told where a run asks for time or memory: see `Kind.READING`."""

_CLOCKS = (b"t", b"c")
_MEMORY_BYTES = 9
_TOLD_BYTES = 8


def readings_of(clock: Clock, *, passed_ns: int = 0) -> Readings:
    """Of a run that begins now, or has gone on for so long; for the run time never goes back."""
    begin_ns, begin = clock.now_ns() - passed_ns, clock.monotonic() - passed_ns / 1e9

    def read(asked: bytes) -> int:
        passed_ns = round((clock.monotonic() - begin) * 1e9)
        if asked == b"c":
            return passed_ns
        if asked == b"t":
            return begin_ns + passed_ns
        return int.from_bytes(asked[1:], "little", signed=True)

    return read


class Telling:
    """Answers the readings of one run, of which nothing can be trusted."""

    def __init__(self, readings: Readings | None) -> None:
        """`readings`: None: as this machine has them."""
        self._read = readings or readings_of(SystemClock())
        self._count = 0

    def answer(self, asked: bytes) -> bytes:
        """A TOLD frame's payload.

        Raises:
            FrameError: where there is no such reading.
            ServiceError: RUN_CALL_LIMIT; what the readings raise.
        """
        if asked not in _CLOCKS and (asked[:1] != b"m" or len(asked) != _MEMORY_BYTES):
            raise FrameError("a reading of what there is not")
        self._count += 1
        if self._count > limits.RUN_READINGS_MAX:
            raise ServiceError(
                Reason.RUN_CALL_LIMIT,
                f"The run read time or memory more than {limits.RUN_READINGS_MAX} times.",
                limit=limits.RUN_READINGS_MAX,
            )
        return self._read(asked).to_bytes(_TOLD_BYTES, "little", signed=True)
