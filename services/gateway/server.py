"""The gateway process: its parts, in the order in which they are made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grpc
from llmspell.v1 import (
    identity_pb2_grpc,
    policy_pb2_grpc,
    process_pb2_grpc,
    quota_pb2_grpc,
    tenant_pb2_grpc,
)

from services.common.access import METHODS
from services.common.clock import SystemClock
from services.common.context import Seal, read_key
from services.common.freshness import Freshness
from services.common.limits import (
    CONNECTION_AGE_SECONDS,
    CONNECTION_GRACE_SECONDS,
    CONNECTION_IDLE_SECONDS,
    PUBLIC_PENDING_MAX,
    PUBLIC_STREAMS_MAX,
)
from services.common.members import AnyMember, Members
from services.common.pace import Pace
from services.common.process import ProcessServicer
from services.common.relay import Relay, RelayHandler, Upstream
from services.common.server import Parts
from services.common.settings import QuotaSettings, Settings
from services.common.standing import Standing
from services.common.tls import ProcessTls, process_tls
from services.common.vitals import Readiness, Vitals
from services.gateway.audit import Audit
from services.gateway.fairness import FairPlaces, FairQueue
from services.gateway.homes import Homes
from services.gateway.http_server import HttpPort
from services.gateway.identity import open_identity
from services.gateway.measures import add_gateway_metrics
from services.gateway.policies import Policies
from services.gateway.quotas import Quotas
from services.gateway.registry import Registry
from services.gateway.servicers.policy import PolicyServicer
from services.gateway.servicers.quota import QuotaServicer
from services.gateway.servicers.tenant import TenantServicer

log = logging.getLogger(__name__)

TENANT_SERVICE = "llmspell.v1.TenantService"
POLICY_SERVICE = "llmspell.v1.PolicyService"
OWNERS = {
    "llmspell.v1.ScriptService": "runtime",
    "llmspell.v1.RunService": "runtime",
    "llmspell.v1.ToolService": "runtime",
    "llmspell.v1.ProviderService": "runtime",
    "llmspell.v1.UsageService": "runtime",
    "llmspell.v1.AgentService": "runtime",
    "llmspell.v1.WorkflowService": "runtime",
    "llmspell.v1.ExecutionService": "runtime",
    "llmspell.v1.TemplateService": "runtime",
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
    "llmspell.v1.AuditService": "state",
}
"""Which process serves what. Calls flow downhill: gateway → runtime → vector → state."""


_FLOOD_OPTIONS = (
    ("grpc.max_concurrent_streams", PUBLIC_STREAMS_MAX),
    # Else calls that have just been answered count too, and a client that keeps to the limit is
    # refused some. What resets without end adds to the calls that wait, which have their own limit.
    ("grpc.http.overload_protection", 0),
    ("grpc.server.max_pending_requests", PUBLIC_PENDING_MAX),
    ("grpc.server.max_pending_requests_hard_limit", 2 * PUBLIC_PENDING_MAX),
    ("grpc.max_connection_idle_ms", CONNECTION_IDLE_SECONDS * 1000),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_SECONDS * 1000),
    ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_SECONDS * 1000),
)
"""Calls wait to be looked at in one line, everybody's: no connection may fill it."""


