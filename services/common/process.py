"""ProcessService: what a process tells of itself, and the gateway of those behind it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from llmspell.v1 import process_pb2, process_pb2_grpc

from services.common.access import METHODS, Method
from services.common.clock import Clock
from services.common.context import CallContext, Seal, current_context, new_request_id
from services.common.errors import ServiceError
from services.common.metrics import of_member
from services.common.relay import Relay, Upstream
from services.common.telemetry import HookCount
from services.common.tls import Certificates
from services.common.vitals import Vitals

SERVICE = "llmspell.v1.ProcessService"
RELEASE = version("llmspell-services")
_STATUS = METHODS[f"/{SERVICE}/GetProcessStatus"]
_METRICS = METHODS[f"/{SERVICE}/GetMetrics"]
METRICS_PRINCIPAL = "metrics"
"""Who asks where Prometheus does."""
_TIMEOUT_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessServicer(process_pb2_grpc.ProcessServiceServicer):
    """Answers for this process and, where it has some, for its peers."""

    def __init__(
        self,
        vitals: Vitals,
        clock: Clock,
        peers: Callable[[], Sequence[Upstream]] = tuple,
        *,
        seal: Seal | None = None,
        jail: str = "",
    ) -> None:
        """Make it.

        Args:
            vitals: What this process knows of itself.
            clock: Tells since when it is up.
            peers: Processes behind this one, at the moment.
            seal: Seals what they are asked.
            jail: What holds strangers' code here, in words.
        """
        self._vitals = vitals
        self._started_ns = clock.now_ns()
        self._peers = peers
        self._seal = seal
        self._jail = jail
        vitals.gather = self._gather

    async def GetProcessStatus(  # noqa: N802  (the contract's name)
        self, request: process_pb2.GetProcessStatusRequest, context: object
    ) -> process_pb2.GetProcessStatusResponse:
        """This process first, then its peers; one that does not answer is UNREACHABLE."""
        del context
        asked = request.SerializeToString()
        answers = await asyncio.gather(*(self._ask_status(each, asked) for each in self._peers()))
        own = self._own()
        return process_pb2.GetProcessStatusResponse(processes=[own, *answers])

    async def GetMetrics(  # noqa: N802  (the contract's name)
        self, request: process_pb2.GetMetricsRequest, context: object
    ) -> process_pb2.GetMetricsResponse:
        """Likewise; of one that does not answer the text is empty."""
        del request, context
        return process_pb2.GetMetricsResponse(processes=await self._metrics(current_context()))

    async def _metrics(self, caller: CallContext) -> list[process_pb2.ProcessMetrics]:
        asking = [self._ask_metrics(each, caller) for each in self._peers()]
        others = asyncio.gather(*asking)
        text = await self._vitals.metrics.tell()
        return [process_pb2.ProcessMetrics(name=self._vitals.name, text=text), *await others]

    async def _gather(self) -> list[str]:
        """For whoever asks without a call."""
        caller = CallContext(
            tenant="",
            principal=METRICS_PRINCIPAL,
            permissions=(_METRICS.permission,),
            request_id=new_request_id(),
        )
        return [of_member(told.text, told.instance) for told in await self._metrics(caller)]

    async def _ask(
        self, upstream: Upstream, method: Method, request: bytes, caller: CallContext
    ) -> bytes:
        assert self._seal is not None
        relay = Relay({SERVICE: upstream}, self._seal)
        return await relay.call(method, request, caller, timeout_s=_TIMEOUT_S)

    async def _ask_metrics(
        self, upstream: Upstream, caller: CallContext
    ) -> process_pb2.ProcessMetrics:
        told = process_pb2.ProcessMetrics(name=upstream.name)
        with suppress(ServiceError):
            answer = await self._ask(upstream, _METRICS, b"", caller)
            told = process_pb2.GetMetricsResponse.FromString(answer).processes[0]
        told.instance = upstream.tag
        return told

    async def _ask_status(self, upstream: Upstream, request: bytes) -> process_pb2.ProcessStatus:
        try:
            answer = await self._ask(upstream, _STATUS, request, current_context())
        except ServiceError:
            return process_pb2.ProcessStatus(
                name=upstream.name, status=process_pb2.SERVING_STATUS_UNREACHABLE
            )
        return process_pb2.GetProcessStatusResponse.FromString(answer).processes[0]

    def _own(self) -> process_pb2.ProcessStatus:
        counts, readiness = self._vitals.counts, self._vitals.readiness
        status = process_pb2.ProcessStatus(
            name=self._vitals.name,
            status=process_pb2.SERVING_STATUS_SERVING,
            version=RELEASE,
            pid=os.getpid(),
            resident_bytes=_resident_bytes(),
            call_count=counts.calls,
            internal_error_count=counts.internal_errors,
            damage_count=len(counts.damages),
            damages=[
                process_pb2.FoundDamage(name=name, why=why) for name, why in counts.damages.told()
            ],
            hooks=[_hook(hook) for hook in counts.hooks],
            events_dropped_count=counts.events_dropped,
            jail=self._jail,
            ready=readiness.is_ready,
            not_ready_reasons=readiness.missing,
            certificates=[_certificate(each) for each in self._vitals.tls.every()],
        )
        status.start_time.FromNanoseconds(self._started_ns)
        return status


def _certificate(certificates: Certificates) -> process_pb2.CertificateStatus:
    told = process_pb2.CertificateStatus(
        purpose=certificates.files.purpose, problem=certificates.problem()
    )
    told.expire_time.FromDatetime(certificates.expire_time)
    return told


def _hook(count: HookCount) -> process_pb2.HookCounts:
    told = process_pb2.HookCounts(
        name=count.name,
        call_count=count.calls,
        failure_count=count.failures,
        left_out_count=count.left_out,
        opened_count=count.opened,
        open_count=count.open_now(),
    )
    told.elapsed.FromMicroseconds(round(count.elapsed_s * 1e6))
    return told


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
