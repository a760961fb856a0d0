"""What stands in the journal of a run: its entries' methods, and what state reads of them.

The runtime writes them; state keeps them like any call's, and knows a run by its first one.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from llmspell.v1 import run_pb2

RUN_PREFIX = "run-"
"""What a run's id begins with; the time follows, so that ids are in order of it."""

RUN_BEGIN = "run.begin"
"""First. The request is a RunBegin."""
RUN_SOURCE = "run.source"
"""Second. The request is the source."""
RUN_CALL = "run.call "
"""A call, its method after this; the request is MessagePack of tenant and arguments, the answer a
REPLY frame's payload."""
RUN_INTENT = "run.intent "
"""A call is about to be made that must not be made twice; its method, the request its number."""
RUN_READINGS = "run.readings"
"""What was told of time and memory: the request has a letter for each, the answer 8 bytes."""
RUN_OUTPUT = "run.output"
"""The answer is what was printed."""
RUN_CUT = "run.cut"
"""Nothing more is kept of the run but its end."""
RUN_RESUME = "run.resume"
"""The run goes on after it was lost."""
RUN_END = "run.end"
"""The request is a RunEnd. Last, unless the run is resumed."""


def run_owner(begin: bytes) -> tuple[str, int]:
    """Session of a run, and nanoseconds since 1970 when its journal is let go (0: never).

    What is no RunBegin has neither.
    """
    try:
        read = run_pb2.RunBegin.FromString(begin)
    except DecodeError:
        return "", 0
    expire_ns = read.expire_time.ToNanoseconds() if read.HasField("expire_time") else 0
    return read.session_id, expire_ns
