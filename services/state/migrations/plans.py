"""What a migration would do, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.view import Slice
from services.state.layout import items as layout
from services.state.migrations.documents import Unfit
from services.state.migrations.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Sample:
    """An item before and after, or why it cannot be."""

    scope: str
    key: str
    before: bytes
    after: bytes = b""
    path: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration would do."""

    schema: str
    from_version: str
    to_version: str
    versions: tuple[str, ...]
    items: int
    size_bytes: int
    staged: bool
    samples: Sequence[Sample]


def take_samples(transformer: Transformer, part: Slice, now_ns: int) -> list[Sample]:
    """Items before and after; none that has ended, or whose value is marked as sensitive."""
    return [
        _sample(transformer, place, stored)
        for place, stored in zip(part.keys, part.values, strict=True)
        if layout.ended(stored, now_ns) is None and not layout.is_sensitive(stored)
    ]


def _sample(transformer: Transformer, place: bytes, stored: bytes) -> Sample:
    _, scope, key = layout.split_item_key(place)
    item = layout.unpack_item(key, stored)
    before = item.value.content if item.value else b""
    try:
        after = layout.unpack_item(key, transformer.stored(stored)).value
    except Unfit as unfit:
        return Sample(scope, key, before, path=unfit.path, rule=unfit.rule)
    return Sample(scope, key, before, after.content if after else b"")
