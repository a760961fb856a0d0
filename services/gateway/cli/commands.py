"""The commands of `llmspell`, each loaded when it is wanted: imports were half of a call's time."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
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


class Commands(MutableMapping[str, Any]):
    """Click's commands by name; each is loaded when it is first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _command(name, _named(COMMANDS[name]))
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError(f"{name} belongs into COMMANDS")

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} is deleted from COMMANDS")

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"services.gateway.cli.{module}"), name)


def _command(name: str, found: Any) -> Any:
    """A group, or a single command from its function."""
    app = found
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name)(found)
        return _named_so(name, typer.main.get_command(_styled(app)))
    for other, place in MORE.get(name, {}).items():
        app.command(other)(_named(place))
    return _named_so(name, typer.main.get_group(_styled(app)))


def _styled(app: typer.Typer) -> typer.Typer:
    app.pretty_exceptions_enable = False
    app.rich_markup_mode = "rich"
    return app


def _named_so(name: str, command: Any) -> Any:
    command.name = name
    return command
