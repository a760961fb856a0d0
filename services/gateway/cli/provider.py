"""`llmspell provider` and `llmspell model`: who answers agents, and with what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from services.gateway.cli.output import (
    ExitCode,
    say,
    show_count,
    show_json,
    show_line,
    show_size,
    show_table,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmspell import Client
    from llmspell.types import Model, ModelPull, Provider, ProviderTest

app = typer.Typer(no_args_is_help=True, help="Providers of chat models.")
models = typer.Typer(no_args_is_help=True, help="Models of providers.")

ModelArgument = Annotated[str, typer.Argument(metavar="PROVIDER/MODEL", help="Its name.")]
_NUMBERS = frozenset({1, 2, 3, 5, 6})
"""Columns of the table of models that are numbers."""
_PULL_STEP_S = 5.0


@app.command("list")
def list_providers(
    context: typer.Context,
    *,
    usable: Annotated[bool, typer.Option("--usable", help="Only those that can be used.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List providers: whether each can be used, why not, and what it can."""
    with connect(context, tenant) as client:
        providers = [one for one in client.list_providers() if one.enabled or not usable]
    if as_json:
        show_json(providers)
        return
    rows = [[_mark(one.enabled), one.name, _what(one), _can(one), _where(one)] for one in providers]
    show_table(["", "provider", "speaks", "can", "where, or why not"], rows)
    count = sum(one.enabled for one in providers)
    say(f"{count} of {show_count(len(providers), 'provider')} can be used.", "dim")


@app.command("test")
def ask(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[PROVIDER[/MODEL]]", help="One; else all that can be used.")
    ] = "",
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a provider for its models, and a model for a word; 1 is the exit code where one fails."""
    with connect(context, tenant) as client:
        done = {asked: _tested(client, asked) for asked in _asked(client, name)}
    if as_json:
        show_json(done)
    else:
        _show_tests(done)
    if not all(one.ok for one in done.values()):
        raise typer.Exit(ExitCode.PARTIAL)


@models.command("list")
def list_models(
    context: typer.Context,
    provider: Annotated[
        str, typer.Argument(metavar="[PROVIDER]", help="Only those of this one.")
    ] = "",
    *,
    known: Annotated[
        bool, typer.Option("--known", help="Ask nobody: only what is known already.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List models, their windows and what they cost, as their providers tell now."""
    with connect(context, tenant) as client:
        found = client.list_models(provider=provider, ask_providers=not known)
    if as_json:
        show_json(found)
        return
    if found.models:
        _show_models(found.models)
        say("Prices are US dollars a million tokens.", "dim")
    else:
        say("No models are known.")
    for name, reason in sorted(found.silent_providers.items()):
        say(f"{name} does not tell: {reason}.", "yellow")


