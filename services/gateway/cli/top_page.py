"""How `llmspell top` looks; it fits into 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from services.gateway.cli.output import clean
from services.gateway.cli.top_figures import Figures, ProcessFigures

_MIB = 1024 * 1024
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_SLOW_S, _VERY_SLOW_S = 0.25, 1.0
_BUSY_SHARE = 0.8


def draw(page: Figures, clock: str) -> Group:
    """One page."""
    ready = sum(process.is_ready for process in page.processes)
    return Group(
        _head(clock, f"{ready} of {len(page.processes)} ready", page.interval_s),
        Text(),
        _processes(page),
        Text(),
        _methods(page),
        Text(),
        _tenants(page),
        Text(),
        _queues(page),
    )


def draw_away(why: str, clock: str) -> Group:
    """While the gateway does not answer."""
    return Group(_head(clock, "away", 0.0), Text(), Text(clean(why), style="yellow"))


def _head(clock: str, state: str, interval_s: float) -> Text:
    spread = f"  over {interval_s:.1f} s" if interval_s else ""
    return Text.assemble(("LLMSpell top", "bold"), f"  {clock}  {state}{spread}")


def _table(headings: Sequence[str], widths: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold cyan", padding=(0, 1, 0, 0))
    for position, (heading, width) in enumerate(zip(headings, widths, strict=True)):
        table.add_column(
            heading,
            justify="right" if position else "left",
            width=width,
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _processes(page: Figures) -> Table:
    headings = ("process", "up", "cpu", "memory", "in flight", "calls/s", "faults/s")
    table = _table(headings, (19, 9, 6, 9, 9, 9, 9))
    for process in page.processes:
        name = Text.assemble(_lamp(process), " ", clean(process.name))
        if not process.memory_bytes:
            table.add_row(name, Text("away", style="red"))
            continue
        table.add_row(
            name,
            _duration(process.up_s),
            Text(f"{process.cpu_share:.0%}", "yellow" if process.cpu_share > _BUSY_SHARE else ""),
            f"{process.memory_bytes / _MIB:.0f} MiB",
            str(process.in_flight),
            _number(process.calls_a_second),
            _bad(process.faults_a_second),
        )
    return table


def _lamp(process: ProcessFigures) -> tuple[str, str]:
    if process.is_ready:
        return ("●", "green")
    return ("○", "yellow" if process.memory_bytes else "red")


def _methods(page: Figures) -> Table:
    table = _table(("method", "calls/s", "p50", "p99", "failed/s"), (36, 9, 9, 9, 9))
    for method in page.methods:
        table.add_row(
            clean(method.name),
            _number(method.calls_a_second),
            _took(method.p50_s),
            _took(method.p99_s),
            _bad(method.failures_a_second),
        )
    return _or_none(table, "no calls")


def _tenants(page: Figures) -> Table:
    table = _table(("tenant", "calls/s", "mean", "refused/s"), (36, 9, 9, 9))
    for tenant in page.tenants:
        table.add_row(
            clean(tenant.name),
            _number(tenant.calls_a_second),
            _took(tenant.mean_s),
            _bad(tenant.refusals_a_second),
        )
    return _or_none(table, "no calls of tenants")


def _or_none(table: Table, words: str) -> Table:
    if not table.row_count:
        table.add_row(Text(words, style="dim"))
    return table


def _queues(page: Figures) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    for width in (27, 9, 2, 27, 9):
        table.add_column(width=width, no_wrap=True, justify="right" if width == 9 else "left")  # noqa: PLR2004
    rows = [(clean(name), _number(value)) for name, value in page.queues.items()]
    half = (len(rows) + 1) // 2
    for position in range(half):
        right = rows[position + half] if position + half < len(rows) else ("", "")
        table.add_row(*rows[position], "", *right)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"  # noqa: PLR2004


def _bad(value: float) -> Any:
    return Text(_number(value), style="red" if value else "dim")


def _took(seconds: float) -> Text:
    style = "red" if seconds >= _VERY_SLOW_S else "yellow" if seconds >= _SLOW_S else ""
    text = f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
    return Text(text, style=style)


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} m"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"
