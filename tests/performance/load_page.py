"""The page of `make load`: tables, what follows from them, and plots."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ASKED = 10_000
"""Queries a second across tenants, of the specification."""
BATCH = 100
WHAT = {
    "state-read": "read of an item",
    "state-write": "durable write of an item",
    "search": "search of 10 000 x 384",
    "batch-search": "BatchSearch, 100 queries a call, of 10 000 x 384",
    "ingest": "upsert of 100 x 384 a call",
    "scripts": "script with two calls of state",
    "mixed-tenants": "search, 16 tenants in turn, 1 000 to 10 000 x 384",
}
_PROCESSES = ("gateway", "runtime", "vector", "state", "ghz")


def write_page(page: Path, told: dict[str, Any], machine: str) -> None:
    """Write the page and, beside it, its plots."""
    picture = page.with_suffix(".png")
    _draw(picture, told)
    page.write_text(_text(told, machine, picture.name))


def _text(told: dict[str, Any], machine: str, picture: str) -> str:
    runs = {run.name: run for run in told["runs"]}
    return "\n".join(
        (
            "# Under load",
            "",
            "`make load` starts the four processes, makes 16 tenants with data, runs",
            "[ghz](https://ghz.sh) with the configurations in [load/](../../load), and writes this",
            f"page. {datetime.now(UTC):%Y-%m-%d}; ghz runs on the same cores:",
            f"{machine}.",
            "",
            f"![latencies]({picture})",
            "",
            "## Calls a second, with as many callers as stand there",
            "",
            *_table(told["runs"]),
            "",
            "A row's last column is processor time that one call took of each process. Rates meet",
            "whatever else the machine does; that column hardly does.",
            "",
            "## Calls that do not wait for each other",
            "",
            "Reads of an item at a fixed rate, whether or not the ones before were answered:",
            "",
            *_offered(told["offered"]),
            "",
            f"## {ASKED:,} queries a second across tenants".replace(",", " "),
            "",
            *_extrapolated(runs),
            "",
            "## What one more process brings",
            "",
            *_two(runs["state-read"], told["two"]),
            "",
        )
    )


def _table(runs: list[Any]) -> list[str]:
    head = [
        "| what | callers | calls/s | p50 ms | p95 ms | p99 ms | failed | µs a call |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [
        f"| {WHAT[run.name]} | {run.callers} | {run.rate:.0f} | {_ms(run, 50)} | {_ms(run, 95)} | "
        f"{_ms(run, 99)} | {run.refused} | {_costs(run)} |"
        for run in runs
    ]
    return head + rows


def _ms(run: Any, percentile: int) -> str:
    value = run.latency_ms.get(percentile)
    return "-" if value is None else f"{value:.1f}"


def _costs(run: Any) -> str:
    shown = ((name, run.cost_us.get(name, 0.0)) for name in _PROCESSES)
    return ", ".join(f"{name} {us:.0f}" for name, us in shown if us >= 1)


def _offered(offered: list[tuple[int, Any]]) -> list[str]:
    head = [
        "| offered/s | answered/s | p50 ms | p99 ms | failed |",
        "| --- | --- | --- | --- | --- |",
    ]
    return head + [
        f"| {rate} | {run.rate:.0f} | {_ms(run, 50)} | {_ms(run, 99)} | {run.refused} |"
        for rate, run in offered
    ]


def _extrapolated(runs: dict[str, Any]) -> list[str]:
    one, many, mixed = runs["search"], runs["batch-search"], runs["mixed-tenants"]
    batched = many.rate * BATCH
    lines = [
        f"This machine answers {one.rate:.0f} searches a second one by one, {mixed.rate:.0f}",
        f"across 16 tenants, and {batched:.0f} in calls of {BATCH} (`BatchSearch`).",
        f"One by one: {_met(one.rate)}; batched: {_met(batched)}. Why is arithmetic:",
        "",
        "| process | µs a search | cores for 10 000/s | µs a query in a batch | cores |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ("gateway", "vector"):
        alone, together = mixed.cost_us[name], many.cost_us[name] / BATCH
        lines.append(
            f"| {name} | {alone:.0f} | {alone * ASKED / 1e6:.1f} | {together:.0f} | "
            f"{together * ASKED / 1e6:.1f} |"
        )
    gateways = -(-mixed.cost_us["gateway"] * ASKED // 0.8e6)
    lines += [
        "",
        "On paper, from the first column: a process of Python uses one core for its calls, so one",
        f"by one this takes about {gateways:.0f} gateways at 80 % of a core each, which several",
        "behind one name can be, and more than one vector process, which a deployment has: there",
        "the calls themselves are the limit, and batches are the way past it.",
    ]
    return lines


def _met(rate: float) -> str:
    return "**met**" if rate >= ASKED else "**not met on this machine**"


def _two(one: Any, two: list[Any]) -> list[str]:
    together, state = sum(run.rate for run in two), max(one.cost_us["state"], 1.0)
    whole = sum(one.cost_us.values())
    return [
        f"Reads of an item through one gateway: {one.rate:.0f} a second. With a second gateway",
        f"beside it and 32 callers at each: {together:.0f}, {together / one.rate:.2f} x. All of it",
        "shares the same cores with ghz; a second gateway brings more only where there are cores",
        f"for it. Of the {whole:.0f} µs that a read takes in all, {one.cost_us['gateway']:.0f} are",
        f"the gateway's and {state:.0f} the state process's, so with cores enough one state",
        f"process answers about {1e6 / state:.0f} reads a second and keeps about",
        f"{one.cost_us['gateway'] / state:.1f} gateways busy.",
    ]


def _draw(picture: Path, told: dict[str, Any]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    names = [run.name for run in told["runs"]]
    for shift, percentile in enumerate((50, 95, 99)):
        values = [run.latency_ms.get(percentile, 0.0) for run in told["runs"]]
        places = [place + 0.27 * (shift - 1) for place in range(len(names))]
        left.barh(places, values, height=0.25, label=f"p{percentile}")
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xscale("log")
    left.set_xlabel("ms")
    left.set_title("latency of a call, closed loop")
    left.legend()
    rates = [rate for rate, _ in told["offered"]]
    for percentile in (50, 95, 99):
        values = [run.latency_ms.get(percentile, 0.0) for _, run in told["offered"]]
        right.plot(rates, values, marker="o", label=f"p{percentile}")
    right.set_yscale("log")
    right.set_xlabel("reads of state a second, offered")
    right.set_ylabel("ms")
    right.set_title("latency of a read, open loop")
    right.legend()
    figure.savefig(picture, dpi=110)
    plt.close(figure)
