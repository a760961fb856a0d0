"""VectorAdminService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from llmspell._contract import Call
from llmspell._values import from_timestamp
from llmspell.types import Checkpoint, Snapshot
from llmspell.v1 import vector_admin_pb2 as pb

CHECKPOINT_TIMEOUT_S = 300.0
"""Building graphs takes longer than other calls; also the most that a deployment allows."""


def create_snapshot(collection: str, scope: str) -> Call[Snapshot]:
    """Keep a copy of a collection."""
    request = pb.CreateSnapshotRequest(scope=scope, collection_id=collection)
    return Call(request, lambda answer: _snapshot(answer.snapshot), CHECKPOINT_TIMEOUT_S)


def list_snapshots(scope: str, collection: str) -> Call[list[Snapshot]]:
    """The copies that there are."""
    request = pb.ListSnapshotsRequest(scope=scope, collection_id=collection)
    return Call(request, lambda answer: [_snapshot(each) for each in answer.snapshots])


def restore_snapshot(snapshot_id: str, *, scope: str, collection: str) -> Call[int]:
    """Put a collection back; how many records that are."""
    request = pb.RestoreSnapshotRequest(
        scope=scope, collection_id=collection, snapshot_id=snapshot_id
    )
    return Call(request, lambda answer: answer.record_count, CHECKPOINT_TIMEOUT_S)


def delete_snapshot(snapshot_id: str) -> Call[bool]:
    """Remove a copy; whether there was one."""
    request = pb.DeleteSnapshotRequest(snapshot_id=snapshot_id)
    return Call(request, lambda answer: answer.deleted_count > 0)


def rebuild_index(collection: str, scope: str) -> Call[int]:
    """Begin to build graphs anew; how many records they will hold."""
    request = pb.RebuildIndexRequest(scope=scope, collection_id=collection)
    return Call(request, lambda answer: answer.record_count)


def checkpoint_index(collection: str, scope: str) -> Call[Checkpoint]:
    """Wait until graphs are what they should be."""
    request = pb.CheckpointIndexRequest(scope=scope, collection_id=collection)
    return Call(request, _checkpoint, CHECKPOINT_TIMEOUT_S)


def _snapshot(message: pb.Snapshot) -> Snapshot:
    return Snapshot(
        snapshot_id=message.snapshot_id,
        collection_id=message.collection_id,
        scope=message.scope,
        create_time=from_timestamp(message, "create_time"),
        revision=message.revision,
        record_count=message.record_count,
        size_bytes=message.size_bytes,
        digest=message.digest,
    )


def _checkpoint(answer: pb.CheckpointIndexResponse) -> Checkpoint:
    return Checkpoint(
        indexed_count=answer.indexed_count,
        record_count=answer.record_count,
        disk_bytes=answer.disk_bytes,
    )
