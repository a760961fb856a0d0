"""`python -m services.common.healthcheck ADDRESS`: exit code 0 where a process there is SERVING.

For container health checks: the image needs no shell and no other tool for it.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.relay import CHANNEL_OPTIONS

_TIMEOUT_S = 3.0


def check(address: str, *, timeout_s: float = _TIMEOUT_S) -> str:
    """What the process at `address` says of itself: a status of grpc.health.v1, or why not."""
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"unreachable ({error.code().name})"
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return status


def main(arguments: list[str]) -> int:
    """Print the status; 0 where it is SERVING, 1 where not, 2 where it was called wrongly."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m services.common.healthcheck ADDRESS\n")
        return 2
    status = check(arguments[0])
    sys.stdout.write(f"{arguments[0]} {status}\n")
    return 0 if status == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
