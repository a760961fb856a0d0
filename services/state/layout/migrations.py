"""Schemas, migrations and results made ready.

| database | key | value |
|---|---|---|
| schemas | tenant NUL name NUL | JSON of `Family` |
| schemas | tenant NUL name NUL version as three numbers of four bytes | JSON of `Schema` |
| migrations | tenant NUL id | JSON of `Migration` |
| staged | key in `items` | value in `items` as it was, with the content that it will have |

A tenant has one running migration at most, so that what is staged of a tenant is its own.
"""

from __future__ import annotations

import struct

from services.state.layout import tenant_prefix

_VERSION = struct.Struct(">III")


def family_key(tenant: str, name: str) -> bytes:
    """Key of a schema's `Family`; its versions' keys begin with it."""
    return tenant_prefix(tenant) + f"{name}\0".encode()


def schema_key(tenant: str, name: str, version: str) -> bytes:
    """Key of a version; they come in order of version."""
    return family_key(tenant, name) + _VERSION.pack(*map(int, version.split(".")))


def is_family_key(stored: bytes) -> bool:
    """Whether it is the key of a `Family`, not of a version."""
    return stored.count(b"\0") == 2 and stored.endswith(b"\0")  # noqa: PLR2004  (as above)


def migration_key(tenant: str, migration_id: str) -> bytes:
    """Key of a migration; they come in the order in which they began."""
    return tenant_prefix(tenant) + migration_id.encode()


def split_migration_key(stored: bytes) -> tuple[str, str]:
    """Tenant and id."""
    tenant, _, migration_id = stored.decode().partition("\0")
    return tenant, migration_id
