"""Which tenants are being restored.

| database | key | value |
|---|---|---|
| restores | tenant | the backup, as JSON of `Restoring` |

A record is there from the moment at which a restore begins to change a tenant until its last
transaction, so that one that was cut off is known at start.
"""

from __future__ import annotations

import msgspec


class Restoring(msgspec.Struct, frozen=True):
    """A restore that has begun."""

    backup_id: str
    begin_time_ns: int


def pack_restoring(restoring: Restoring) -> bytes:
    """Value in `restores`."""
    return msgspec.json.encode(restoring)


def unpack_restoring(stored: bytes) -> Restoring:
    """From a value in `restores`."""
    return msgspec.json.decode(stored, type=Restoring)
