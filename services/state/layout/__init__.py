"""Keys and values of the state process's databases, and nothing else.

NUL cannot occur in a tenant, scope, key or id, and separates the parts of a stored key. A database
that holds what a tenant wrote has keys that begin with the tenant; so a tenant's data is one range
of each, and its values can be sealed with the tenant's key. An index holds names and numbers only.
Numbers are unsigned, big-endian, of eight bytes, so that keys come in their order.
"""

from __future__ import annotations

from services.common.store import Schema, Txn

ITEMS = "items"
EXPIRY = "expiry"
CHANGES = "changes"
TENANTS = "tenants"
RESTORES = "restores"

DATABASES = (ITEMS, EXPIRY, CHANGES, TENANTS, RESTORES)


def _forget_changes(txn: Txn) -> None:
    """Version 1 kept the changes of all tenants in one order; watches begin anew."""
    txn.delete_prefix(CHANGES, b"")


SCHEMA = Schema(kind="state", version=2, databases=DATABASES, migrations={1: _forget_changes})


def tenant_prefix(tenant: str) -> bytes:
    """What the keys of a tenant's records begin with."""
    assert "\0" not in tenant, "NUL separates the parts of a key"
    return f"{tenant}\0".encode()
