"""The commands of `llmspell`, each loaded when it is wanted: imports were half of a call's time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import typer

COMMANDS = {
    "up": "serve:up",
    "login": "login:login",
    "logout": "login:logout",
    "profile": "login:profiles",
    "run": "runs:app",
    "exec": "script:execute",
    "repl": "repl:repl",
    "health": "admin:health",
    "top": "top:top",
    "metrics": "top:metrics",
    "trace": "trace:app",
    "rag": "rag:app",
    "vector": "vectors:app",
    "state": "state:app",
    "schema": "migrations:schemas",
    "migrate": "migrations:app",
    "event": "events:app",
    "artifact": "artifact:app",
    "session": "session:app",
    "tool": "tool:app",
    "agent": "agent:app",
    "provider": "provider:app",
    "model": "provider:models",
    "template": "template:app",
    "workflow": "workflow:app",
    "usage": "usage:usage",
    "quota": "quota:app",
    "budget": "usage:budgets",
    "estimate": "usage:estimates",
    "backup": "backups:app",
    "vault": "vault:app",
    "audit": "audit:app",
    "policy": "policy:app",
    "tenant": "tenant:app",
    "key": "admin:keys",
    "token": "identity:token",
    "grant": "identity:grants",
    "rpc": "rpc:app",
    "config": "settings:app",
    "tls": "tls:app",
    "version": "settings:version",
}
"""Module of this folder and name in it, in the order of the help."""
MORE = {
    "session": {"journal": "session_journal:journal", "journals": "session_journal:journals"},
    "tenant": {
        "export": "transfer:export",
        "import": "transfer:import_",
        "clone": "transfer:clone",
    },
    "key": {"rotate": "identity:rotate_key"},
}
"""Commands of a group that are in other modules than its others."""


def modules() -> set[str]:
    """Modules of this folder that commands are loaded from."""
    places = [*COMMANDS.values(), *(place for more in MORE.values() for place in more.values())]
    return {place.partition(":")[0] for place in places}


class Commands(Mapping[str, Any]):
    """Click's commands by name; each is loaded when it is first asked for."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _command(name: str) -> Any:
    found = _named(COMMANDS[name])
    root = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        for other, place in MORE.get(name, {}).items():
            found.command(other)(_named(place))
        root.add_typer(found, name=name)
    else:
        root.command(name)(found)
    return typer.main.get_group(root).commands[name]


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"services.gateway.cli.{module}"), name)
