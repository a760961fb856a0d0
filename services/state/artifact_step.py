"""What one operation does to artifacts, inside a step.

A record, its places in the orders, the count of who needs its bytes and its change record are
written here and nowhere else, so that they cannot part.

Sessions and backups use this too: `records_of` lists what a scope has, `hold` and `release` keep
bytes that some other record needs (a checkpoint's, say), `restore` puts records back whose bytes
are held, `delete_scope` ends a scope. All inside the caller's own step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec

from services.common.errors import limit_exceeded
from services.common.limits import ARTIFACT_VERSIONS_MAX
from services.common.store import View
from services.state.artifact_model import Artifact, Choice, Draft
from services.state.artifact_rules import chosen
from services.state.blob_format import Blob
from services.state.blobs import corrupt
from services.state.layout import (
    ARTIFACT_DIGESTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_SCOPES,
    ARTIFACTS,
    BLOB_REFS,
    BLOB_TOMBS,
    tenant_prefix,
)
from services.state.layout import artifacts as layout
from services.state.layout.items import ChangeKind
from services.state.step import Step

_PURGED = (
    ARTIFACTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_DIGESTS,
    ARTIFACT_SCOPES,
)


class ArtifactStep:
    """One transaction's artifacts."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._txn = step.txn

    def store(self, tenant: str, draft: Draft, blob: Blob) -> Artifact:
        """Add a version. Its blob must be in place, and pinned until this is kept.

        Raises:
            ServiceError: LIMIT_EXCEEDED where the name has too many versions.
        """
        newest, count = self._name(tenant, draft.scope, draft.name)
        surplus = count + 1 - draft.keep_versions if draft.keep_versions else 0
        if count - max(surplus, 0) >= ARTIFACT_VERSIONS_MAX:
            raise limit_exceeded("versions of the name", count + 1, ARTIFACT_VERSIONS_MAX)
        self._trim(tenant, draft, surplus)
        artifact = Artifact(
            scope=draft.scope,
            name=draft.name,
            version=newest + 1,
            sequence=self._sequence(tenant, draft.scope) + 1,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            stored_bytes=blob.stored_bytes,
            create_time_ns=self._step.now_ns,
            revision=self._step.change(ChangeKind.ARTIFACT_STORED, tenant, draft.scope, draft.name),
            artifact_type=draft.artifact_type,
            mime_type=draft.mime_type,
            description=draft.description,
            tags=draft.tags,
            metadata=dict(draft.metadata or {}),
            parent_digest=draft.parent_digest,
            created_by=draft.created_by,
        )
        self._add(tenant, artifact)
        self._count_ref(tenant, blob.digest, 1)
        return artifact

    def delete(self, tenant: str, choice: Choice, *, all_versions: bool = False) -> int:
        """Remove the artifact that is meant, or all versions of its name; how many."""
        if all_versions:
            doomed = list(versions_of(self._txn, tenant, choice.scope, choice.name))
        else:
            found = find(self._txn, tenant, choice)
            doomed = [] if found is None else [found]
        for artifact in doomed:
            self._delete(tenant, artifact)
        return len(doomed)

    def delete_scope(self, tenant: str, scope: str, limit: int) -> tuple[int, bool]:
        """Remove up to `limit` artifacts of a scope; how many, and whether there may be more.

        With the last of them the scope forgets its sequence.
        """
        doomed = list(itertools.islice(records_of(self._txn, tenant, scope), limit))
        for artifact in doomed:
            self._remove(tenant, artifact)
        if doomed:
            self._step.change(ChangeKind.ARTIFACTS_DELETED, tenant, scope, "")
        more = len(doomed) == limit
        if not more:
            self._txn.delete(ARTIFACT_SCOPES, layout.scope_key(tenant, scope))
        return len(doomed), more

    def restore(self, tenant: str, scope: str, artifacts: list[Artifact]) -> int:
        """Make a scope's artifacts these, as they once were; how many were added or removed.

        Their blobs must be held. Sequences go on from the highest that there ever was, and so do
        the versions of each name that has any.

        Raises:
            ServiceError: ARTIFACT_CORRUPT where nobody holds a blob.
        """
        wanted = {artifact.sequence: artifact for artifact in artifacts}
        removed = 0
        for there in list(records_of(self._txn, tenant, scope)):
            if wanted.get(there.sequence) == there:
                del wanted[there.sequence]
            else:
                self._remove(tenant, there)
                removed += 1
        for artifact in wanted.values():
            self.hold(tenant, artifact.digest)
            self._add(tenant, msgspec.structs.replace(artifact, scope=scope))
        changed = removed + len(wanted)
        if changed:
            self._step.change(ChangeKind.ARTIFACTS_RESTORED, tenant, scope, "")
        return changed

    def hold(self, tenant: str, digest: bytes) -> None:
        """Count one more record that needs a blob which some other record needs already.

        Raises:
            ServiceError: ARTIFACT_CORRUPT where none does: it may be gone.
        """
        if not is_needed(self._txn, tenant, digest):
            raise corrupt(digest, "nothing holds it")
        self._count_ref(tenant, digest, 1)

    def release(self, tenant: str, digest: bytes) -> None:
        """Count one record less that needs a blob; the last one lets it go."""
        self._count_ref(tenant, digest, -1)

    def purge(self, tenant: str, limit: int) -> tuple[int, bool]:
        """Remove up to `limit` keys of a tenant's; how many artifacts, and whether more is left.

        Blobs go too, whoever holds them.
        """
        artifacts = 0
        for database in _PURGED:
            doomed = list(itertools.islice(self._txn.keys(database, tenant_prefix(tenant)), limit))
            for key in doomed:
                self._txn.delete(database, key)
            artifacts += len(doomed) if database == ARTIFACTS else 0
            limit -= len(doomed)
        refs = list(itertools.islice(self._txn.keys(BLOB_REFS, tenant_prefix(tenant)), limit))
        for key in refs:
            self._txn.delete(BLOB_REFS, key)
            self._txn.put(BLOB_TOMBS, key, b"")
        if artifacts:
            self._step.change(ChangeKind.ARTIFACTS_DELETED, tenant, "", "")
        return artifacts, limit == len(refs)

    def bury(self, tenant: str, digest: bytes) -> None:
        """Note that a blob was removed."""
        self._txn.delete(BLOB_TOMBS, layout.blob_key(tenant, digest))

    def _delete(self, tenant: str, artifact: Artifact) -> None:
        self._remove(tenant, artifact)
        self._step.change(ChangeKind.ARTIFACT_DELETED, tenant, artifact.scope, artifact.name)

    def _trim(self, tenant: str, draft: Draft, surplus: int) -> None:
        """Remove the oldest versions of a name."""
        oldest = versions_of(self._txn, tenant, draft.scope, draft.name)
        for artifact in list(itertools.islice(oldest, max(surplus, 0))):
            self._delete(tenant, artifact)

    def _add(self, tenant: str, artifact: Artifact) -> None:
        scope, name, version = artifact.scope, artifact.name, artifact.version
        sequence = artifact.sequence
        newest, count = self._name(tenant, scope, name)
        self._txn.put(
            ARTIFACT_NAMES,
            layout.name_key(tenant, scope, name),
            layout.pack_name(max(newest, version), count + 1),
        )
        highest = max(self._sequence(tenant, scope), sequence)
        scope_key = layout.scope_key(tenant, scope)
        self._txn.put(ARTIFACT_SCOPES, scope_key, layout.pack_number(highest))
        place = layout.artifact_key(tenant, scope, name, version)
        self._txn.put(ARTIFACTS, place, layout.pack_artifact(artifact))
        order = layout.order_key(tenant, scope, sequence)
        self._txn.put(ARTIFACT_ORDER, order, layout.pack_order(name, version))
        digest_key = layout.digest_key(tenant, artifact.digest, scope, sequence)
        self._txn.put(ARTIFACT_DIGESTS, digest_key, b"")

    def _remove(self, tenant: str, artifact: Artifact) -> None:
        scope, name = artifact.scope, artifact.name
        self._txn.delete(ARTIFACTS, layout.artifact_key(tenant, scope, name, artifact.version))
        self._txn.delete(ARTIFACT_ORDER, layout.order_key(tenant, scope, artifact.sequence))
        digest_key = layout.digest_key(tenant, artifact.digest, scope, artifact.sequence)
        self._txn.delete(ARTIFACT_DIGESTS, digest_key)
        newest, count = self._name(tenant, scope, name)
        name_key = layout.name_key(tenant, scope, name)
        if count > 1:
            self._txn.put(ARTIFACT_NAMES, name_key, layout.pack_name(newest, count - 1))
        else:
            self._txn.delete(ARTIFACT_NAMES, name_key)
        self._count_ref(tenant, artifact.digest, -1)

    def _count_ref(self, tenant: str, digest: bytes, change: int) -> None:
        key = layout.blob_key(tenant, digest)
        before = layout.unpack_number(self._txn.get(BLOB_REFS, key))
        count = before + change
        if count > 0:
            self._txn.put(BLOB_REFS, key, layout.pack_number(count))
        else:
            self._txn.delete(BLOB_REFS, key)
            self._txn.put(BLOB_TOMBS, key, b"")
        if before == 0:
            self._txn.delete(BLOB_TOMBS, key)

    def _name(self, tenant: str, scope: str, name: str) -> tuple[int, int]:
        stored = self._txn.get(ARTIFACT_NAMES, layout.name_key(tenant, scope, name))
        return layout.unpack_name(stored)

    def _sequence(self, tenant: str, scope: str) -> int:
        stored = self._txn.get(ARTIFACT_SCOPES, layout.scope_key(tenant, scope))
        return layout.unpack_number(stored)


