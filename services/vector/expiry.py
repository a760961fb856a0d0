"""Gives back the room of records that nobody can see any more."""

from __future__ import annotations

import asyncio
import logging

from services.common.errors import ServiceError
from services.vector.storage import VectorStorage

_log = logging.getLogger(__name__)

SLICE = 500
"""Records removed in one transaction, so that no writer waits long behind it."""


async def sweep_forever(storage: VectorStorage, interval_s: float) -> None:
    """Remove what is due, slice by slice, and look again after a pause. Cancel it to end it."""
    while True:
        try:
            removed = await storage.sweep(SLICE)
        except ServiceError as error:  # a full disk, say: reads do not depend on this
            _log.warning("expired records were not removed: %s", error.message)
            removed = 0
        await asyncio.sleep(0 if removed == SLICE else interval_s)
