"""The container's health check, against a real server in this process."""

from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.common.healthcheck import check, main


@pytest.fixture
def served():
    """A health service and its address."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_serving_is_0(served, capsys):
    """A process that serves is healthy, and the output says which."""
    _, address = served
    assert main([address]) == 0
    assert capsys.readouterr().out == f"{address} SERVING\n"


def test_stopping_is_1(served):
    """A process that is stopping is not healthy, though it answers."""
    servicer, address = served
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert check(address) == "NOT_SERVING"
    assert main([address]) == 1


def test_nobody_is_1():
    """Where nobody listens the check says so and fails, without a trace."""
    assert check("127.0.0.1:1") == "unreachable (UNAVAILABLE)"
    assert main(["127.0.0.1:1"]) == 1


def test_wrong_call_is_2(capsys):
    """Called without an address it says how to be called."""
    assert main([]) == 2
    assert "ADDRESS" in capsys.readouterr().err
