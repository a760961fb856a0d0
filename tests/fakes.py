"""A state process in memory, where a relay would be: enough for what the gateway keeps there.

The real one is asked the same in tests/integration.
"""

from google.protobuf import message_factory
from llmspell.v1 import state_pb2, tool_pb2, usage_pb2, vector_admin_pb2, vector_pb2

from services.common.errors import Reason, ServiceError
from services.common.scopes import SYSTEM_TENANT


class FakeState:
    """Answers `Relay.call` from a dictionary of (tenant, scope, key) → item."""

    def __init__(self):
        self.items = {}
        self.revision = 0
        self.calls = []
        self.isolation = {}
        """Tenant → what the vector process was told, until it is emptied."""
        self.fail_next = []
        """Method name → raised once, before it does anything."""
        self.before = {}
        """Method name → a coroutine function awaited before it is answered."""

    async def call(self, method, request, context, *, timeout_s):
        """As `services.common.relay.Relay.call`."""
        assert timeout_s > 0
        name = method.descriptor.name
        self.calls.append((name, context))
        if self.fail_next and self.fail_next[0] == name:
            self.fail_next.pop(0)
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.", service="state")
        if name in self.before:
            await self.before.pop(name)()
        message = message_factory.GetMessageClass(method.descriptor.input_type).FromString(request)
        return getattr(self, f"_{name}")(message, context.tenant).SerializeToString()

    def count(self, name):
        """How often a method was called."""
        return sum(called == name for called, _ in self.calls)

    def system(self, scope):
        """Keys of the system tenant in a scope."""
        return sorted(k for tenant, s, k in self.items if (tenant, s) == (SYSTEM_TENANT, scope))

    def _GetState(self, request, tenant):  # noqa: N802
        item = self.items.get((tenant, request.scope, request.key))
        if item is None:
            raise ServiceError(Reason.ITEM_NOT_FOUND, "No such item.", key=request.key)
        return state_pb2.GetStateResponse(item=item, revision=self.revision)

    def _SetState(self, request, tenant):  # noqa: N802
        self._check(tenant, request)
        self.revision += 1
        self._put(tenant, request.scope, request.key, request.value)
        return state_pb2.SetStateResponse(revision=self.revision)

    def _DeleteState(self, request, tenant):  # noqa: N802
        self.revision += 1
        gone = self.items.pop((tenant, request.scope, request.key), None)
        return state_pb2.DeleteStateResponse(deleted_count=int(gone is not None))

    def _ClearState(self, request, tenant):  # noqa: N802
        mine = [
            place
            for place in self.items
            if place[:2] == (tenant, request.scope) and place[2].startswith(request.prefix)
        ]
        for place in mine:
            del self.items[place]
        return state_pb2.ClearStateResponse(deleted_count=len(mine))

    def _BatchState(self, request, tenant):  # noqa: N802
        for check in request.checks:
            self._check(tenant, check)
        self.revision += 1
        for write in request.writes:
            if write.HasField("set"):
                self._put(tenant, write.scope, write.key, write.set)
            else:
                self.items.pop((tenant, write.scope, write.key), None)
        return state_pb2.BatchStateResponse(revision=self.revision)

    def _ListState(self, request, tenant):  # noqa: N802
        size = request.page_size or 100
        keys = sorted(
            key
            for owner, scope, key in self.items
            if (owner, scope) == (tenant, request.scope) and key.startswith(request.prefix)
        )
        keys = [key for key in keys if key > request.page_token]
        page = [self.items[tenant, request.scope, key] for key in keys[:size]]
        token = keys[size - 1] if len(keys) > size else ""
        return state_pb2.ListStateResponse(items=page, next_page_token=token)

    def _PurgeState(self, request, tenant):  # noqa: N802
        mine = [place for place in self.items if place[0] == tenant]
        for place in mine:
            del self.items[place]
        return state_pb2.PurgeStateResponse(deleted_count=len(mine))

    def _ConfigureVectorTenant(self, request, tenant):  # noqa: N802
        self.isolation[tenant] = request.isolation
        return vector_admin_pb2.ConfigureVectorTenantResponse(isolation=request.isolation)

    def _UnloadVectors(self, request, tenant):  # noqa: N802
        return vector_admin_pb2.UnloadVectorsResponse()

    def _PurgeVectors(self, request, tenant):  # noqa: N802
        self.isolation.pop(tenant, None)
        return vector_pb2.PurgeVectorsResponse(deleted_count=7)

    def _PurgeFiles(self, request, tenant):  # noqa: N802
        return tool_pb2.PurgeFilesResponse(deleted_count=1)

    def _PurgeUsage(self, request, tenant):  # noqa: N802
        return usage_pb2.PurgeUsageResponse(deleted_count=1)

    def _put(self, tenant, scope, key, value):
        self.items[tenant, scope, key] = state_pb2.Item(
            key=key, value=value, revision=self.revision
        )

    def _check(self, tenant, request):
        item = self.items.get((tenant, request.scope, request.key))
        wanted = request.precondition
        kept = {
            None: True,
            "absent": item is None,
            "present": item is not None,
            "revision": item is not None and item.revision == wanted.revision,
        }
        if not kept[wanted.WhichOneof("kind")]:
            raise ServiceError(Reason.REVISION_MISMATCH, "Changed.", key=request.key)
