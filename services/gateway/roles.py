"""What a role may do. Deny by default: a permission that no role lists is the operator's alone."""

from __future__ import annotations

from collections.abc import Iterable

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
    "script.run",
    "backup.write",
}
_ADMIN = _WRITER | {"vector.admin", "backup.admin", "vault.admin", "migration.admin"}

ROLES = {"reader": _READER, "writer": _WRITER, "admin": _ADMIN}
DEFAULT_ROLE = "admin"
OPERATOR_PERMISSIONS = ("*",)


def permissions_of(roles: Iterable[str]) -> tuple[str, ...]:
    """Everything that the roles allow together; a role that is no longer known allows nothing."""
    held: set[str] = set()
    for role in roles:
        held |= ROLES.get(role, frozenset())
    return tuple(sorted(held))


def checked_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, or the default where none is named.

    Raises:
        ServiceError: FIELD_INVALID for a role that does not exist.
    """
    named = tuple(dict.fromkeys(roles)) or (DEFAULT_ROLE,)
    for role in named:
        if role not in ROLES:
            raise field_invalid("roles", f"has {role!r}; known are {', '.join(ROLES)}")
    return named
