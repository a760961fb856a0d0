"""`llmspell usage`, `budget` and `estimate`: what was spent, what may be, what something costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import typer

from services.gateway.cli.inputs import parse_time
from services.gateway.cli.output import say, show_count, show_json, show_line, show_table
from services.gateway.cli.target import JsonOption, TenantOption, connect
from services.gateway.cli.workflow_files import is_file, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmspell.types import (
        Budget,
        BudgetPeriod,
        CostEstimate,
        Spent,
        UsageGroup,
        UsageReport,
    )

budgets = typer.Typer(no_args_is_help=True, help="Budgets: what models may cost a tenant.")
estimates = typer.Typer(no_args_is_help=True, help="What something would cost, without doing it.")

BAR_WIDTH = 40
SubjectArgument: TypeAlias = Annotated[str, typer.Argument(help="tenant, or agent:NAME.")]
PeriodOption: TypeAlias = Annotated[str, typer.Option("--per", help="day, month or total.")]


def usage(
    context: typer.Context,
    *,
    by: Annotated[
        str, typer.Option(help="day, month, model, agent, run; several with commas.")
    ] = "model",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From this day on; else 30 days ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show tokens and money by model, agent or run, and a plot by day."""
    groups = cast("list[UsageGroup]", [each.strip() for each in by.split(",") if each.strip()])
    start, end = parse_time(since, "--since"), parse_time(until, "--until")
    with connect(context, tenant) as client:
        report = client.get_usage(start_time=start, end_time=end, group_by=groups)
        if as_json:
            show_json(report)
            return
        days = client.get_usage(start_time=start, end_time=end, group_by=["day"])
    if not report.rows:
        say("Nothing was spent in this time.")
        return
    _show_report(report, groups)
    show_line("")
    _show_plot(days)


def _show_report(report: UsageReport, groups: Sequence[str]) -> None:
    rows = [[*(key or "-" for key in row.keys), *_figures(row.spent)] for row in report.rows]
    if len(rows) > 1:
        rows.append(["all", *[""] * (len(groups) - 1), *_figures(report.total)])
    headings = [*(groups or ["all"]), "calls", "read", "cached", "written", "cost"]
    first = len(groups)
    rows = rows if groups else [["all", *row] for row in rows]
    numbers = tuple(range(max(first, 1), len(headings)))
    show_table(headings, rows, numbers=numbers)
    if report.total.estimated:
        say("~ A part of it is an estimate: no price is known, or no count was told.")


def _figures(spent: Spent) -> list[str]:
    counts = (spent.model_calls, spent.input_tokens, spent.cached_tokens, spent.output_tokens)
    return [*(f"{count:,}" for count in counts), _cost(spent)]


def _cost(spent: Spent) -> str:
    return f"{'~' if spent.estimated else ''}{show_usd(spent.cost_usd)}"


def show_usd(usd: float) -> str:
    """Money, with as many digits as small sums need."""
    return f"${usd:,.2f}" if usd >= 1 or not usd else f"${usd:.6f}".rstrip("0")


def _show_plot(days: UsageReport) -> None:
    """A bar for each day; by tokens where nothing cost money."""
    by_money = days.total.cost_usd > 0

    def height(spent: Spent) -> float:
        return spent.cost_usd if by_money else spent.input_tokens + spent.output_tokens

    most = max(height(row.spent) for row in days.rows) or 1
    for row in days.rows:
        bar = "█" * max(round(BAR_WIDTH * height(row.spent) / most), 1)
        tokens = row.spent.input_tokens + row.spent.output_tokens
        told = _cost(row.spent) if by_money else show_count(tokens, "token")
        show_line(f"{row.keys[0]}  {bar}  {told}")


