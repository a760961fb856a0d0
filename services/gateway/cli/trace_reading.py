"""Reads the files of spans that processes write (`common.trace_sinks`): traces of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

ID_LENGTH_MIN = 4
"""Of the beginning of an id that names a trace."""


class SpanLine(msgspec.Struct, kw_only=True):
    """One line of such a file."""

    trace_id: str
    span_id: str
    process: str
    name: str
    begin_ns: int
    end_ns: int
    parent_id: str = ""
    kind: str = "internal"
    error: str = ""
    attributes: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)

    @property
    def elapsed_s(self) -> float:
        """How long it took."""
        return max(self.end_ns - self.begin_ns, 0) / 1e9

    def told(self, name: str) -> str:
        """An attribute as text; empty where it has none."""
        return str(self.attributes.get(name, ""))


@dataclass(slots=True)
class Trace:
    """All spans of one trace that are kept."""

    trace_id: str
    spans: list[SpanLine] = field(default_factory=list)

    @property
    def begin_ns(self) -> int:
        """When it began."""
        return min(span.begin_ns for span in self.spans)

    @property
    def first(self) -> SpanLine:
        """What it began with, as far as that is kept; of what begins at once, the longest."""
        roots = [span for span in self.spans if not span.parent_id] or self.spans
        return min(roots, key=lambda span: (span.begin_ns, -span.end_ns))

    @property
    def elapsed_s(self) -> float:
        """From its beginning to its end."""
        return (max(span.end_ns for span in self.spans) - self.begin_ns) / 1e9

    @property
    def tenant(self) -> str:
        """Whose calls they are."""
        names = (span.told("llmspell.tenant") for span in self.spans)
        return next((name for name in names if name), "")

    @property
    def error(self) -> str:
        """What its first span failed with; what failed within it may have been expected there."""
        return self.first.error

    def is_named(self, text: str) -> bool:
        """Whether it has this id, or a call with this request id, or an id that begins so."""
        ids = {self.trace_id, *(span.told("llmspell.request_id") for span in self.spans)}
        return text in ids or (
            len(text) >= ID_LENGTH_MIN and any(each.startswith(text) for each in ids)
        )

    def in_order(self) -> Iterator[tuple[int, SpanLine]]:
        """Every span below its parent, with its depth; on top also those without a kept parent."""
        known = {span.span_id for span in self.spans}
        below: dict[str, list[SpanLine]] = {}
        for span in sorted(self.spans, key=lambda span: (span.begin_ns, -span.end_ns)):
            has_parent = span.parent_id in known and span.parent_id != span.span_id
            below.setdefault(span.parent_id if has_parent else "", []).append(span)
        waiting = [(0, span) for span in reversed(below.get("", []))]
        seen: set[int] = set()
        while waiting:
            depth, span = waiting.pop()
            if id(span) in seen:  # a forged file may have a circle
                continue
            seen.add(id(span))
            yield depth, span
            waiting += [(depth + 1, each) for each in reversed(below.get(span.span_id, []))]
        yield from ((0, span) for span in self.spans if id(span) not in seen)


def read_traces(folder: Path) -> tuple[list[Trace], int]:
    """Every trace of a folder, and how many lines were no spans.

    Raises:
        OSError: it cannot be read.
    """
    traces: dict[str, Trace] = {}
    bad = 0
    decoder = msgspec.json.Decoder(SpanLine)
    for line in _lines(sorted(folder.glob("*.jsonl"))):
        try:
            span = decoder.decode(line)
        except (msgspec.MsgspecError, ValueError):
            bad += 1
            continue
        traces.setdefault(span.trace_id, Trace(span.trace_id)).spans.append(span)
    return list(traces.values()), bad


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        with file.open("rb") as lines:
            yield from (line for line in lines if line.strip())
