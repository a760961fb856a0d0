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
KEYS = "keys"
REQUESTS = "requests"
REQUEST_TIMES = "request_times"
EVENTS = "events"
EVENT_ENDS = "event_ends"
EVENT_LOGS = "event_logs"
ARTIFACTS = "artifacts"
ARTIFACT_NAMES = "artifact_names"
ARTIFACT_ORDER = "artifact_order"
ARTIFACT_DIGESTS = "artifact_digests"
ARTIFACT_SCOPES = "artifact_scopes"
BLOB_REFS = "blob_refs"
BLOB_TOMBS = "blob_tombs"
JOURNAL = "journal"
JOURNALS = "journals"

SESSIONS = "sessions"
SESSION_ORDER = "session_order"
SESSION_DUE = "session_due"
SESSION_ENDS = "session_ends"
CHECKPOINTS = "checkpoints"
CHECKPOINT_ITEMS = "checkpoint_items"
CHECKPOINT_ARTIFACTS = "checkpoint_artifacts"
SCHEMAS = "schemas"
MIGRATIONS = "migrations"
STAGED = "staged"
AUDIT = "audit"
AUDIT_HEADS = "audit_heads"
AUDIT_NAMES = "audit_names"

DATABASES = (
    ARTIFACTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_DIGESTS,
    ARTIFACT_SCOPES,
    BLOB_REFS,
    BLOB_TOMBS,
    ITEMS,
    EXPIRY,
    CHANGES,
    TENANTS,
    RESTORES,
    KEYS,
    REQUESTS,
    REQUEST_TIMES,
    EVENTS,
    EVENT_ENDS,
    EVENT_LOGS,
    JOURNAL,
    JOURNALS,
    SESSIONS,
    SESSION_ORDER,
    SESSION_DUE,
    SESSION_ENDS,
    CHECKPOINTS,
    CHECKPOINT_ITEMS,
    CHECKPOINT_ARTIFACTS,
    SCHEMAS,
    MIGRATIONS,
    STAGED,
    AUDIT,
    AUDIT_HEADS,
    AUDIT_NAMES,
)

SEALED = frozenset(
    {
        ITEMS,
        ARTIFACTS,
        REQUESTS,
        EVENTS,
        SESSIONS,
        CHECKPOINTS,
        CHECKPOINT_ITEMS,
        CHECKPOINT_ARTIFACTS,
        JOURNAL,
        JOURNALS,
        SCHEMAS,
        MIGRATIONS,
        STAGED,
    }
)
"""Databases with content: their keys begin with the tenant, their values are sealed with its data
key where there is a master key."""

INDEXES = frozenset(
    {EXPIRY, CHANGES, TENANTS, RESTORES, KEYS, REQUEST_TIMES, EVENT_ENDS, EVENT_LOGS}
    | {SESSION_ORDER, SESSION_DUE, SESSION_ENDS}
    | {ARTIFACT_NAMES, ARTIFACT_ORDER, ARTIFACT_DIGESTS, ARTIFACT_SCOPES, BLOB_REFS, BLOB_TOMBS}
    | {AUDIT, AUDIT_HEADS, AUDIT_NAMES}
)
"""Databases with names, numbers and wrapped keys, which have a checksum only. Each database is
either sealed or one of these."""


def _to_version_2(txn: Txn) -> None:
    """Version 1 had one order of changes, so watches begin anew; no value said how it is kept."""
    txn.restore(ITEMS, lambda _, stored: b"\0" + stored)
    txn.delete_prefix(CHANGES, b"")


SCHEMA = Schema(kind="state", version=2, databases=DATABASES, migrations={1: _to_version_2})


def tenant_prefix(tenant: str) -> bytes:
    """What the keys of a tenant's records begin with."""
    assert "\0" not in tenant, "NUL separates the parts of a key"
    return f"{tenant}\0".encode()
