"""Reflection: for whoever has a key, and nobody else; nobody at all where the setting is off."""

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.errors import Reason
from services.common.status import from_trailer

LIST = reflection_pb2.ServerReflectionRequest(list_services="*")


def services(address, *metadata):
    """The services that are told."""
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([LIST]), timeout=10, metadata=metadata)
    return {each.name for each in answer.list_services_response.service}


@pytest.mark.parametrize("key", ["", "Bearer llms_0000000000000000_nobody", "Bearer", "operator"])
def test_nobody_without_a_key(deployment, key):
    """Without a key, or with one that does not count, not even the names of services are told."""
    metadata = [("authorization", key)] if key else []
    with pytest.raises(grpc.RpcError) as refused:
        services(deployment.address, *metadata)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    trailers = dict(refused.value.trailing_metadata())
    known = from_trailer(refused.value.code(), "", trailers["grpc-status-details-bin"])
    assert known.reason in {Reason.CREDENTIAL_MISSING, Reason.CREDENTIAL_INVALID}


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_every_key_may(deployment, tenant):
    """A key of either tenant is told the contract; the inner stream of the processes is no part."""
    told = services(deployment.address, ("authorization", f"Bearer {deployment.keys[tenant]}"))
    assert {"llmspell.v1.StateService", "grpc.health.v1.Health"} <= told
    assert not [name for name in told if "internal" in name]


def test_the_processes_behind_say_nothing(deployment):
    """There the setting is off."""
    with pytest.raises(grpc.RpcError) as refused:
        services(deployment.inner_address("state"))
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_command_sends_its_key(deployment):
    """`llmspell rpc list` works as a tenant, and says why not without a key."""
    done = deployment.cli("rpc", "list", tenant="acme")
    assert "StateService/GetState" in done.stdout, done.stderr
    nobody = deployment.cli("--api-key", "llms_0000000000000000_x", "rpc", "list", tenant="acme")
    assert nobody.returncode == 4, nobody.stderr
