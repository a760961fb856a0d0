"""The state process's clock jumps: nothing ends early, nothing ended comes back (T6)."""

import time

import grpc
import pytest
from llmspell.v1 import state_pb2, state_pb2_grpc

from tests.crash.alone import alone
from tests.crash.state_clients import TENANTS, caller

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400
SHORT_S = 0.3
JUMPS = {"-1 day": str(-DAY), "back an hour": str(-HOUR), "frozen": "still"}


class Tenant:
    """Items of one tenant."""

    def __init__(self, stub, tenant):
        self._stub, self._metadata = stub, caller(tenant)
        self.revisions = []

    def write(self, key, ttl_s=None):
        """One item, which may end."""
        value = state_pb2.Payload(text=key)
        request = state_pb2.SetStateRequest(scope="global", key=key, value=value)
        if ttl_s is not None:
            request.ttl.FromNanoseconds(int(ttl_s * 1e9))
        answer = self._stub.SetState(request, metadata=self._metadata, timeout=60)
        self.revisions.append(answer.revision)

    def keys(self):
        """What is seen."""
        request = state_pb2.ListStateRequest(scope="global", page_size=1000)
        page = self._stub.ListState(request, metadata=self._metadata, timeout=60)
        return {item.key for item in page.items}


def test_a_clock_that_jumps_ends_nothing_early_and_brings_nothing_back(tmp_path, reached):
    """A day and an hour back, frozen, ten years ahead; revisions rise through all of it."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    with alone("state", tmp_path / "data", flaw=f"moved_clock={clock}") as up:
        stub = state_pb2_grpc.StateServiceStub(grpc.insecure_channel(up.address))
        tenants = [Tenant(stub, tenant) for tenant in TENANTS]
        for each in tenants:
            each.write("stays")
            each.write("hours", 2 * HOUR)
            each.write("gone", SHORT_S)
        time.sleep(2 * SHORT_S)
        for name, words in JUMPS.items():
            clock.write_text(words)
            for each in tenants:
                assert each.keys() == {"stays", "hours"}, name
                each.write(f"short {name}", SHORT_S)
                assert each.keys() == {"stays", "hours", f"short {name}"}, f"{name}: too early"
            time.sleep(2 * SHORT_S)
            for each in tenants:
                assert each.keys() == {"stays", "hours"}, f"{name}: it did not end"
        clock.write_text(str(10 * YEAR))
        for each in tenants:
            assert each.keys() == {"stays"}
        clock.write_text("0")
        for each in tenants:
            assert each.keys() == {"stays"}, "what had ended came back"
            each.write("last")
    for each in tenants:
        assert each.revisions == sorted(set(each.revisions)), "revisions must rise"
    asked = "nothing early, nothing back, revisions rise"
    reached("T6", "state: -1 day, -1 hour, frozen, +10 years and back", asked, "held")
