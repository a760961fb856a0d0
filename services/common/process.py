"""ProcessService: what a process tells of itself, and the gateway of those behind it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from llmspell.v1 import process_pb2, process_pb2_grpc

from services.common.access import METHODS
from services.common.clock import Clock
from services.common.context import current_context
from services.common.errors import ServiceError
from services.common.relay import Relay, Upstream
from services.common.telemetry import Counts

SERVICE = "llmspell.v1.ProcessService"
RELEASE = version("llmspell-services")
_METHOD = METHODS[f"/{SERVICE}/GetProcessStatus"]
_TIMEOUT_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessServicer(process_pb2_grpc.ProcessServiceServicer):
    """Answers for this process and, where it has some, for its peers."""

    def __init__(
        self,
        name: str,
        counts: Counts,
        clock: Clock,
        peers: Sequence[tuple[Upstream, Relay]] = (),
    ) -> None:
        self._name = name
        self._counts = counts
        self._started_ns = clock.now_ns()
        self._peers = peers

    async def GetProcessStatus(  # noqa: N802  (the contract's name)
        self, request: process_pb2.GetProcessStatusRequest, context: object
    ) -> process_pb2.GetProcessStatusResponse:
        """This process first, then its peers; one that does not answer is UNREACHABLE."""
        del context
        answers = await asyncio.gather(
            *(_ask(upstream, relay, request.SerializeToString()) for upstream, relay in self._peers)
        )
        own = self._own()
        return process_pb2.GetProcessStatusResponse(processes=[own, *answers])

    def _own(self) -> process_pb2.ProcessStatus:
        status = process_pb2.ProcessStatus(
            name=self._name,
            status=process_pb2.SERVING_STATUS_SERVING,
            version=RELEASE,
            pid=os.getpid(),
            resident_bytes=_resident_bytes(),
            call_count=self._counts.calls,
            internal_error_count=self._counts.internal_errors,
            damage_count=len(self._counts.damages),
            damages=[
                process_pb2.FoundDamage(name=name, why=why)
                for name, why in self._counts.damages.told()
            ],
        )
        status.start_time.FromNanoseconds(self._started_ns)
        return status


async def _ask(upstream: Upstream, relay: Relay, request: bytes) -> process_pb2.ProcessStatus:
    try:
        answer = await relay.call(_METHOD, request, current_context(), timeout_s=_TIMEOUT_S)
    except ServiceError:
        return process_pb2.ProcessStatus(
            name=upstream.name, status=process_pb2.SERVING_STATUS_UNREACHABLE
        )
    return process_pb2.GetProcessStatusResponse.FromString(answer).processes[0]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