@budgets.command("set")
def set_budget(
    context: typer.Context,
    subject: SubjectArgument = "tenant",
    *,
    usd: Annotated[float, typer.Option(help="US dollars; 0: no limit of money.")] = 0.0,
    tokens: Annotated[int, typer.Option(help="Tokens; 0: no limit of tokens.")] = 0,
    period: PeriodOption = "month",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a budget or change it; calls of models that it has no room for are refused."""
    with connect(context, tenant) as client:
        budget = client.set_budget(
            subject, period=cast("BudgetPeriod", period), limit_usd=usd, limit_tokens=tokens
        )
    _show_budgets([budget], as_json=as_json)


@budgets.command("list")
def list_budgets(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """List budgets, with what is spent of them."""
    with connect(context, tenant) as client:
        found = client.list_budgets()
    if not found and not as_json:
        say("There are no budgets.")
        return
    _show_budgets(found, as_json=as_json)


@budgets.command("delete")
def delete_budget(
    context: typer.Context,
    subject: SubjectArgument = "tenant",
    *,
    period: PeriodOption = "month",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a budget."""
    with connect(context, tenant) as client:
        deleted = client.delete_budget(subject, period=cast("BudgetPeriod", period))
    if as_json:
        show_json({"deleted": deleted})
    else:
        say("Removed." if deleted else "There was no such budget.")


def _show_budgets(found: list[Budget], *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    rows = [row for budget in found for row in _budget_rows(budget)]
    show_table(["budget", "per", "limit", "spent", "held", "left", ""], rows, numbers=(2, 3, 4, 5))


def _budget_rows(budget: Budget) -> list[list[str]]:
    money = (budget.limit_usd, budget.spent_usd, budget.reserved_usd)
    tokens = (budget.limit_tokens, budget.spent_tokens, budget.reserved_tokens)
    rows = []
    for (limit, spent, held), told in ((money, show_usd), (tokens, _tokens)):
        if limit:
            left = max(limit - spent - held, 0)
            share = min((spent + held) / limit, 1)
            figures = [told(each) for each in (limit, spent, held, left)]
            rows.append([budget.subject, budget.period, *figures, _gauge(share)])
    return rows


def _tokens(count: float) -> str:
    return show_count(int(count), "token")


def _gauge(share: float) -> str:
    return f"{'█' * round(10 * share):░<10} {share:.0%}"


@estimates.command("agent")
def estimate_agent(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a registered agent.")],
    text: Annotated[str, typer.Argument(help="What it would be asked.")] = "",
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what one execution of an agent would cost."""
    with connect(context, tenant) as client:
        _show_estimate(client.estimate_agent(name, text), as_json=as_json)


@estimates.command("workflow")
def estimate_workflow(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="A workflow's file, or a registered name.")
    ],
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what one run of a workflow would cost."""
    workflow = read_file(source) if is_file(source) else source
    with connect(context, tenant) as client:
        _show_estimate(client.estimate_workflow(workflow), as_json=as_json)


@estimates.command("ingestion")
def estimate_ingestion(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Texts that would be ingested.")],
    *,
    model: Annotated[
        str, typer.Option(metavar="PROVIDER/MODEL", help="Else the deployment's.")
    ] = "",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what embedding the texts of files would cost."""
    characters = sum(len(file.read_text("utf-8", errors="replace")) for file in files)
    with connect(context, tenant) as client:
        estimate = client.estimate_ingestion(characters=characters, model=model)
    _show_estimate(estimate, as_json=as_json)


def _show_estimate(estimate: CostEstimate, *, as_json: bool) -> None:
    if as_json:
        show_json(estimate)
        return
    rows = [
        [name, *_figures(spent)[:1], f"{spent.input_tokens:,}", f"{spent.output_tokens:,}", cost]
        for name, spent, cost in (
            ("likely", estimate.likely, show_usd(estimate.likely.cost_usd)),
            ("at most", estimate.most, show_usd(estimate.most.cost_usd)),
        )
    ]
    show_table(["", "calls", "read", "written", "cost"], rows, numbers=(1, 2, 3, 4))
    say(f"Confidence {estimate.confidence:.0%}.")
    for note in estimate.notes:
        say(f"- {note}")
