"""What became of one kind of a tenant's things when it was erased, looked at again afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmspell.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class Erased:
    """One kind of thing."""

    what: str
    erased_count: int
    left_count: int = 0
    note: str = ""


def erasure_messages(parts: Iterable[Erased]) -> list[types_pb2.Erasure]:
    """As the contract tells it."""
    return [
        types_pb2.Erasure(
            what=each.what,
            erased_count=each.erased_count,
            left_count=each.left_count,
            note=each.note,
        )
        for each in parts
    ]
