"""`llmspell session`: lives around the items of a scope, and checkpoints of them."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from services.gateway.cli.inputs import parse_duration, parse_time
from services.gateway.cli.output import (
    say,
    show_count,
    show_json,
    show_line,
    show_size,
    show_table,
    to_plain,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect

if TYPE_CHECKING:
    from llmspell import Client
    from llmspell.types import Session, SessionStatus

app = typer.Typer(no_args_is_help=True, help="Sessions and their checkpoints.")

SessionArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="SESSION", help="The session's id.")
]
CheckpointArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="[CHECKPOINT]", help="Its id; else what was last saved.")
]
DescriptionOption: TypeAlias = Annotated[
    str | None, typer.Option(help="What it is about.", show_default=False)
]
TagsOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", help="May be repeated.", show_default=False)
]
MetadataOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="JSON", help="An object.", show_default=False)
]
TimeoutOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long it may last, such as 8h; 0: for ever."),
]
RetentionOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long it is kept after its end, such as 30d; 0: always."),
]
AutoSaveOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIME", help="Time between automatic saves; 0: none.")
]


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What people call it.")] = "",
    *,
    session_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Its id; else one is made.")
    ] = "",
    description: DescriptionOption = None,
    tag: TagsOption = None,
    parent: Annotated[str, typer.Option(metavar="SESSION", help="It belongs to this one.")] = "",
    metadata: MetadataOption = None,
    timeout: TimeoutOption = None,
    retention: RetentionOption = None,
    auto_save: AutoSaveOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a session; prints its id."""
    with connect(context, tenant) as client:
        made = client.create_session(
            name,
            session_id=session_id,
            description=description or "",
            tags=tag or (),
            parent=parent,
            metadata=_object(metadata),
            timeout_s=parse_duration(timeout, "--timeout"),
            retention_s=parse_duration(retention, "--retention"),
            auto_save_s=parse_duration(auto_save, "--auto-save"),
        )
    if as_json:
        show_json(made)
    else:
        show_line(made.session_id)


