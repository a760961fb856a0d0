"""A flush that fails under a real process: it answers nothing more, and ends with a code (T3)."""

import errno

import grpc
import pytest
from llmspell.v1 import state_pb2, state_pb2_grpc, types_pb2, vector_pb2, vector_pb2_grpc

from services.common.context import CallContext
from tests.crash import recorder
from tests.crash.alone import alone
from tests.crash.faults import EXIT_FLUSH_FAILED, Switch
from tests.servers import sealed

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

TENANTS = ("acme", "globex")


def metadata(tenant):
    """What a call of a tenant carries."""
    return sealed(CallContext(tenant=tenant, principal="k", permissions=("*",)))


class States:
    """Items of the state process."""

    def __init__(self, channel):
        self._stub = state_pb2_grpc.StateServiceStub(channel)

    def prepare(self, tenant):
        """Nothing needs to be there first."""

    def write(self, tenant, name):
        """Set one item."""
        value = state_pb2.Payload(text=tenant)
        request = state_pb2.SetStateRequest(scope="global", key=name, value=value)
        self._stub.SetState(request, metadata=metadata(tenant), timeout=20)

    def names(self, tenant):
        """Keys of all items."""
        request = state_pb2.ListStateRequest(scope="global")
        page = self._stub.ListState(request, metadata=metadata(tenant), timeout=20)
        assert all(item.value.text == tenant for item in page.items)
        return {item.key for item in page.items}


class Vectors:
    """Records of the vector process."""

    def __init__(self, channel):
        self._stub = vector_pb2_grpc.VectorServiceStub(channel)

    def prepare(self, tenant):
        """Make the collection."""
        request = vector_pb2.CreateCollectionRequest(collection_id="c", dimension=2)
        self._stub.CreateCollection(request, metadata=metadata(tenant), timeout=20)

    def write(self, tenant, name):
        """Write one record."""
        vector = types_pb2.Vector(values=[1.0, float(len(tenant))])
        record = vector_pb2.VectorRecord(record_id=name, vector=vector, text=tenant)
        request = vector_pb2.UpsertVectorsRequest(collection_id="c", records=[record])
        self._stub.UpsertVectors(request, metadata=metadata(tenant), timeout=20)

    def names(self, tenant):
        """Ids of all records."""
        request = vector_pb2.ListVectorsRequest(collection_id="c")
        page = self._stub.ListVectors(request, metadata=metadata(tenant), timeout=20)
        assert all(record.text == tenant for record in page.records)
        return {record.record_id for record in page.records}


@pytest.mark.parametrize(("name", "client"), [("state", States), ("vector", Vectors)])
def test_a_failed_flush_ends_the_process(faults_library, tmp_path, name, client):
    """The caller is not answered, the exit code is 74, and what was answered before is there."""
    folder, switch = tmp_path / "data", tmp_path / "switch"
    environment = recorder.faulty(faults_library, switch, folder)
    with alone(name, folder, environment=environment) as up:
        calls = client(grpc.insecure_channel(up.address))
        for tenant in TENANTS:
            calls.prepare(tenant)
            calls.write(tenant, "answered")
        Switch(switch).arm(1, errno.EIO, ("flush",))
        with pytest.raises(grpc.RpcError) as refusal:
            calls.write(TENANTS[0], "lost")
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        assert up.process.wait(20) == EXIT_FLUSH_FAILED
    with alone(name, folder) as up:
        calls = client(grpc.insecure_channel(up.address))
        found = [calls.names(tenant) - {"lost"} for tenant in TENANTS]
        assert found == [{"answered"}, {"answered"}]
        calls.write(TENANTS[0], "after")
