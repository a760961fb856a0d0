"""One gateway or several: what a client takes for an address, and what grpc is told of it."""

import json

import pytest
from llmspell import Client, InvalidArgument
from llmspell._addresses import checked_address, target
from llmspell._channel import service_config

ONE = "127.0.0.1:50060"
SEVERAL = "127.0.0.1:50060,127.0.0.2:50060"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (ONE, ONE),
        ("gateway:1", "gateway:1"),
        (SEVERAL, f"ipv4:{SEVERAL}"),
        ("[::1]:1,[::2]:1", "ipv6:[::1]:1,[::2]:1"),
        ("dns:///gateway:1", "dns:///gateway:1"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
    ],
)
def test_an_address_is_told_to_grpc(address, told):
    """Several of one family are one target."""
    assert target(checked_address(address)) == told


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.0.0.1:1,", "a:1,b:2", "127.0.0.1:1,[::1]:1", "127.0.0.1:1,x/y:2", "a:b"],
)
def test_what_is_no_address_is_refused(address):
    """By the name of the field, before anything is sent."""
    with pytest.raises(InvalidArgument) as told:
        Client(address, "llms_a_b")
    assert told.value.metadata["field"] == "address"


@pytest.mark.parametrize(
    ("address", "shared"), [(ONE, False), (SEVERAL, True), ("dns:///g:1", True)]
)
def test_calls_are_shared_out_among_several(address, shared):
    """In turn, among those that are not leaving; a call waits for one. With one, nothing waits."""
    told = json.loads(service_config(address))
    assert ("loadBalancingConfig" in told) is ("healthCheckConfig" in told) is shared
    assert {rule["waitForReady"] for rule in told["methodConfig"]} == {shared}
