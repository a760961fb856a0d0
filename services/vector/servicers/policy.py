"""What a caller's key lets it see: a filter, and-ed to its own before anything is planned."""

from __future__ import annotations

from functools import lru_cache

from llmspell.v1 import types_pb2

from services.common.context import current_context
from services.common.errors import Reason, ServiceError
from services.vector.model import All, Filter
from services.vector.servicers.filter_messages import read_filter


def row_filter() -> Filter | None:
    """What the caller may see; None: all of its tenant's records."""
    stored = current_context().row_filter
    return _parsed(stored) if stored else None


def restricted(asked: Filter | None) -> Filter | None:
    """A caller's filter and what it may see, together."""
    policy = row_filter()
    if policy is None or asked is None:
        return policy or asked
    return All((policy, asked))


def sees_all() -> bool:
    """Whether the caller sees all of its tenant's records, and so may know how many there are."""
    return not current_context().row_filter


def refuse_restricted(method: str) -> None:
    """Refuse a call whose effect no filter can bound.

    Raises:
        ServiceError: PERMISSION_DENIED where the caller sees some records only.
    """
    if not sees_all():
        raise ServiceError(
            Reason.PERMISSION_DENIED,
            f"This key sees some records only, and {method} is about all of them.",
            permission="row_filter",
        )


@lru_cache(maxsize=256)
def _parsed(stored: bytes) -> Filter:
    return read_filter(types_pb2.Filter.FromString(stored), "row_filter")
