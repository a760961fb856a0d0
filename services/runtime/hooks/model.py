"""What a host's hook is given and what it gives: a call of a run, and a reply."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from services.common.context import CallContext
from services.common.errors import ServiceError
from services.runtime.bridge import error_tree
from services.runtime.runs import Call, CallHandler, Reply, RunLimits
from services.runtime.worker.points import AROUND, EXECUTES, POINTS, Points, error_points

if TYPE_CHECKING:
    from services.runtime.hooks.forks import Forks

PACKAGE = "llmspell.v1."


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that a call belongs to; none of it was said by the script."""

    context: CallContext
    """Whose run it is, and what it may."""
    name: str = "script"
    session_id: str = ""
    limits: RunLimits | None = None
    """What the run may use; None: nothing that could be near its end."""
    known_as: str = ""
    """The run's id where it has a journal; empty: it is that of the call that began it."""
    forks: Forks | None = None
    """Calls that hooks began beside the script's own."""

    @property
    def tenant(self) -> str:
        """Whose data a call sees that names no other tenant."""
        return self.context.tenant

    @property
    def run_id(self) -> str:
        """The request id of the call that began the run: what ties together all that it does."""
        return self.context.request_id


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call on its way through the hooks."""

    call: Call
    run: RunInfo
    forked_by: object = None
    """The hook that began it beside another call, if one of the host's has."""
    inner: CallHandler | None = None
    """Answers it behind the hooks where it is no call of a method; None: the run's own way."""

    @property
    def method(self) -> str:
        """Without the contract's package: `StateService/GetState`."""
        return self.call.method.removeprefix(PACKAGE)

    @property
    def args(self) -> dict[str, Any]:
        """The arguments, a plain tree. Of a hostile worker's making."""
        return self.call.args

    @property
    def points(self) -> Points | None:
        """Which points it passes; None: only those that any failure reaches.

        A call that begins an execution passes none, for its answer need not be the end: the
        execution itself does.
        """
        if self.inner is None and self.method in EXECUTES:
            return None
        return (AROUND if self.inner else POINTS).get(self.method) or POINTS.get(self.method)

    @property
    def identity(self) -> tuple[object, ...]:
        """Who asks, for what is kept and given again: nobody else may be given it.

        The tenant comes first; a tenant that was named is part of it, for whether it may be named
        is decided behind the hooks.
        """
        context = self.run.context
        return (
            context.tenant,
            self.call.tenant,
            context.principal,
            context.permissions,
            context.any_tenant,
            context.row_filter,
            context.policy,
            context.session,
        )

    def with_args(self, args: dict[str, Any]) -> HostCall:
        """The same call with other arguments; never for another tenant."""
        return replace(self, call=replace(self.call, args=args))


Proceed = Callable[[HostCall], Awaitable[Reply]]


class HostHook(Protocol):
    """Code around a call: asks `proceed` for the reply, once, never or more often."""

    async def __call__(self, call: HostCall, proceed: Proceed) -> Reply:
        """The reply to the call."""


def refused(error: ServiceError) -> Reply:
    """An error as the reply."""
    return Reply(ok=False, tree=error_tree(error))


def reached_by(call: HostCall, reply: Reply) -> tuple[str, ...]:
    """The points after a call: of success, or of this failure."""
    points = call.points
    if reply.ok:
        return points.after if points else ()
    code, reason = failure_of(reply)
    return error_points(points, code, reason)


def failure_of(reply: Reply) -> tuple[str, str]:
    """Code and reason of a reply that is a refusal."""
    tree: Any = reply.tree
    return str(tree.get("code", "")), str(tree.get("reason", ""))


def now_s() -> float:
    """For measuring how long something takes, in seconds."""
    return time.perf_counter()
