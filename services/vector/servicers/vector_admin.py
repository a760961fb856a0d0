"""VectorAdminService: snapshots, rebuilding, and how a tenant is kept apart."""

# ruff: noqa: N802  (methods are named as in the contract)

from __future__ import annotations

from llmspell.v1 import vector_admin_pb2, vector_admin_pb2_grpc

from services.common.context import current_tenant
from services.common.errors import field_invalid, required
from services.vector.checks import check_collection_id
from services.vector.model import Isolation, SnapshotInfo
from services.vector.servicers import messages
from services.vector.servicers.policy import refuse_restricted
from services.vector.storage import VectorStorage

ALL_SCOPES = "*"

_ISOLATIONS: dict[int, Isolation] = {
    vector_admin_pb2.ISOLATION_UNSPECIFIED: Isolation.NAMESPACE,
    vector_admin_pb2.ISOLATION_NAMESPACE: Isolation.NAMESPACE,
    vector_admin_pb2.ISOLATION_DATABASE: Isolation.DATABASE,
    vector_admin_pb2.ISOLATION_METADATA: Isolation.METADATA,
    vector_admin_pb2.ISOLATION_HYBRID: Isolation.HYBRID,
}
_ISOLATION_NUMBERS = {
    Isolation.NAMESPACE: vector_admin_pb2.ISOLATION_NAMESPACE,
    Isolation.DATABASE: vector_admin_pb2.ISOLATION_DATABASE,
    Isolation.METADATA: vector_admin_pb2.ISOLATION_METADATA,
    Isolation.HYBRID: vector_admin_pb2.ISOLATION_HYBRID,
}


class VectorAdminServicer(vector_admin_pb2_grpc.VectorAdminServiceServicer):
    """Answers from one engine."""

    def __init__(self, storage: VectorStorage) -> None:
        self._storage = storage

    async def CreateSnapshot(
        self, request: vector_admin_pb2.CreateSnapshotRequest, context: object
    ) -> vector_admin_pb2.CreateSnapshotResponse:
        """Keep a copy of a collection."""
        del context
        refuse_restricted("CreateSnapshot")
        made = await self._storage.create_snapshot(*_place(request.scope, request.collection_id))
        return vector_admin_pb2.CreateSnapshotResponse(snapshot=_snapshot(made))

    async def ListSnapshots(
        self, request: vector_admin_pb2.ListSnapshotsRequest, context: object
    ) -> vector_admin_pb2.ListSnapshotsResponse:
        """The copies that there are."""
        del context
        refuse_restricted("ListSnapshots")
        scope = None if request.scope == ALL_SCOPES else messages.read_scope(request.scope)
        found = await self._storage.list_snapshots(current_tenant(), scope, request.collection_id)
        return vector_admin_pb2.ListSnapshotsResponse(snapshots=map(_snapshot, found))

    async def RestoreSnapshot(
        self, request: vector_admin_pb2.RestoreSnapshotRequest, context: object
    ) -> vector_admin_pb2.RestoreSnapshotResponse:
        """Put a collection back."""
        del context
        refuse_restricted("RestoreSnapshot")
        if not request.snapshot_id:
            raise required("snapshot_id")
        if request.collection_id:
            check_collection_id(request.collection_id)
        count, revision = await self._storage.restore_snapshot(
            current_tenant(),
            request.snapshot_id,
            scope=messages.read_scope(request.scope) if request.scope else "",
            collection_id=request.collection_id,
        )
        return vector_admin_pb2.RestoreSnapshotResponse(record_count=count, revision=revision)

    async def DeleteSnapshot(
        self, request: vector_admin_pb2.DeleteSnapshotRequest, context: object
    ) -> vector_admin_pb2.DeleteSnapshotResponse:
        """Remove a copy."""
        del context
        refuse_restricted("DeleteSnapshot")
        if not request.snapshot_id:
            raise required("snapshot_id")
        count = await self._storage.delete_snapshot(current_tenant(), request.snapshot_id)
        return vector_admin_pb2.DeleteSnapshotResponse(deleted_count=count)

    async def RebuildIndex(
        self, request: vector_admin_pb2.RebuildIndexRequest, context: object
    ) -> vector_admin_pb2.RebuildIndexResponse:
        """Begin to build graphs anew."""
        del context
        refuse_restricted("RebuildIndex")
        count = await self._storage.rebuild(*_place(request.scope, request.collection_id))
        return vector_admin_pb2.RebuildIndexResponse(record_count=count)

    async def CheckpointIndex(
        self, request: vector_admin_pb2.CheckpointIndexRequest, context: object
    ) -> vector_admin_pb2.CheckpointIndexResponse:
        """Wait until graphs are what they should be."""
        del context
        refuse_restricted("CheckpointIndex")
        done = await self._storage.checkpoint(*_place(request.scope, request.collection_id))
        return vector_admin_pb2.CheckpointIndexResponse(
            indexed_count=done.indexed_count,
            record_count=done.record_count,
            disk_bytes=done.disk_bytes,
        )

    async def UnloadVectors(
        self, request: vector_admin_pb2.UnloadVectorsRequest, context: object
    ) -> vector_admin_pb2.UnloadVectorsResponse:
        """Let go of what stands in memory of the tenant."""
        del request, context
        refuse_restricted("UnloadVectors")
        unloaded = await self._storage.unload(current_tenant())
        return vector_admin_pb2.UnloadVectorsResponse(unloaded_count=unloaded)

    async def ConfigureVectorTenant(
        self, request: vector_admin_pb2.ConfigureVectorTenantRequest, context: object
    ) -> vector_admin_pb2.ConfigureVectorTenantResponse:
        """Tell how the tenant is to be kept apart."""
        del context
        refuse_restricted("ConfigureVectorTenant")
        if request.isolation not in _ISOLATIONS:
            raise field_invalid("isolation", f"must be a known one, not {request.isolation}")
        how = await self._storage.configure_tenant(current_tenant(), _ISOLATIONS[request.isolation])
        return vector_admin_pb2.ConfigureVectorTenantResponse(isolation=_ISOLATION_NUMBERS[how])


def _place(scope: str, collection_id: str) -> tuple[str, str, str]:
    check_collection_id(collection_id)
    return current_tenant(), messages.read_scope(scope), collection_id


def _snapshot(info: SnapshotInfo) -> vector_admin_pb2.Snapshot:
    message = vector_admin_pb2.Snapshot(
        snapshot_id=info.snapshot_id,
        scope=info.scope,
        collection_id=info.collection_id,
        revision=info.revision,
        record_count=info.record_count,
        size_bytes=info.size_bytes,
        digest=info.digest,
    )
    message.create_time.FromNanoseconds(info.create_time_ns)
    return message
