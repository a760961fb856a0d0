"""Quotas on a real deployment: what is refused, how, and that nobody else notices."""

import asyncio
import re
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from llmspell import Client
from llmspell.errors import ResourceExhausted, Unauthenticated
from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.clock import SystemClock
from services.common.context import Seal, read_key
from services.common.relay import Relay, Upstream
from services.common.scopes import KEYS_SCOPE
from services.common.tenants import SystemItems
from tests.performance.wire import Flow, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "quotas.md"


def limit(deployment, tenant, **limits):
    """Give a tenant limits, and wait until they hold."""
    with Client(deployment.address, deployment.operator_key) as operator:
        operator.update_tenant(deployment.tenant(tenant), limits=limits)
    time.sleep(1.1)


def outcomes(deployment, tenant, count, callers=1):
    """What became of so many reads: None, or why not."""

    def ask(client):
        try:
            client.get_state("nothing")
        except ResourceExhausted as error:
            return error
        return None

    with (
        Client(deployment.address, deployment.keys[tenant], timeout_s=0.45) as client,
        ThreadPoolExecutor(callers) as pool,
    ):
        return list(pool.map(ask, [client] * count))


def test_64_callers_at_the_edge(deployment):
    """Exactly the limit passes; another tenant's calls all do; the refusal says why and when."""
    limit(deployment, "edge", requests_per_minute=20)
    limit(deployment, "beside", requests_per_minute=0)
    told = outcomes(deployment, "edge", 64, callers=64)
    assert told.count(None) == 20
    refused = next(error for error in told if error is not None)
    assert refused.reason == "QUOTA_EXCEEDED"
    assert refused.metadata["quota"] == "requests_per_minute"
    assert refused.metadata["limit"] == "20"
    assert 0 < refused.retry_after_s <= 3
    assert outcomes(deployment, "beside", 30) == [None] * 30


def test_the_client_waits_as_it_is_told(deployment):
    """Where there is time it calls again, and the caller hears nothing of it."""
    limit(deployment, "patient", requests_per_minute=90)
    with Client(deployment.address, deployment.keys["patient"]) as client:
        begin = time.monotonic()
        for _ in range(92):
            client.get_state("nothing")
        assert time.monotonic() - begin > 0.5
        usage = {quota.name: quota for quota in client.get_quota_usage().quotas}
    assert usage["requests_per_minute"].refused_count >= 1
    assert 60 < usage["requests_per_minute"].used <= 90


def test_clients_of_other_languages_are_told(deployment):
    """The status has RetryInfo and QuotaFailure beside our own reason."""
    limit(deployment, "plain", requests_per_minute=1)
    with grpc.insecure_channel(deployment.address) as channel:
        stub = state_pb2_grpc.StateServiceStub(channel)
        key = (("authorization", f"Bearer {deployment.keys['plain']}"),)
        stub.ListState(state_pb2.ListStateRequest(), metadata=key, timeout=5)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListState(state_pb2.ListStateRequest(), metadata=key, timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    kinds = [error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo]
    kinds.append(error_details_pb2.QuotaFailure)
    assert [detail.Is(kind.DESCRIPTOR) for detail, kind in zip(status.details, kinds, strict=True)]
    with Client(deployment.address, deployment.keys["plain"]) as client:
        assert client.health() == "SERVING"  # whatever is used up


def test_a_tenant_sees_its_own_only(deployment):
    """Two tenants with different limits; the operator names one."""
    limit(deployment, "edge", requests_per_minute=20)
    limit(deployment, "patient", requests_per_minute=120)
    shown = deployment.cli_json("quota", "show", "--tenant", "edge")
    assert {"requests_per_minute": 20.0}.items() <= {
        quota["name"]: quota["limit"] for quota in shown["quotas"]
    }.items()
    told = deployment.cli("quota", "show", tenant="patient")
    assert re.search(r"requests_per_minute\s+120 ", told.stdout)


def test_the_page_runs(deployment, monkeypatch, capsys):
    """Its commands and its Python, from top to bottom."""
    text = PAGE.read_text("utf-8")
    deployment.tenant("quota-page")
    for kind, tenant in (("sh operator", None), ("sh", "quota-page")):
        for block in re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                done = deployment.cli(*shlex.split(line)[1:], tenant=tenant)
                assert done.returncode == 0, done.stderr
    time.sleep(1.1)
    for name, value in deployment.environment("quota-page").items():
        monkeypatch.setenv(name, value)
    program = "".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    exec(compile(program, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"^requests_per_minute: \d+ of 60, \d+ refused$", printed, re.MULTILINE)
    assert re.search(r"^QUOTA_EXCEEDED: requests_per_minute, again in ", printed, re.MULTILINE)


def test_a_change_past_the_gateway_is_seen_within_a_second(deployment):
    """As another gateway would revoke a key: what was remembered of it ends while it is in use."""
    name = deployment.tenant("watched")
    key = deployment.keys[name]

    async def revoke():
        seal = Seal(read_key(deployment.data / "secrets" / "context.key"), SystemClock())
        state = Upstream("state", deployment.inner_address("state"))
        items = SystemItems(Relay({"llmspell.v1.StateService": state}, seal), principal="other")
        key_id = key.split("_")[1]
        request = state_pb2.DeleteStateRequest(scope=KEYS_SCOPE, key=key_id)
        await items.call("DeleteState", request)
        await state.close()

    with Client(deployment.address, key) as client:
        for _ in range(30):  # it is remembered by now, and longer than a second
            client.get_state("nothing")
            time.sleep(0.05)
        asyncio.run(revoke())
        begin = time.monotonic()
        while _is_known(client) and time.monotonic() - begin < 30:
            time.sleep(0.01)
        assert time.monotonic() - begin < 10  # a second, on a machine without other work


def _is_known(client):
    try:
        client.get_state("nothing")
    except Unauthenticated:
        return False
    return True


def test_a_flood_takes_nothing_from_a_quiet_tenant(deployment):
    """Thousands of calls a second of one; of the other each is answered, and none is refused."""
    limit(deployment, "flood", requests_per_minute=3000)
    deployment.tenant("quiet")
    message = state_pb2.ListStateRequest().SerializeToString().hex()

    def flow(tenant, rate, connections):
        return Flow(
            name=tenant,
            address=deployment.address,
            key=deployment.keys[tenant],
            path="/llmspell.v1.StateService/ListState",
            message=message,
            rate=rate,
            connections=connections,
            seconds=2.0,
            timeout_s=8.0,
        )

    async def both():
        return await asyncio.gather(run(flow("quiet", 20, 1)), run(flow("flood", 3000, 3)))

    quiet, flood = asyncio.run(both())
    assert len(quiet.good_s) == quiet.offered >= 30
    assert len(flood.good_s) < flood.offered / 2
    assert len(flood.good_s) <= 250 + 50 * (2.0 + 8.0)
    assert outcomes(deployment, "quiet", 5) == [None] * 5
