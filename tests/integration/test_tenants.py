"""What the operator does with tenants: limits, suspension, the cold; seen by two tenants."""

from __future__ import annotations

import threading
import time

import pytest
from llmspell import (
    Client,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Record,
    ResourceExhausted,
)
from llmspell.types import RunOutput

WITHIN_S = 4.0
"""A second for what is remembered, half a second until the next look, and a slow machine."""
REMEMBERED_S = 1.1
FOR_EVER = """
while true do
  State.save("global", "beat", 1)
  print("on")
end
"""


@pytest.fixture(scope="module")
def operator(deployment):
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


@pytest.fixture
def pair(deployment, operator):
    """Clients of two tenants of this test's own."""
    names = ("held", "neighbour")
    for name in names:
        operator.create_tenant(name)
    keys = [operator.create_key(name).key for name in names]
    with Client(deployment.address, keys[0]) as held, Client(deployment.address, keys[1]) as other:
        yield held, other
    for name in names:
        operator.delete_tenant(name)


def eventually_refused(call, reason):
    """Call until it is refused for this reason; how long that took."""
    begin = time.monotonic()
    while time.monotonic() - begin < WITHIN_S:
        try:
            call()
        except FailedPrecondition as error:
            if error.reason == reason:
                return error
            raise
        time.sleep(0.05)
    raise AssertionError(f"still answered after {WITHIN_S} s")