def records_of(view: View, tenant: str, scope: str) -> Iterator[Artifact]:
    """All artifacts of a scope, by name and version.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    for _, stored in view.scan(ARTIFACTS, layout.scope_prefix(tenant, scope)):
        yield layout.unpack_artifact(stored)


def versions_of(view: View, tenant: str, scope: str, name: str) -> Iterator[Artifact]:
    """All versions of a name, the oldest first.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    for _, stored in view.scan(ARTIFACTS, layout.versions_prefix(tenant, scope, name)):
        yield layout.unpack_artifact(stored)


def find(view: View, tenant: str, choice: Choice) -> Artifact | None:
    """The artifact that is meant.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    found = _candidate(view, tenant, choice)
    return found if found is not None and chosen(choice, found) else None


def is_needed(view: View, tenant: str, digest: bytes) -> bool:
    """Whether some record needs a blob."""
    return view.has(BLOB_REFS, layout.blob_key(tenant, digest))


def dead_blobs(view: View, tenant: str | None = None) -> Iterator[tuple[str, bytes]]:
    """Tenant and digest of blobs that nobody needs any more, of one tenant or of all."""
    prefix = b"" if tenant is None else tenant_prefix(tenant)
    return map(layout.split_blob_key, view.keys(BLOB_TOMBS, prefix))


def at_order(view: View, tenant: str, scope: str, stored: bytes) -> Artifact | None:
    """The artifact that a value in `artifact_order` leads to."""
    name, version = layout.unpack_order(stored)
    return _at(view, tenant, scope, name, version)


def newest_version(view: View, tenant: str, scope: str, name: str) -> int:
    """The highest version of a name that is there; 0 where there is none."""
    for key, _ in view.back(ARTIFACTS, layout.versions_prefix(tenant, scope, name)):
        return layout.split_artifact_key(key)[3]
    return 0


def _candidate(view: View, tenant: str, choice: Choice) -> Artifact | None:
    sequence = choice.sequence
    if not sequence and choice.name:
        version = choice.version or newest_version(view, tenant, choice.scope, choice.name)
        return _at(view, tenant, choice.scope, choice.name, version)
    if not sequence:
        prefix = layout.digest_prefix(tenant, choice.digest, choice.scope)
        newest = next(view.back(ARTIFACT_DIGESTS, prefix), None)
        if newest is None:
            return None
        sequence = layout.sequence_of(newest[0])
    stored = view.get(ARTIFACT_ORDER, layout.order_key(tenant, choice.scope, sequence))
    return None if stored is None else at_order(view, tenant, choice.scope, stored)


def _at(view: View, tenant: str, scope: str, name: str, version: int) -> Artifact | None:
    stored = view.get(ARTIFACTS, layout.artifact_key(tenant, scope, name, version))
    return None if stored is None else layout.unpack_artifact(stored)
