"""Which of several processes a call goes to: its tenant's, or where what it speaks of goes on.

A run has the tag of its process at the end of its id. An execution of an agent or a workflow has
not, since a repeated request must find the same id anywhere; who does not know one is not the last
to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from services.common.access import Method
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.members import TAG_LENGTH, AnyMember
from services.common.relay import Upstream

_RUN_ID = "run_id"
_ELSEWHERE = frozenset({Reason.EXECUTION_NOT_FOUND, Reason.CALLBACK_NOT_FOUND})


class Homes(AnyMember):
    """A route to processes of which each knows what goes on in it."""

    async def pick(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> Upstream:
        """The process whose turn a call is.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE where none serves.
        """
        tag = tag_in(method, request)
        return (await self.members.pick(context.tenant, tag, timeout_s=timeout_s)).upstream

    def others(self, error: ServiceError, but: Upstream) -> Sequence[Upstream]:
        """Whoever else may have an execution that one does not know."""
        if error.reason not in _ELSEWHERE:
            return ()
        return [each.upstream for each in self.members.all_alive if each.upstream is not but]


def tag_in(method: Method, request: bytes) -> str:
    """The tag of the process in which the run goes on that a request names, if any."""
    if not _names_a_run(method):
        return ""
    try:
        message = GetMessageClass(method.descriptor.input_type).FromString(request)
    except DecodeError:
        return ""  # whoever it goes to says so
    return str(getattr(message, _RUN_ID))[-TAG_LENGTH:]


@cache
def _names_a_run(method: Method) -> bool:
    return _RUN_ID in method.descriptor.input_type.fields_by_name and not method.request_streams
