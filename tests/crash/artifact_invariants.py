"""What holds of artifacts and of the files with their bytes, after every commit."""

from __future__ import annotations

from collections import Counter, defaultdict

from services.state.blobs import BlobKey
from services.state.layout import (
    ARTIFACT_DIGESTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_SCOPES,
    ARTIFACTS,
    BLOB_REFS,
    BLOB_TOMBS,
    CHECKPOINT_ARTIFACTS,
)
from services.state.layout import artifacts as layout
from services.state.layout.items import ChangeKind
from services.state.layout.sessions import split_checkpoint_artifact_key


def check_artifacts(view, changes, kept):
    """Records, their four indexes, the counts of who needs which bytes, and the feed agree."""
    records = records_of(view)
    order, digests = {}, set()
    for (tenant, *_), artifact in records.items():
        scope, sequence = artifact.scope, artifact.sequence
        place = layout.order_key(tenant, scope, sequence)
        assert place not in order, "two artifacts of one sequence"
        order[place] = layout.pack_order(artifact.name, artifact.version)
        digests.add(layout.digest_key(tenant, artifact.digest, scope, sequence))
        highest = view.get(ARTIFACT_SCOPES, layout.scope_key(tenant, scope))
        assert sequence <= layout.unpack_number(highest), "a sequence that would be given again"
    assert dict(view.scan(ARTIFACT_ORDER, b"")) == order, "an order of other artifacts"
    assert set(view.keys(ARTIFACT_DIGESTS, b"")) == digests, "digests of other artifacts"
    check_names(view, records)
    check_references(view, records)
    check_told(records, changes, kept)


def records_of(view):
    """All artifacts, by the parts of their keys."""
    records, revision = {}, view.revision()
    for place, stored in view.scan(ARTIFACTS, b""):
        tenant, scope, name, version = layout.split_artifact_key(place)
        artifact = layout.unpack_artifact(stored)
        assert (artifact.scope, artifact.name, artifact.version) == (scope, name, version)
        assert artifact.revision <= revision
        records[tenant, scope, name, version] = artifact
    return records


def check_names(view, records):
    """Each name counts its versions, and none is above its newest."""
    versions = defaultdict(list)
    for tenant, scope, name, version in records:
        versions[layout.name_key(tenant, scope, name)].append(version)
    names = {place: layout.unpack_name(stored) for place, stored in view.scan(ARTIFACT_NAMES, b"")}
    assert set(names) == set(versions), "names of no artifact, or artifacts without a name"
    for place, (newest, count) in names.items():
        assert count == len(versions[place]), f"versions of {place!r}"
        assert newest >= max(versions[place]), "a version that would be given again"


def check_references(view, records):
    """Each blob counts just the records that need it; what is to be removed, nobody needs."""
    needed = Counter(
        layout.blob_key(tenant, artifact.digest) for (tenant, *_), artifact in records.items()
    )
    for place in view.keys(CHECKPOINT_ARTIFACTS, b""):
        tenant = place.partition(b"\0")[0].decode()
        needed[layout.blob_key(tenant, split_checkpoint_artifact_key(place).digest)] += 1
    counted = {place: layout.unpack_number(stored) for place, stored in view.scan(BLOB_REFS, b"")}
    assert counted == dict(needed), "references that nobody has, or has and does not count"
    assert not set(view.keys(BLOB_TOMBS, b"")) & set(counted), "a needed blob is to be removed"


def check_told(records, changes, kept):
    """The last version that the feed tells of a name is there, or gone as the feed says."""
    last = {}
    for change in changes:
        if change.kind in {ChangeKind.ARTIFACT_STORED, ChangeKind.ARTIFACT_DELETED}:
            last[change.tenant, change.scope, change.key] = change
        elif change.kind in {ChangeKind.ARTIFACTS_DELETED, ChangeKind.ARTIFACTS_RESTORED}:
            places = [each for each in last if each[0] == change.tenant]
            for each in places:
                if change.scope in {"", each[1]}:
                    del last[each]
    revisions = defaultdict(set)
    for (tenant, scope, name, _), artifact in records.items():
        revisions[tenant, scope, name].add(artifact.revision)
        assert artifact.revision <= kept[tenant].compacted_revision or kept[tenant].count
    for where, change in last.items():
        if change.kind is ChangeKind.ARTIFACT_STORED:
            assert change.revision in revisions[where], f"a change record without {where}"
        else:
            assert change.revision not in revisions[where], f"{where} was to go"


def check_blobs(view, blobs, *, tidy):
    """Every blob that is needed is there whole, by its digest; what else there is has a reason.

    Args:
        view: The records.
        blobs: Those of a folder that no process is using.
        tidy: Whether what a crash left has been removed: then no file is there that nobody needs
            and that is not to be removed.

    Returns:
        How many were read.
    """
    sizes = {
        BlobKey(tenant, artifact.digest): artifact.size_bytes
        for (tenant, *_), artifact in records_of(view).items()
    }
    needed = {BlobKey(*layout.split_blob_key(place)) for place in view.keys(BLOB_REFS, b"")}
    dead = {BlobKey(*layout.split_blob_key(place)) for place in view.keys(BLOB_TOMBS, b"")}
    stored = {key for some in blobs.stored() for key in some}
    assert needed <= stored, f"{len(needed - stored)} blobs are missing"
    assert not tidy or stored <= needed | dead, f"{len(stored - needed - dead)} files of nobody"
    for key in needed:
        verify(blobs, key, sizes.get(key))
    return len(needed)


def verify(blobs, key, size):
    """Read a blob to its end."""
    reader = blobs.open(*key)
    try:
        reader.verify()
        assert size in {None, reader.size_bytes}
    finally:
        reader.close()
