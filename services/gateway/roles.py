"""What a role may do. Deny by default: a permission that no role lists is the operator's alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

from services.common.access import METHODS
from services.common.errors import field_invalid

_READER = frozenset(
    {
        "self.read",
        "artifact.read",
        "state.read",
        "session.read",
        "event.read",
        "journal.read",
        "vector.read",
        "rag.read",
        "backup.read",
        "migration.read",
        "tool.read",
        "provider.read",
        "usage.read",
        "agent.read",
        "workflow.read",
        "template.read",
    }
)
_WRITER = _READER | {
    "artifact.write",
    "state.write",
    "session.write",
    "event.write",
    "journal.write",
    "vector.write",
    "rag.write",
    "rag.embed",
    "script.run",
    "backup.write",
    "tool.execute",
    "tool.restricted",
    "provider.use",
    "agent.write",
    "agent.execute",
    "workflow.write",
    "workflow.execute",
}
_ADMIN = _WRITER | {
    "vector.admin",
    "backup.admin",
    "vault.admin",
    "migration.admin",
    "tool.privileged",
    "budget.write",
    "audit.read",
}

ROLES = {"reader": _READER, "writer": _WRITER, "admin": _ADMIN}
DEFAULT_ROLE = "admin"
_OPERATORS_OWN = frozenset(method.permission for method in METHODS.values()) - _ADMIN
OPERATOR_MANAGES = (
    _OPERATORS_OWN
    | {
        "self.read",
        "audit.read",
        "backup.read",
        "backup.write",
        "backup.admin",
        "budget.write",
        "provider.read",
        "template.read",
        "tool.read",
        "usage.read",
        "vault.admin",
    }
) - {"audit.append"}
"""What the operator may without a grant: nothing that tells what a tenant has stored. Nor does it
write the audit log itself."""
OPERATOR_READS_DATA = frozenset({"/llmspell.v1.BackupService/ExportTenant"})
"""Methods of such a permission that do, and so need a grant."""
_REMEMBERED = 1024
"""Combinations of roles and scopes whose permissions are worked out once."""
ALWAYS = frozenset({"self.read"})
"""What every key may, however narrow: ask who it is."""


def permissions_of(roles: Iterable[str], scopes: Iterable[str] = ()) -> tuple[str, ...]:
    """Everything that the roles allow together, and no more than the scopes where there are any.

    A role that is no longer known allows nothing, and a scope gives nothing by itself.
    """
    return _permissions(tuple(roles), tuple(scopes))


@lru_cache(_REMEMBERED)
def _permissions(roles: tuple[str, ...], scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Asked for each call."""
    held: set[str] = set()
    for role in roles:
        held |= ROLES.get(role, frozenset())
    if scopes:
        held &= ALWAYS.union(scopes)
    return tuple(sorted(held))


def checked_scopes(held: Iterable[str], scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes in order, each of them held; empty where there are none.

    Raises:
        ServiceError: FIELD_INVALID for one that nobody has, or not this one.
    """
    known, named = frozenset(held), tuple(sorted(set(scopes)))
    for scope in named:
        if scope not in known:
            near = difflib.get_close_matches(scope[:64], known, n=3)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise field_invalid("scopes", f"has {scope[:64]!r}, which is not held{hint}")
    return named


def checked_roles(roles: Iterable[str], default: str = DEFAULT_ROLE) -> tuple[str, ...]:
    """The roles, or the default where none is named.

    Raises:
        ServiceError: FIELD_INVALID for a role that does not exist.
    """
    named = tuple(dict.fromkeys(roles)) or (default,)
    for role in named:
        if role not in ROLES:
            raise field_invalid("roles", f"has {role!r}; known are {', '.join(ROLES)}")
    return named
