"""`llmspell session journal` and `journals`: the calls that were made in sessions."""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.gateway.cli.output import (
    clean,
    say,
    show_count,
    show_json,
    show_size,
    show_table,
    to_plain,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell.types import JournalEntry


def journal(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    *,
    first: Annotated[
        int, typer.Option("--from", metavar="NUMBER", min=1, help="Begin with this call.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", show_default=False)
    ] = None,
    content: Annotated[
        bool, typer.Option("--content", help="With --json: what was asked and answered, too.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls that were made in a session; with --json one a line, as they come."""
    if content and not as_json:
        raise typer.BadParameter("needs --json", param_hint="--content")
    with connect(context, tenant) as client:
        if content:
            with closing(client.read_journal(session, first_sequence=first)) as calls:
                _write(itertools.islice(calls, limit))
            return
        found = client.list_journal_entries(session, first_sequence=first, content=False)
        if as_json:
            _write(itertools.islice(found, limit))
            return
        rows = [_row(call) for call in itertools.islice(found, limit)]
    if rows:
        show_table(["call", "method", "outcome", "made", "took", "size"], rows, numbers=(0, 4, 5))
    else:
        say(f"{session} has no such calls.")


def journals(
    context: typer.Context,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the sessions in which calls were made, and what is known of these."""
    with connect(context, tenant) as client:
        found = list(client.list_journals())
    if as_json:
        show_json(found)
    elif found:
        rows = [
            [
                each.session_id,
                str(each.call_count),
                show_size(each.size_bytes),
                str(to_plain(each.first_time)),
                str(to_plain(each.last_time)),
                f"{each.total_duration_s:.3f} s",
            ]
            for each in found
        ]
        head = ["session", "calls", "size", "first", "last", "took"]
        show_table(head, rows, numbers=(1, 2, 5))
        say(f"{show_count(len(found), 'journal')}.", "dim")
    else:
        say("No calls are kept of any session.")


def _write(calls: itertools.islice[JournalEntry]) -> None:
    for call in calls:
        sys.stdout.write(json.dumps(to_plain(call), ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _row(call: JournalEntry) -> list[str]:
    took_s = (call.end_time - call.start_time).total_seconds()
    return [
        str(call.sequence),
        clean(call.method),
        clean(call.failure_reason) or "done",
        str(to_plain(call.start_time)),
        f"{took_s:.3f} s",
        show_size(call.size_bytes),
    ]
