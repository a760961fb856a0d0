"""The gateway process: its parts, in the order in which they are made."""

from __future__ import annotations

from pathlib import Path

import grpc
from llmspell.v1 import process_pb2_grpc, tenant_pb2_grpc

from services.common.access import METHODS
from services.common.clock import SystemClock
from services.common.context import Seal, read_key
from services.common.door import Door
from services.common.errors import Reason, ServiceError
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.relay import Relay, RelayHandler, Upstream
from services.common.server import Parts
from services.common.settings import Settings
from services.common.telemetry import Counts
from services.gateway.auth import Authenticator
from services.gateway.keys import OPERATOR_ID, read_credential
from services.gateway.registry import Registry
from services.gateway.servicers.tenant import TenantServicer

TENANT_SERVICE = "llmspell.v1.TenantService"
OWNERS = {
    "llmspell.v1.ScriptService": "runtime",
    "llmspell.v1.VectorService": "vector",
    "llmspell.v1.VectorAdminService": "vector",
    "llmspell.v1.RagService": "vector",
    "llmspell.v1.StateService": "state",
    "llmspell.v1.ArtifactService": "state",
    "llmspell.v1.MigrationService": "state",
    "llmspell.v1.BackupService": "state",
    "llmspell.v1.VaultService": "state",
    "llmspell.v1.EventService": "state",
    "llmspell.v1.JournalService": "state",
    "llmspell.v1.SessionService": "state",
}
"""Which process serves what. Calls flow downhill: gateway → runtime → vector → state."""


async def build(settings: Settings) -> Parts:
    """Open the gateway. It holds no files but the keys it reads once."""
    mine = settings.gateway
    clock, counts = SystemClock(), Counts()
    seal = Seal(read_key(Path(settings.deployment.context_key_file)), clock)
    addresses = {"runtime": mine.runtime, "vector": mine.vector, "state": mine.state}
    upstreams = {name: Upstream(name, address) for name, address in addresses.items()}
    relay = Relay({service: upstreams[owner] for service, owner in OWNERS.items()}, seal)
    registry = Registry(relay, clock)
    authenticator = Authenticator(registry, _operator_key(mine.operator_key_file))
    peers = [
        (upstream, Relay({PROCESS_SERVICE: upstream}, seal)) for upstream in upstreams.values()
    ]

    def register(server: grpc.aio.Server) -> None:
        tenants = TenantServicer(registry, relay, clock)
        tenant_pb2_grpc.add_TenantServiceServicer_to_server(tenants, server)
        process = ProcessServicer("gateway", counts, clock, peers)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)
        server.add_generic_rpc_handlers((RelayHandler(relay),))

    async def close() -> None:
        for upstream in upstreams.values():
            await upstream.close()

    return Parts(
        listen=mine.listen,
        door=Door(authenticator, counts, calls_at_once=mine.calls_at_once),
        register=register,
        services=sorted({method.service for method in METHODS.values()}),
        reflection=mine.reflection,
        close=close,
    )


def _operator_key(file: str) -> str:
    if not file:
        return ""
    try:
        key = Path(file).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_key(file, str(error)) from None
    credential = read_credential(key)
    if credential is None or credential.key_id != OPERATOR_ID:
        raise _bad_key(file, f"it is not of the form llms_{OPERATOR_ID}_SECRET")
    return key


def _bad_key(file: str, why: str) -> ServiceError:
    return ServiceError(
        Reason.CONFIG_INVALID,
        f"The operator's key cannot be read from {file}: {why}.",
        key="gateway.operator_key_file",
        file=file,
    )
