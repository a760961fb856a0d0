"""The state process on a full disk: refused in words, reads go on, nothing is lost (T5)."""

import random
import resource
import time

import grpc
import pytest
from llmspell.v1 import state_pb2, state_pb2_grpc

from tests.crash.alone import alone
from tests.crash.state_clients import TENANTS, caller

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

ROOM = 6 << 20
"""What the disk still has room for when the writing goes on, in bytes."""
SIZE = 100_000
BACK_S_MAX = 1.0


class Items:
    """What one tenant writes and finds."""

    def __init__(self, stub, tenant):
        self._stub, self._metadata = stub, caller(tenant)
        self.tenant, self.held = tenant, set()

    def write(self, number):
        """One large item."""
        value = state_pb2.Payload(raw=self.content(number))
        request = state_pb2.SetStateRequest(scope="global", key=f"{number}", value=value)
        self._stub.SetState(request, metadata=self._metadata, timeout=20)
        self.held.add(number)

    def content(self, number):
        """Another one for each, that nothing makes smaller."""
        return random.Random(f"{self.tenant} {number}").randbytes(SIZE)

    def delete(self, number):
        """One less."""
        request = state_pb2.DeleteStateRequest(scope="global", key=f"{number}")
        self._stub.DeleteState(request, metadata=self._metadata, timeout=20)
        self.held.discard(number)

    def check(self):
        """All that it was told it has, byte for byte, and nothing else."""
        request = state_pb2.ListStateRequest(scope="global", page_size=1000, keys_only=True)
        found, more = set(), True
        while more:
            page = self._stub.ListState(request, metadata=self._metadata, timeout=20)
            found |= {int(item.key) for item in page.items}
            request.page_token = page.next_page_token
            more = bool(page.next_page_token)
        assert found == self.held
        for number in sorted(self.held):
            ask = state_pb2.GetStateRequest(scope="global", key=f"{number}")
            item = self._stub.GetState(ask, metadata=self._metadata, timeout=20).item
            assert item.value.raw == self.content(number)


def fill(tenants):
    """Write in turn until one is refused."""
    for number in range(1, 10_000):
        for items in tenants:
            try:
                items.write(number)
            except grpc.RpcError as refusal:
                assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
                return
    raise AssertionError("the disk never filled")


def until_written(items):
    """Seconds until a write is taken again."""
    start = time.monotonic()
    while True:
        try:
            items.write(20_000)
        except grpc.RpcError:
            assert time.monotonic() < start + 20, "it takes no writes again"
            continue
        return time.monotonic() - start


def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path, reached):
    """RESOURCE_EXHAUSTED; reads and deletes go on; with room again writes do within a second."""
    folder = tmp_path / "data"
    with alone("state", folder) as up:
        stub = state_pb2_grpc.StateServiceStub(grpc.insecure_channel(up.address))
        tenants = [Items(stub, tenant) for tenant in TENANTS]
        for items in tenants:
            items.write(0)
        full = (folder / "data.mdb").stat().st_size + ROOM
        resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        fill(tenants)
        written = sum(len(items.held) for items in tenants)
        for items in tenants:
            items.check()
        tenants[0].delete(0)
        for items in tenants:
            items.check()
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, unlimited)
        back_s = until_written(tenants[1])
    with alone("state", folder) as up:
        stub = state_pb2_grpc.StateServiceStub(grpc.insecure_channel(up.address))
        for items in tenants:
            items._stub = stub
            items.check()
    reached(
        "T5",
        f"state: a disk that is full after {written} items",
        "refused in words, 0 lost, back < 1 s",
        f"RESOURCE_EXHAUSTED, 0 lost, back after {back_s:.2f} s",
    )
    assert written >= 20, "too little was written for a verdict"
    assert back_s < BACK_S_MAX
