"""`llmspell quota`: what a tenant may take at the public door, and what it has taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from services.gateway.cli.output import say, show_json, show_table
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import Quota

app = typer.Typer(no_args_is_help=True, help="Quotas: what a tenant may take at a time.")

_BAR_WIDTH = 10


@app.callback()
def quota() -> None:
    """Quotas: what a tenant may take at a time."""


@app.command("show")
def show(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """Show limits, what is used of them now, and what was refused."""
    with connect(context, tenant) as client:
        usage = client.get_quota_usage()
    if as_json:
        show_json(usage)
        return
    rows = [_row(each) for each in usage.quotas]
    show_table(["quota", "limit", "used", "refused", ""], rows, numbers=(1, 2, 3))
    if usage.weight != 1:
        say(f"The tenant's turns weigh {usage.weight:g}.")
    if usage.gateway_count > 1:
        say(f"Of one gateway; {usage.gateway_count} share the tenant's limits.")


def _row(quota: Quota) -> list[str]:
    share = min(quota.used / quota.limit, 1) if quota.limit else 0
    bar = f"{'█' * round(_BAR_WIDTH * share):░<{_BAR_WIDTH}} {share:.0%}"
    return [quota.name, f"{quota.limit:,g}", f"{quota.used:,.0f}", f"{quota.refused_count:,}", bar]