def test_a_tenant_has_what_it_was_given_and_keeps_the_rest(operator):
    """An update changes what it names; 0 gives a limit back; what cannot be is refused."""
    made = operator.create_tenant(
        "figures", limits={"vectors": 10, "weight": 2.5}, metadata={"plan": "small", "since": "May"}
    )
    assert (made.limits.vectors, made.limits.weight, made.status) == (10, 2.5, "active")
    changed = operator.update_tenant(
        "figures",
        display_name="Figures",
        limits={"vectors": 0, "concurrent_runs": 3},
        retention={"events_s": 3600},
        default_provider="ollama/small",
        metadata={"plan": "large"},
        removed_metadata=["since"],
    )
    assert changed == operator.get_tenant("figures")
    assert (changed.limits.vectors, changed.limits.concurrent_runs) == (0, 3)
    assert changed.limits.weight == made.limits.weight
    assert (changed.retention.events_s, changed.retention.backups_s) == (3600, None)
    assert (changed.default_provider, dict(changed.metadata)) == ("ollama/small", {"plan": "large"})
    again = operator.update_tenant("figures", retention={"events_s": 0})
    assert (again.retention.events_s, again.display_name) == (None, "Figures")
    for bad, field in (
        ({"limits": {"weight": 0}}, "limits.weight"),
        ({"limits": {"weight": float("nan")}}, "limits.weight"),
        ({"limits": {"monthly_cost_usd": float("inf")}}, "limits.monthly_cost_usd"),
        ({"limits": {"vectors": 10**16}}, "limits.vectors"),
        ({"default_provider": "a b"}, "default_provider"),
        ({"metadata": {"x": "y" * 17_000}}, "metadata"),
        ({"display_name": "n" * 257}, "display_name"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            operator.update_tenant("figures", **bad)
        assert caught.value.metadata["field"] == field
    assert operator.get_tenant("figures") == again
    operator.delete_tenant("figures")
    with pytest.raises(NotFound):
        operator.update_tenant("figures", display_name="x")


def test_of_changes_at_the_same_time_none_is_lost(operator):
    """Eight changes of eight limits: all are there afterwards."""
    operator.create_tenant("contended")
    names = ["vectors", "bytes", "dimensions", "concurrent_calls", "concurrent_runs"]
    threads = [
        threading.Thread(target=operator.update_tenant, args=("contended",), kwargs=each)
        for each in ({"limits": {name: 7}} for name in names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limits = operator.get_tenant("contended").limits
    assert [getattr(limits, name) for name in names] == [7] * len(names)
    operator.delete_tenant("contended")


def test_a_suspended_tenant_is_refused_and_what_it_runs_ends(deployment, operator, pair):
    """Within two seconds or so, streams too; the operator may act for it; others go on."""
    held, other = pair
    held.set_state("kept", 1)
    began, ended = threading.Event(), []

    def run():
        try:
            for event in held.run(FOR_EVER):
                if isinstance(event, RunOutput):
                    began.set()
        except FailedPrecondition as error:
            ended.append(error.reason)

    def watch():
        try:
            list(held.watch_state())
        except FailedPrecondition as error:
            ended.append(error.reason)

    threads = [threading.Thread(target=each) for each in (run, watch)]
    for thread in threads:
        thread.start()
    assert began.wait(20)
    assert operator.suspend_tenant("held", note="unpaid").status == "suspended"
    error = eventually_refused(lambda: held.get_state("kept"), "TENANT_SUSPENDED")
    assert (error.metadata["note"], "unpaid" in str(error)) == ("unpaid", True)
    for thread in threads:
        thread.join(WITHIN_S)
    # The script may be told by a call of its own before the run is ended from outside.
    assert set(ended) <= {"TENANT_SUSPENDED", "SCRIPT_FAILED"}
    assert len(ended) == 2
    other.set_state("mine", 1)
    operator.grant_access("held", reason="to look why")
    with Client(deployment.address, deployment.operator_key, tenant="held") as acting:
        assert acting.get_state("kept").value == 1
    with pytest.raises(PermissionDenied):
        other.resume_tenant("held")
    operator.resume_tenant("held")
    time.sleep(REMEMBERED_S)
    assert held.get_state("kept").value == 1


def test_a_frozen_tenant_answers_nothing_but_its_export(deployment, operator, pair):
    """Not even the operator's calls wake it; it can be shown, exported, resumed."""
    held, other = pair
    held.set_state("kept", 1)
    operator.freeze_tenant("held", note="until June")
    eventually_refused(lambda: held.get_state("kept"), "TENANT_FROZEN")
    assert operator.get_tenant("held").status_note == "until June"
    operator.grant_access("held", reason="it is moved", roles=["admin"])
    with Client(deployment.address, deployment.operator_key, tenant="held") as acting:
        with pytest.raises(FailedPrecondition, match="frozen"):
            acting.get_state("kept")
        assert b"".join(acting.export_tenant())
    assert held.who_am_i().tenant_id == "held"
    other.set_state("mine", 1)
    assert operator.resume_tenant("held").status_note == ""
    time.sleep(REMEMBERED_S)
    assert held.get_state("kept").value == 1


USAGE = """
local usage = RAG.get_tenant_usage()
print(usage.tenant_id, usage.vectors_stored, usage.limits.max_vectors)
print(usage.limits.max_dimensions == math.maxinteger, usage.cost_usd, usage.storage_bytes > 0)
local told = {pcall(RAG.get_tenant_usage, "neighbour")}
print(told[1], told[2].reason)
told = {pcall(RAG.create_tenant, {tenant_id = "sly", limits = {max_vectors = 5}})}
print(told[1], told[2].reason)
"""


def test_a_script_sees_its_own_tenant_s_usage_and_makes_no_tenants(operator, pair):
    """Nor does it see another's; the client is told the same as the script."""
    held, other = pair
    operator.update_tenant("held", limits={"vectors": 3})
    held.create_collection("c", 2)
    held.upsert("c", [Record("a", [1, 2]), Record("b", [2, 1])])
    time.sleep(REMEMBERED_S)
    printed = "".join(e.data.decode() for e in held.run(USAGE) if isinstance(e, RunOutput))
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["held", "2", "3"]
    assert (lines[1][0], float(lines[1][1]), lines[1][2]) == ("true", 0.0, "true")
    assert lines[2:] == [["false", "PERMISSION_DENIED"]] * 2
    usage = held.get_tenant_usage()
    assert (usage.record_count, usage.limits.vectors, usage.collection_count) == (2, 3, 1)
    assert other.get_tenant_usage().record_count == 0
    with pytest.raises(NotFound):
        operator.get_tenant("sly")


def test_limits_hold_at_the_edge_for_many_callers(deployment, operator, pair):
    """Within a second of the operator's word, by vectors and by documents; others go on."""
    held, other = pair
    for client in (held, other):
        client.create_collection("c", 2)
    operator.update_tenant("held", limits={"vectors": 10})
    time.sleep(REMEMBERED_S)
    refused = []

    def write(number):
        try:
            held.upsert("c", [Record(f"r{number}", [number, 1.0])])
        except ResourceExhausted as error:
            refused.append(error.reason)

    threads = [threading.Thread(target=write, args=(each,)) for each in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held.stats().record_count == 10
    assert refused == ["TENANT_LIMIT_REACHED"] * 54
    with pytest.raises(ResourceExhausted, match="its limit is 10"):
        held.ingest(["One more."])
    other.upsert("c", [Record(f"r{each}", [each, 1.0]) for each in range(64)])
    held.delete_vectors("c", [record.record_id for record in held.list_vectors("c")][:1])
    held.ingest(["One more."])
