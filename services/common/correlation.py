"""What ties together all that one call causes, in every process: its request id."""

from __future__ import annotations

from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("correlation_id", default="")


def correlation_id() -> str:
    """The request id of the call that this task serves; empty outside one."""
    return _current.get()


def correlate(request_id: str) -> None:
    """Make this the id of the task that serves a call, and of those that it starts."""
    _current.set(request_id)
