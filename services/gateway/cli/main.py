"""The `llmspell` command: its parts and its options. Each command loads what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from services.gateway.cli import (
    admin,
    agent,
    artifact,
    audit,
    backups,
    events,
    identity,
    login,
    migrations,
    policy,
    provider,
    quota,
    rag,
    repl,
    rpc,
    runs,
    script,
    serve,
    session,
    session_journal,
    settings,
    state,
    template,
    tenant,
    tls,
    tool,
    top,
    trace,
    transfer,
    usage,
    vault,
    vectors,
    workflow,
)
from services.gateway.cli.output import ExitCode, failures
from services.gateway.cli.target import Target


class _Commands(TyperGroup):
    """The root: here every command's failures become messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        with failures():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    *,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Gateway to call; else LLMSPELL_ADDRESS."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key to call with; better in LLMSPELL_API_KEY."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|NAME", help="Profile with both; else the one in use: `llmspell profile`."
        ),
    ] = None,
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Authority of the gateway's certificate, or `system`; else LLMSPELL_CA_FILE.",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Own certificate, if asked for; else LLMSPELL_CERTIFICATE_FILE."
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its key; else LLMSPELL_KEY_FILE.")
    ] = None,
) -> None:
    """Run Lua scripts for many tenants: processes, documents, state and scripts."""
    context.obj = Target(
        address=address, api_key=api_key, profile=profile, ca=ca, certificate=cert, key=key
    )


app.command("up")(serve.up)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.add_typer(login.profiles, name="profile")
app.add_typer(runs.app, name="run")
app.command("exec")(script.execute)
app.command("repl")(repl.repl)
app.command("health")(admin.health)
app.command("top")(top.top)
app.command("metrics")(top.metrics)
app.add_typer(trace.app, name="trace")
app.add_typer(rag.app, name="rag")
app.add_typer(vectors.app, name="vector")
app.add_typer(state.app, name="state")
app.add_typer(migrations.schemas, name="schema")
app.add_typer(migrations.app, name="migrate")
app.add_typer(events.app, name="event")
app.add_typer(artifact.app, name="artifact")
session.app.command("journal")(session_journal.journal)
session.app.command("journals")(session_journal.journals)
app.add_typer(session.app, name="session")
app.add_typer(tool.app, name="tool")
app.add_typer(agent.app, name="agent")
app.add_typer(provider.app, name="provider")
app.add_typer(provider.models, name="model")
app.add_typer(template.app, name="template")
app.add_typer(workflow.app, name="workflow")
app.command("usage")(usage.usage)
app.add_typer(quota.app, name="quota")
app.add_typer(usage.budgets, name="budget")
app.add_typer(usage.estimates, name="estimate")
app.add_typer(backups.app, name="backup")
app.add_typer(vault.app, name="vault")
app.add_typer(audit.app, name="audit")
app.add_typer(policy.app, name="policy")
tenant.app.command("export")(transfer.export)
tenant.app.command("import")(transfer.import_)
tenant.app.command("clone")(transfer.clone)
app.add_typer(tenant.app, name="tenant")
admin.keys.command("rotate")(identity.rotate_key)
app.add_typer(admin.keys, name="key")
app.command("token")(identity.token)
app.add_typer(identity.grants, name="grant")
app.add_typer(rpc.app, name="rpc")
app.add_typer(settings.app, name="config")
app.add_typer(tls.app, name="tls")
app.command("version")(settings.version)


def main() -> None:
    """The entry point of the installed command."""
    if sys.stdout is None or sys.stderr is None:  # closed by the shell: nobody would be told
        sys.exit(ExitCode.PIPE_CLOSED)
    for stream in (sys.stdout, sys.stderr):
        # A passage may hold a character that the terminal's encoding lacks.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # they are text files
    app(prog_name="llmspell")


if __name__ == "__main__":
    main()
