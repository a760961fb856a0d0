"""`llmspell audit`: who did what to whose what, and whether the log of it is whole."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.common.audit_chain import HASH_BYTES, Head, Verdict, verify_lines
from services.gateway.cli.output import ExitCode, say, show_json, show_line, show_table, to_plain
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell import Client
    from llmspell.types import AuditCheck, AuditEntry, AuditHead

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what, and how it was decided.")

_LISTED = 50


@app.command("list")
def list_entries(
    context: typer.Context,
    *,
    principal: Annotated[str, typer.Option(help="Only of this key or caller.")] = "",
    method: Annotated[
        str,
        typer.Option(
            help="Only of this method, such as TenantService/CreateApiKey or TenantService/*."
        ),
    ] = "",
    decision: Annotated[
        str | None, typer.Option(help="Only allowed, denied or filtered.", show_default=False)
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only from then on, in UTC.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = _LISTED,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List entries, the newest first: a tenant's own, or all for the operator."""
    start = since.replace(tzinfo=UTC) if since else None
    with _connected(context, tenant) as client:
        entries = client.list_audit(
            principal=principal,
            method=method,
            decision=decision,  # type: ignore[arg-type]  # the client checks it
            start_time=start,
        )
        found = list(itertools.islice(entries, limit))
    if as_json:
        show_json(found)
    elif found:
        heads = ["sequence", "time", "who", "tenant", "method", "what", "decision"]
        show_table(heads, [_row(entry) for entry in found], numbers=(0,))
    else:
        say("There are no such entries.")


@app.command("verify")
def verify(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="An export to verify by itself, - for standard input; else the log of the "
            "deployment.",
            show_default=False,
        ),
    ] = None,
    *,
    head: Annotated[
        str,
        typer.Option(
            metavar="SEQUENCE:HASH",
            help="A head that was noted earlier; an end that was cut off since is found out by it.",
        ),
    ] = "",
    excerpt: Annotated[
        bool, typer.Option("--excerpt", help="The export is one tenant's: others' lie between.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look whether the log is whole; name the first entry that is not, and end with 1."""
    noted = _read_head(head)
    if file is None:
        check = _checked(context, noted)
    else:
        stream = sys.stdin.buffer if str(file) == "-" else file.open("rb")
        with stream:
            check = _of_verdict(verify_lines(stream, noted, excerpt=excerpt))
    if as_json:
        show_json(check)
    elif check.fault is None:
        show_line(f"{check.entry_count} entries are whole. Note the head elsewhere:")
        show_line(f"{check.head.sequence}:{check.head.hash}")
    else:
        say(f"Entry {check.fault_sequence} is {_FAULTS[check.fault]}.", "red")
    if check.fault is not None:
        raise typer.Exit(ExitCode.PARTIAL)


@app.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to, - for standard output.", allow_dash=True)],
    *,
    after: Annotated[
        int, typer.Option(metavar="SEQUENCE", min=0, help="Only what comes after this.")
    ] = 0,
    tenant: TenantOption = None,
) -> None:
    """Write entries as lines of JSON, which `llmspell audit verify FILE` can verify."""
    with _connected(context, tenant) as client:
        chunks = client.export_audit(after=after)
        if str(file) == "-":
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        with file.open("wb") as out:
            count = sum(out.write(chunk) and chunk.count(b"\n") for chunk in chunks)
    say(f"{count} entries are in {file}.")


@contextmanager
def _connected(context: typer.Context, tenant: str | None) -> Iterator[Client]:
    """A client for a tenant that was named here; that of the profile is not meant."""
    with connect(context, tenant) as client:
        yield client if tenant else client.with_options(tenant="")


_FAULTS = {
    "missing": "missing",
    "altered": "not what was written",
    "unlinked": "not the one that follows the one before it",
    "truncated": "missing: the end was cut off",
    "resource": "not what was written, in what it names",
    "head": "the last, and the note of the head is not the gateway's",
}


def _checked(context: typer.Context, noted: Head | None) -> AuditCheck:
    from llmspell.types import AuditHead  # noqa: PLC0415  (grpc is slow to import)

    with _connected(context, None) as client:
        told = AuditHead(noted.sequence, noted.hash.hex()) if noted else None
        return client.verify_audit(told)


def _of_verdict(verdict: Verdict) -> AuditCheck:
    from llmspell.types import AuditCheck, AuditHead  # noqa: PLC0415

    found = verdict.finding
    head: AuditHead = AuditHead(verdict.head.sequence, verdict.head.hash.hex())
    return AuditCheck(
        fault=found.fault if found else None,
        fault_sequence=found.sequence if found else None,
        entry_count=verdict.count,
        head=head,
    )


def _read_head(text: str) -> Head | None:
    if not text:
        return None
    sequence, _, digest = text.partition(":")
    try:
        hashed = bytes.fromhex(digest)
        number = int(sequence)
    except ValueError:
        hashed = b""
        number = 0
    if len(hashed) != HASH_BYTES or number < 1:
        raise typer.BadParameter("must be SEQUENCE:HASH, as `llmspell audit verify` prints it")
    return Head(number, hashed)


def _row(entry: AuditEntry) -> list[str]:
    decided = " ".join(filter(None, (entry.decision or entry.kind, entry.reason)))
    method = entry.method or entry.kind
    times = f" ({entry.call_count} calls)" if entry.call_count > 1 else ""
    what = "(erased)" if entry.resource_erased else entry.resource
    who = f"{entry.principal or 'unknown'} {entry.peer}".strip()
    time = str(to_plain(entry.time))
    return [str(entry.sequence), time, who, entry.tenant_id, method + times, what, decided]