@app.command("list")
def list_sessions(
    context: typer.Context,
    *,
    status: Annotated[
        list[str] | None,
        typer.Option(help="active, suspended, completed, failed or archived; may be repeated."),
    ] = None,
    tag: TagsOption = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Its name has this in it.")] = "",
    parent: Annotated[str, typer.Option(metavar="SESSION", help="It belongs to this one.")] = "",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Created then or later.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Created before.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List sessions, the newest first."""
    with connect(context, tenant) as client:
        sessions = client.list_sessions(
            status=cast("list[SessionStatus]", status or []),  # the client checks it
            tags=tag or (),
            name_contains=name,
            parent=parent,
            created_after=parse_time(since, "--since"),
            created_before=parse_time(until, "--until"),
        )
        found = list(itertools.islice(sessions, limit))
    if as_json:
        show_json(found)
    elif found:
        rows = [
            [each.session_id, each.name, each.status, " ".join(each.tags), _when(each.create_time)]
            for each in found
        ]
        show_table(["session", "name", "status", "tags", "created"], rows)
    else:
        say("There are no such sessions.")


@app.command("show")
def show(
    context: typer.Context,
    session: SessionArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one session."""
    with connect(context, tenant) as client:
        found = client.get_session(session)
    if as_json:
        show_json(found)
        return
    facts = {
        name: value for name, value in to_plain(found).items() if value not in ("", None, [], {})
    }
    rows = [[name.removesuffix("_s"), _fact(value)] for name, value in facts.items()]
    show_table(["", ""], rows)


@app.command("update")
def update(
    context: typer.Context,
    session: SessionArgument,
    *,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    description: DescriptionOption = None,
    tag: TagsOption = None,
    metadata: MetadataOption = None,
    timeout: TimeoutOption = None,
    retention: RetentionOption = None,
    auto_save: AutoSaveOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a session says of itself; tags and metadata whole."""
    with connect(context, tenant) as client:
        changed = client.update_session(
            session,
            name=name,
            description=description,
            tags=tag or None,
            metadata=_object(metadata),
            timeout_s=parse_duration(timeout, "--timeout"),
            retention_s=parse_duration(retention, "--retention"),
            auto_save_s=parse_duration(auto_save, "--auto-save"),
        )
    _show_moved(changed, "changed", as_json=as_json)


@app.command("save")
def save(
    context: typer.Context,
    session: SessionArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Save a session, in place of what was last saved."""
    with connect(context, tenant) as client:
        taken = client.save_session(session)
    if as_json:
        show_json(taken)
    else:
        show_line(f"{session} is saved, with {show_count(taken.item_count, 'item')}.")


@app.command("suspend")
def suspend(
    context: typer.Context,
    session: SessionArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an active session rest."""
    _move(context, tenant, lambda client: client.suspend_session(session), as_json=as_json)


@app.command("resume")
def resume(
    context: typer.Context,
    session: SessionArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a suspended session."""
    _move(context, tenant, lambda client: client.resume_session(session), as_json=as_json)


@app.command("complete")
def complete(
    context: typer.Context,
    session: SessionArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a session well."""
    _move(context, tenant, lambda client: client.complete_session(session), as_json=as_json)


@app.command("fail")
def fail(
    context: typer.Context,
    session: SessionArgument,
    reason: Annotated[str, typer.Argument(help="Why.")] = "",
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a session badly."""
    _move(context, tenant, lambda client: client.fail_session(session, reason), as_json=as_json)


@app.command("archive")
def archive(
    context: typer.Context,
    session: SessionArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a session that has ended until it is deleted."""
    _move(context, tenant, lambda client: client.archive_session(session), as_json=as_json)


@app.command("delete")
def delete(
    context: typer.Context,
    session: SessionArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a session with all that it has."""
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("give --yes: there is nobody to ask")
        typer.confirm(f"Remove the session {session} with all that it has?", abort=True, err=True)
    with connect(context, tenant) as client:
        was_there = client.delete_session(session)
    if as_json:
        show_json({"session_id": session, "deleted": was_there})
    else:
        show_line(f"{session} is removed." if was_there else f"{session} was not there.")


@app.command("checkpoint")
def checkpoint(
    context: typer.Context,
    session: SessionArgument,
    name: Annotated[str, typer.Argument(help="What people call it.")] = "",
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a session's items and artifacts as they are now; prints the checkpoint's id."""
    with connect(context, tenant) as client:
        taken = client.create_checkpoint(session, name)
    if as_json:
        show_json(taken)
    else:
        show_line(taken.checkpoint_id)


@app.command("checkpoints")
def checkpoints(
    context: typer.Context,
    session: SessionArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a session's checkpoints, the newest first."""
    with connect(context, tenant) as client:
        found = client.list_checkpoints(session)
    if as_json:
        show_json(found)
    elif found:
        rows = [
            [
                each.checkpoint_id,
                each.name,
                str(each.item_count),
                show_size(each.size_bytes),
                str(each.artifact_count),
                _when(each.create_time),
            ]
            for each in found
        ]
        head = ["checkpoint", "name", "items", "size", "artifacts", "taken"]
        show_table(head, rows, numbers=(2, 3, 4))
    else:
        say(f"{session} has no checkpoints.")


@app.command("restore")
def restore(
    context: typer.Context,
    session: SessionArgument,
    checkpoint: CheckpointArgument = "autosave",
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Take a checkpoint of what there is first.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put exactly the items and artifacts of a checkpoint back; others go."""
    with connect(context, tenant) as client:
        done = client.restore_checkpoint(session, checkpoint, keep_present=keep)
    if as_json:
        show_json(done)
        return
    changed = show_count(done.changed_count, "item")
    artifacts = show_count(done.changed_artifact_count, "artifact")
    show_line(f"{session} is as in {checkpoint}; {changed} and {artifacts} changed.")
    if done.before is not None:
        show_line(f"What there was before is {done.before.checkpoint_id}.")


def _move(
    context: typer.Context,
    tenant: str | None,
    move: Callable[[Client], Session],
    *,
    as_json: bool,
) -> None:
    with connect(context, tenant) as client:
        moved = move(client)
    _show_moved(moved, moved.status, as_json=as_json)


def _show_moved(session: Session, word: str, *, as_json: bool) -> None:
    if as_json:
        show_json(session)
    else:
        show_line(f"{session.session_id} is {word}.")


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter('must be a JSON object, such as {"x": 1}', param_hint="--metadata")
    return value


def _when(moment: Any) -> str:
    return str(to_plain(moment))


def _fact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
