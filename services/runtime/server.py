"""The runtime process: its parts, in the order in which they are made."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
from llmspell.v1 import process_pb2_grpc, script_pb2_grpc

from services.common.clock import SystemClock
from services.common.context import Seal, read_key
from services.common.door import Door, SealedContext
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.relay import Relay, Upstream
from services.common.server import Parts
from services.common.settings import RuntimeSettings, Settings
from services.common.telemetry import Counts
from services.common.tenants import SystemItems, Tenants
from services.runtime.pool import WorkerPool
from services.runtime.runs import RunLimits
from services.runtime.servicers.script import ScriptServicer

log = logging.getLogger(__name__)

SCRIPT_SERVICE = "llmspell.v1.ScriptService"
OWNERS = {
    "llmspell.v1.VectorService": "vector",
    "llmspell.v1.RagService": "vector",
    "llmspell.v1.StateService": "state",
    "llmspell.v1.MigrationService": "state",
    "llmspell.v1.BackupService": "state",
    "llmspell.v1.EventService": "state",
    "llmspell.v1.JournalService": "state",
    "llmspell.v1.SessionService": "state",
    "llmspell.v1.ArtifactService": "state",
}
"""What scripts may call, and which process serves it."""


async def build(settings: Settings) -> Parts:
    """Start the zygote, which must not inherit gRPC's threads, and prepare to serve."""
    mine = settings.runtime
    limits = _limits(mine)
    pool = WorkerPool(
        default_limits=limits.worker,
        runs_at_once=mine.runs_at_once,
        require_kernel_layers=mine.require_kernel_layers,
    )
    await pool.start()
    log.info("jail", extra={"layers": pool.layers})
    clock, counts = SystemClock(), Counts()
    seal = Seal(read_key(Path(settings.deployment.context_key_file)), clock)
    addresses = {"vector": mine.vector, "state": mine.state}
    upstreams = {name: Upstream(name, address) for name, address in addresses.items()}
    relay = Relay({service: upstreams[owner] for service, owner in OWNERS.items()}, seal)

    tenants = Tenants(SystemItems(relay, principal="runtime"), clock)

    def register(server: grpc.aio.Server) -> None:
        scripts = ScriptServicer(pool, relay, tenants, limits)
        script_pb2_grpc.add_ScriptServiceServicer_to_server(scripts, server)
        process = ProcessServicer("runtime", counts, clock)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)

    async def close() -> None:
        await pool.close()
        for upstream in upstreams.values():
            await upstream.close()

    return Parts(
        listen=mine.listen,
        door=Door(SealedContext(seal), counts, calls_at_once=mine.calls_at_once),
        register=register,
        services=(SCRIPT_SERVICE, PROCESS_SERVICE),
        reflection=mine.reflection,
        close=close,
    )


def _limits(settings: RuntimeSettings) -> RunLimits:
    return RunLimits(
        wall_s=settings.run_wall_s,
        cpu_s=settings.run_cpu_s,
        memory_bytes=settings.run_memory_bytes,
        output_bytes=settings.run_output_bytes,
    )
