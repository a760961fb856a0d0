"""`llmspell top` and `llmspell metrics`: what the processes do at this moment."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.gateway.cli.output import show_json, show_raw
from services.gateway.cli.target import JsonOption, connect

if TYPE_CHECKING:
    from llmspell import Client

    from services.gateway.cli.top_figures import Figures, Reading

_ONCE_S = 1.0
"""Between the two readings of one page."""

EveryOption = Annotated[
    float, typer.Option("--every", min=0.2, max=3600, metavar="SECONDS", help="How often it looks.")
]


def top(
    context: typer.Context,
    *,
    every: EveryOption = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one page and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show processes, methods, tenants and queues, live; with the operator's key. Ctrl-C ends."""
    with connect(context) as client:
        if as_json:
            show_json(asdict(_page(client)))
        elif once:
            _print(_page(client))
        else:
            _live(client, every)


def metrics(context: typer.Context) -> None:
    """Print the metrics of all processes as Prometheus reads them; with the operator's key."""
    from services.common.metrics import joined, of_member  # noqa: PLC0415  (slow to import)

    with connect(context) as client:
        texts = client.metrics()
    told = [of_member(text, name.partition("/")[2]) for name, text in texts.items()]
    show_raw(joined(told).encode())


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _read(client: Client) -> Reading:
    from services.gateway.cli.top_figures import Reading  # noqa: PLC0415  (likewise)

    return Reading.of(client.metrics(), time.monotonic())


def _page(client: Client) -> Figures:
    from services.gateway.cli.top_figures import figures  # noqa: PLC0415  (likewise)

    before = _read(client)
    time.sleep(_ONCE_S)
    return figures(before, _read(client), time.time())


def _print(page: Figures) -> None:
    from services.gateway.cli.output import stdout  # noqa: PLC0415
    from services.gateway.cli.top_page import draw  # noqa: PLC0415  (rich's parts)

    stdout().print(draw(page, _clock()))


def _live(client: Client, every: float) -> None:
    """Draw until interrupted; a gateway that is away for a while is waited for."""
    from llmspell.errors import DeadlineExceeded, Unavailable  # noqa: PLC0415  (likewise)
    from rich.live import Live  # noqa: PLC0415

    from services.gateway.cli.output import stdout  # noqa: PLC0415
    from services.gateway.cli.top_figures import figures  # noqa: PLC0415
    from services.gateway.cli.top_page import draw, draw_away  # noqa: PLC0415

    before = _read(client)
    time.sleep(min(every, _ONCE_S))
    console = stdout()
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            shown: Any
            try:
                now = _read(client)
                shown = draw(figures(before, now, time.time()), _clock())
                before = now
            except (Unavailable, DeadlineExceeded) as error:
                shown = draw_away(error.message, _clock())
            live.update(shown, refresh=True)
            time.sleep(every)
