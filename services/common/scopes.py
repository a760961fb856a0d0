"""A scope is a string with one parser and one printer.

`session:9f2` is the same text in Lua, on the wire, in a log line, in a policy and in a key. Parsed
scopes are compared, never prefixes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.common.errors import Reason, ServiceError

SYSTEM_TENANT = "_system"
"""Where the gateway keeps tenants and keys. No tenant id may begin with `_`."""
NOBODY_TENANT = "_nobody"
"""Nothing is ever kept here. Who may not see something is answered from here."""
TENANTS_SCOPE = "custom:tenants"
"""Where in it the tenants are, under their ids."""
KEYS_SCOPE = "custom:keys"
"""Where in it the keys are, under their public ids."""
KEY_USES_SCOPE = "custom:key-uses"
"""Where in it the time is when each key was last used, likewise."""
GRANTS_SCOPE = "custom:grants"
"""Where in it the operator's grants are, those of a tenant under its id."""

KINDS = ("global", "user", "session", "agent", "tool", "workflow", "hook", "custom")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Part of a tenant's data."""

    kind: str
    """One of `KINDS`."""
    name: str = ""
    """Which one of its kind; empty for `global` only."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


GLOBAL = Scope("global")


def parse_scope(text: str) -> Scope:
    """Read a scope; the empty text means `global`.

    Raises:
        ServiceError: SCOPE_INVALID where the text is none of the known forms.
    """
    if text in {"", "global"}:
        return GLOBAL
    kind, colon, name = text.partition(":")
    if colon and kind in KINDS and kind != "global" and _NAME.fullmatch(name):
        return Scope(kind, name)
    raise ServiceError(
        Reason.SCOPE_INVALID,
        f"{text[:64]!r} is not a scope; use global, or KIND:NAME with KIND one of "
        f"{', '.join(KINDS[1:])} and NAME of up to 96 letters, digits, '_' and '-'.",
        scope=text[:64],
    )