@models.command("info")
def info(
    context: typer.Context,
    name: ModelArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one model."""
    with connect(context, tenant) as client:
        model = client.get_model(name)
    if as_json:
        show_json(model)
        return
    for heading, value in _facts(model).items():
        if value:
            show_line(f"{heading:<14}{value}")


@models.command("pull")
def pull(
    context: typer.Context,
    name: ModelArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a provider on the operator's own machines fetch a model; wants the operator's key."""
    provider, _, model = name.partition("/")
    if not model:
        raise typer.BadParameter("must be PROVIDER/MODEL, such as ollama/llama3.2:3b")
    with connect(context, tenant) as client:
        done = _pulled(client, provider, model)
    if as_json:
        show_json(done)
    elif done.error:
        say(f"{name}: {done.error}", "red")
    else:
        show_line(f"{name}: {done.status}")
    if done.error:
        raise typer.Exit(ExitCode.PARTIAL)


def _show_models(found: Sequence[Model]) -> None:
    """A table without the columns that nothing is known for."""
    headings = ["model", "context", "$ in", "$ out", "can", "size", "parameters"]
    rows = [_row(one) for one in found]
    kept = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    right = tuple(place for place, at in enumerate(kept) if at in _NUMBERS)
    shown = [[row[at] for at in kept] for row in rows]
    show_table([headings[at] for at in kept], shown, numbers=right)


def _asked(client: Client, name: str) -> list[str]:
    return [name] if name else [one.name for one in client.list_providers() if one.enabled]


def _tested(client: Client, asked: str) -> ProviderTest:
    provider, _, model = asked.partition("/")
    return client.test_provider(provider, model=model)


def _show_tests(done: Mapping[str, ProviderTest]) -> None:
    rows = []
    for name, one in done.items():
        told = [one.version and f"version {one.version}", show_count(one.model_count, "model")]
        said = one.text and f"says {' '.join(one.text.split())!r}"
        good = ", ".join(part for part in (*told, said) if part)
        rows.append([_mark(one.ok), name, f"{one.elapsed_s * 1000:.0f} ms", good])
        if not one.ok:
            rows[-1][-1] = f"{one.message} ({one.reason})"
    show_table(["", "provider", "took", "answer"], rows, numbers=(2,))


def _pulled(client: Client, provider: str, model: str) -> ModelPull:
    """Wait for as long as it takes; Ctrl-C ends the waiting, and it is fetched on."""
    from rich.progress import DownloadColumn, Progress, TextColumn  # noqa: PLC0415 - slow to import

    from services.gateway.cli.output import clean, stderr  # noqa: PLC0415

    columns = (*Progress.get_default_columns(), DownloadColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=stderr(), transient=True) as progress:
        bar = progress.add_task(model, total=None, said="")
        while True:
            begin = time.monotonic()
            done = client.pull_model(provider, model, wait_s=_PULL_STEP_S)
            shown = clean(done.status)[:40]
            total = done.total_bytes or None
            progress.update(bar, completed=done.downloaded_bytes, total=total, said=shown)
            # What ends sooner than it was waited for has ended.
            if done.error or time.monotonic() - begin < _PULL_STEP_S:
                return done


def _mark(good: bool) -> str:
    return "\N{CHECK MARK}" if good else "\N{MIDDLE DOT}"


def _what(provider: Provider) -> str:
    return f"{provider.kind}, local" if provider.local else provider.kind


def _can(provider: Provider) -> str:
    can = {"images": provider.multimodal, "tools": provider.tools, "schemas": provider.json_schema}
    return ", ".join(name for name, there in can.items() if there)


def _where(provider: Provider) -> str:
    return provider.base_url if provider.enabled else provider.disabled_reason


def _row(model: Model) -> list[str]:
    can = {"images": model.multimodal, "tools": model.tools, "in memory": model.loaded}
    return [
        model.name,
        _tokens(model.context_tokens),
        _price(model.input_usd_per_million),
        _price(model.output_usd_per_million),
        ", ".join(name for name, there in can.items() if there),
        show_size(model.size_bytes) if model.size_bytes else "",
        model.parameter_count,
    ]


def _facts(model: Model) -> dict[str, str]:
    modified = model.modified_time
    return {
        "model": model.name,
        "context": f"{model.context_tokens:,} tokens" if model.context_tokens else "",
        "answer": f"{model.output_tokens:,} tokens at most" if model.output_tokens else "",
        "price read": _each_million(model.input_usd_per_million),
        "price cached": _each_million(model.cached_usd_per_million),
        "price written": _each_million(model.output_usd_per_million),
        "sees images": "yes" if model.multimodal else "",
        "calls tools": "yes" if model.tools else "",
        "size": show_size(model.size_bytes) if model.size_bytes else "",
        "parameters": model.parameter_count,
        "quantization": model.quantization,
        "format": model.format,
        "changed": f"{modified:%Y-%m-%d %H:%M}" if modified is not None else "",
        "in memory": "yes" if model.loaded else "",
        "told by": "its provider, now" if model.available else "what is known of it",
    }


def _tokens(count: int) -> str:
    return f"{count:,}" if count else ""


def _price(price: float | None) -> str:
    return "" if price is None else f"{price:,.4g}"


def _each_million(price: float | None) -> str:
    return "" if price is None else f"${price:,.4g} a million tokens"
