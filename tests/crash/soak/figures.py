"""The table of a soak's figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from tests.crash.soak.clients import Repeating
from tests.crash.soak.storm import Soak
from tests.crash.soak.vitals import PER_S, slope
from tests.crash.soak.witness import CONNECTION, RETRYABLE
from tests.integration.apart import NAMES


def report(soak: Soak) -> str:
    """All of it, as text."""
    parts = [_calls(soak), _refusals(soak), _faults(soak), _memory(soak), _rest(soak)]
    return "\n\n".join(parts)


def _calls(soak: Soak) -> str:
    seen = soak.seen
    rows = [(name, seen.calls[name], seen.answered[name]) for name in sorted(seen.calls)]
    rows.append(("all", seen.calls.total(), seen.answered.total()))
    return _columns(("call", "made", "answered"), rows)


def _refusals(soak: Soak) -> str:
    rows = [
        (reason, times, "to be repeated" if reason in {*RETRYABLE, CONNECTION} else "expected")
        for reason, times in sorted(soak.seen.refused.items())
    ]
    return _columns(("refused with", "times", ""), rows)


def _faults(soak: Soak) -> str:
    rows = []
    for kind, times in sorted(soak.weather.counts.items()):
        back = soak.weather.back_s.get(kind, [0.0])
        rows.append((kind, times, f"{statistics.median(back):.2f}", f"{max(back):.2f}"))
    head = ("fault", "times", "all served again after, s (median)", "at most, s")
    return _columns(head, rows)


def _memory(soak: Soak) -> str:
    rows = []
    for name in NAMES:
        samples = soak.vitals.since(name, soak.quiet_from)
        if len(samples) < 2:
            continue
        first, last = samples[0], samples[-1]
        slopes = [f"{slope(samples, field):+.2f}" for field in ("own_mib", "resident_mib")]
        seconds = f"{last.at - first.at:.0f}"
        memory = f"{last.own_mib:.0f} of {last.resident_mib:.0f}"
        descriptors = f"{first.descriptors} to {last.descriptors}"
        rows.append((name, seconds, memory, *slopes, descriptors))
    per = f"MiB per {PER_S:.0f} s"
    head = ("process", "looked at, s", "own of resident, MiB", f"own, {per}", f"resident, {per}")
    return _columns((*head, "descriptors"), rows)


def _rest(soak: Soak) -> str:
    late = sorted(soak.seen.late) or [0.0]
    ledgers = [runner.ledger for runner in soak.runners]
    acknowledged = sum(each.answers for each in ledgers)
    repeated = sum(each.repeated for each in ledgers if isinstance(each, Repeating))
    rows = [
        ("writes acknowledged", acknowledged),
        ("repeats under a request id", repeated),
        ("comparisons of all", soak.musters),
        ("answers with the tenant's own secret", soak.seen.own.total()),
        ("calls that ended by their deadline", len(soak.seen.late)),
        ("after it, s (median)", f"{statistics.median(late):.3f}"),
        ("after it, s (at most)", f"{late[-1]:.3f}"),
    ]
    return _columns(("", "figure"), rows)


def _columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join(lines)
