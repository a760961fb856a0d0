"""Messages on their way through the door: how large one may be, and how long one may wait."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from services.common.errors import Reason, ServiceError
from services.common.limits import MESSAGE_BYTES_MAX

_UNREAD_S = 30.0
"""How long a caller may leave a stream unread before it loses its place."""


def check_size(message: bytes) -> None:
    """Refuse a message that is too large.

    Raises:
        ServiceError: MESSAGE_TOO_LARGE.
    """
    if len(message) > MESSAGE_BYTES_MAX:
        raise ServiceError(
            Reason.MESSAGE_TOO_LARGE,
            f"The message has {len(message)} bytes; the limit is {MESSAGE_BYTES_MAX}. "
            "Send less at once.",
            limit=MESSAGE_BYTES_MAX,
            got=len(message),
        )


async def write(servicer_context: Any, message: bytes) -> None:
    """Give a message of a stream out.

    Raises:
        ServiceError: DEADLINE_EXCEEDED where it is not read.
        asyncio.CancelledError: the caller has gone.
    """
    try:
        async with asyncio.timeout(_UNREAD_S):
            await servicer_context.write(message)
    except TimeoutError:
        raise ServiceError(
            Reason.DEADLINE_EXCEEDED,
            f"The answer was not read for {_UNREAD_S:g} seconds.",
            limit=_UNREAD_S,
        ) from None
    except grpc.aio.InternalError:
        # The caller has gone, and grpc has not told this task yet. No fault of ours.
        raise asyncio.CancelledError from None