async def build(settings: Settings) -> Parts:
    """Open the gateway. It holds no files but the keys it reads once."""
    mine = settings.gateway
    clock, tls = SystemClock(), process_tls(settings, "gateway")
    key = read_key(Path(settings.deployment.context_key_file))
    seal = Seal(key, clock)
    members, relay = _upstreams(settings, seal, tls)
    freshness = Freshness(relay, clock, principal="gateway")
    registry = Registry(relay, clock, freshness=freshness)
    there = {name: each.any_serves for name, each in members.items()}
    policies = Policies(relay, clock)
    vitals = Vitals("gateway", readiness=Readiness(there, owners=OWNERS), tls=tls)
    quotas = Quotas(settings.quotas, registry.tenant, vitals.counts, places=mine.calls_at_once)
    identity = open_identity(mine, key, registry, relay, clock)
    standing = Standing(registry, identity.authenticator)

    def peers() -> list[Upstream]:
        return [member.upstream for each in members.values() for member in each.all]

    audit = Audit(relay, clock, tenant=registry.tenant, reads=mine.audit_reads)

    def register(server: grpc.aio.Server) -> None:
        tenants = TenantServicer(registry, relay, clock, identity.digests, identity.uses)
        tenant_pb2_grpc.add_TenantServiceServicer_to_server(tenants, server)
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(identity.servicer, server)
        quota_pb2_grpc.add_QuotaServiceServicer_to_server(QuotaServicer(quotas), server)
        policy = PolicyServicer(policies, registry, clock)
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(policy, server)
        process = ProcessServicer(vitals, clock, peers, seal=seal)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)
        server.add_generic_rpc_handlers((RelayHandler(relay),))

    async def close() -> None:
        await audit.close()
        await standing.close()
        for each in members.values():
            await each.close()

    turns = _turns(settings.quotas, quotas, members)
    add_gateway_metrics(vitals.metrics, turns, audit)
    parts = Parts(
        listen=mine.listen,
        options=_FLOOD_OPTIONS,
        door=vitals.door(
            identity.authenticator,
            calls_at_once=mine.calls_at_once,
            gates=(quotas.gate, standing.gate, policies.gate),
            places=(audit.place, standing.place, policies.place, quotas.place, turns.place),
            observers=(quotas.observe, audit.observe),
            pace=Pace(),
        ),
        register=register,
        services=sorted({method.service for method in METHODS.values()}),
        reflection=mine.reflection,
        background=(
            freshness.run,
            audit.run,
            policies.run,
            *(each.run for each in members.values()),
            *identity.background,
        ),
        close=close,
        vitals=vitals,
        metrics_listen=mine.metrics_listen,
    )
    return _with_http(parts, settings)


def _with_http(parts: Parts, settings: Settings) -> Parts:
    """The same, and the port for calls by HTTP where there is to be one.

    Raises:
        ServiceError: ADDRESS_IN_USE, CONFIG_INVALID.
    """
    mine = settings.gateway
    if not mine.http_listen:
        return parts
    port = HttpPort(
        parts.door,
        parts.handlers,
        listen=mine.http_listen,
        origins=mine.http_origins,
        drain_s=settings.deployment.drain_s,
    )
    log.info("serving HTTP", extra={"address": port.address})
    return replace(parts, background=(*parts.background, port.run))


def _upstreams(
    settings: Settings, seal: Seal, tls: ProcessTls
) -> tuple[Mapping[str, Members], Relay]:
    """The processes that are called, by kind, and the way to them."""
    mine = settings.gateway
    addresses = {"runtime": mine.runtime, "vector": mine.vector, "state": mine.state}
    wait_s = settings.deployment.upstream_wait_s
    members = {
        name: Members(name, listed, wait_s=wait_s, tls=tls) for name, listed in addresses.items()
    }
    routes = {
        "runtime": Homes(members["runtime"]),
        "vector": AnyMember(members["vector"]),
        "state": AnyMember(members["state"]),
    }
    relay = Relay({service: routes[owner] for service, owner in OWNERS.items()}, seal)
    return members, relay


def _turns(settings: QuotaSettings, quotas: Quotas, members: Mapping[str, Members]) -> FairPlaces:
    """A queue in front of the processes of each kind."""

    def queue(name: str, processes: Members) -> FairQueue:
        return FairQueue(
            name,
            at_once=lambda: settings.upstream_calls * max(len(processes.all), 1),
            wait_s=settings.wait_s,
        )

    queues = {name: queue(name, processes) for name, processes in members.items()}
    return FairPlaces({service: queues[owner] for service, owner in OWNERS.items()}, quotas.weight)
