"""`python -m services.common.healthcheck [--ready] ADDRESS`: exit code 0 where a process serves.

Without `--ready` it tells whether the process is live: one that is not should be started again.
With it, whether calls should be sent there: not while a process that it needs is away, nor while it
starts or stops. For container health checks: the image needs no shell and no other tool for it.

Where the process speaks TLS, LLMSPELL_CA_FILE, LLMSPELL_CERTIFICATE_FILE and LLMSPELL_KEY_FILE say
how, as for a client.
"""

from __future__ import annotations

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from llmspell._trust import Trust, credentials, given_trust
from llmspell.errors import LLMSpellError

from services.common.relay import CHANNEL_OPTIONS
from services.common.tls import is_socket_file
from services.common.vitals import READY

_TIMEOUT_S = 3.0


def check(
    address: str, *, service: str = "", timeout_s: float = _TIMEOUT_S, trust: Trust | None = None
) -> str:
    """What the process at `address` says of a service, or of itself: a status of grpc.health.v1.

    Where there is none, why not.
    """
    with _channel(address, trust) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"unreachable ({error.code().name})"
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return status


def _channel(address: str, trust: Trust | None) -> grpc.Channel:
    if not trust or is_socket_file(address):
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(address, credentials(trust), options=CHANNEL_OPTIONS)


def main(arguments: list[str]) -> int:
    """Print the status; 0 where it is SERVING, 1 where not, 2 where it was called wrongly."""
    asks_ready = arguments[:1] == ["--ready"]
    addresses = arguments[1:] if asks_ready else arguments
    if len(addresses) != 1 or addresses[0].startswith("-"):
        sys.stderr.write("usage: python -m services.common.healthcheck [--ready] ADDRESS\n")
        return 2
    try:
        trust = given_trust(None, None, None, os.environ)
        status = check(addresses[0], service=READY if asks_ready else "", trust=trust)
    except LLMSpellError as error:
        status = f"not asked ({error.message})"
    sys.stdout.write(f"{addresses[0]} {status}\n")
    return 0 if status == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
