"""The runtime process: its parts, in the order in which they are made."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import grpc
from llmspell.v1 import (
    process_pb2_grpc,
    run_pb2_grpc,
    script_pb2_grpc,
    template_pb2_grpc,
    tool_pb2_grpc,
)

from services.common.bearers import inner_door
from services.common.clock import SystemClock
from services.common.context import Seal, derive_key, read_key
from services.common.errors import Reason, ServiceError
from services.common.members import AnyMember, Members
from services.common.paging import PageTokens
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.relay import Relay
from services.common.server import Parts
from services.common.settings import RuntimeSettings, Settings
from services.common.standing import Standing
from services.common.tenants import SystemItems, Tenants
from services.common.tls import ProcessTls, process_tls
from services.common.vitals import Readiness, Vitals
from services.runtime.agents.parts import AgentParts
from services.runtime.bridge import Handler, own_methods
from services.runtime.facts import ToolRules
from services.runtime.handling import Handling
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.built_in import build_hooks
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.publishing import Publisher
from services.runtime.layers import told
from services.runtime.measures import add_runtime_metrics
from services.runtime.money.parts import MoneyParts
from services.runtime.pool import Budget, TurnLimits, WorkerPool
from services.runtime.providers.registry import Providers, deployed
from services.runtime.run_desk import RunDesk
from services.runtime.runs import RunLimits
from services.runtime.servicers.direct import HookedTools
from services.runtime.servicers.provider import PROVIDER_SERVICE, ProviderServicer
from services.runtime.servicers.run import RunServicer
from services.runtime.servicers.script import ScriptServicer
from services.runtime.servicers.template import TemplateServicer
from services.runtime.servicers.tool import ToolServicer
from services.runtime.templates.catalogue import Catalogue
from services.runtime.templates.executing import Executing
from services.runtime.tenant_rules import TenantRules
from services.runtime.tools.addresses import AddressPolicy, parse_ports, parse_rules
from services.runtime.tools.folders import FileLimits, Folders
from services.runtime.tools.inner.catalogue import inner_entries
from services.runtime.tools.inner.desk import Surroundings
from services.runtime.tools.network import Network
from services.runtime.tools.operator import OperatorSettings
from services.runtime.tools.receipts import Receipts
from services.runtime.tools.toolbox import Toolbox
from services.runtime.workflows.parts import WorkflowParts

log = logging.getLogger(__name__)

SCRIPT_SERVICE = "llmspell.v1.ScriptService"
RUN_SERVICE = "llmspell.v1.RunService"
TOOL_SERVICE = "llmspell.v1.ToolService"
TEMPLATE_SERVICE = "llmspell.v1.TemplateService"
AGENT_SERVICES = (
    PROVIDER_SERVICE,
    "llmspell.v1.UsageService",
    "llmspell.v1.AgentService",
    "llmspell.v1.ExecutionService",
    "llmspell.v1.WorkflowService",
    TEMPLATE_SERVICE,
)
TOOL_ZYGOTE = "services.runtime.toolbox.__main__"
OWNERS = {
    "llmspell.v1.VectorService": "vector",
    "llmspell.v1.RagService": "vector",
    "llmspell.v1.VectorAdminService": "vector",
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
    mine, limits = settings.runtime, _limits(settings.runtime)
    pool, tool_pool = await _pools(mine, limits)
    clock, tls = SystemClock(), process_tls(settings, "runtime")
    key = read_key(Path(settings.deployment.context_key_file))
    seal = Seal(key, clock)
    below, relay = _relay(settings, seal, tls)
    vitals = _vitals(below, tls)

    tenants = Tenants(SystemItems(relay, principal="runtime"), clock)
    standing = Standing(tenants)
    rules = TenantRules(tenants)
    pool.places_of = rules.runs
    hosting = await _hosting(settings, relay, tenants, vitals)

    toolbox, network = _toolbox(settings, tool_pool, relay, Receipts(_data(mine), clock))
    tools = ToolServicer(toolbox, PageTokens(derive_key(key, "tool pages")))
    providers = _providers(settings, network)
    own: dict[str, Handler] = {}
    money = MoneyParts.build(settings, relay, clock, own, tenants)
    page_tokens, metered = PageTokens(derive_key(key, "model pages")), money.metered(providers)
    models = ProviderServicer(providers, metered, page_tokens, money.prices.of)
    handling = Handling(relay, tenants, own, hosting, toolbox)
    off = mine.globals_switched_off
    desk = RunDesk(
        pool, relay, clock, handling, most=limits, globals_off=off, kept_s=rules.journals_s
    )
    scripts = _scripts(mine, desk, limits, providers)
    checks = scripts.check_session
    agents = AgentParts.build(
        handling, relay, toolbox, asks=metered, providers=providers, check_session=checks
    )
    workflows = WorkflowParts.build(
        handling, relay, toolbox, agents, key=derive_key(key, "workflow runs"), clock=clock
    )

    def register(server: grpc.aio.Server) -> None:
        hooked = HookedTools(tools, handling)
        tool_pb2_grpc.add_ToolServiceServicer_to_server(hooked, server)
        runs = RunServicer(desk, checks, PageTokens(derive_key(key, "run pages")))
        run_pb2_grpc.add_RunServiceServicer_to_server(runs, server)
        own.update({**own_methods(TOOL_SERVICE, tools), **own_methods(RUN_SERVICE, runs)})
        executing = Executing(pool, handling, scripts.told, limits, _turns(mine))
        templates = _templates(executing, scripts, money)
        template_pb2_grpc.add_TemplateServiceServicer_to_server(templates, server)
        own.update(own_methods(TEMPLATE_SERVICE, templates))
        script_pb2_grpc.add_ScriptServiceServicer_to_server(scripts, server)
        for part in (models, money, agents, workflows):
            own.update(part.register(server))
        process = ProcessServicer(vitals, clock, jail=told(pool.layers))
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)

    parts = (standing, desk, workflows, agents, hosting, pool, toolbox, models, providers, money)
    add_runtime_metrics(vitals.metrics, pool, tool_pool, metered.calls)

    return Parts(
        listen=mine.listen,
        door=inner_door(
            vitals, key, clock, "runtime", calls_at_once=mine.calls_at_once, standing=standing
        ),
        register=register,
        services=(SCRIPT_SERVICE, RUN_SERVICE, TOOL_SERVICE, *AGENT_SERVICES, PROCESS_SERVICE),
        reflection=mine.reflection,
        trunk=seal,
        background=tuple(each.run for each in below.values()),
        close=lambda: _close((*parts, *below.values()), network),
        vitals=vitals,
        metrics_listen=mine.metrics_listen,
    )


async def _hosting(settings: Settings, relay: Relay, tenants: Tenants, vitals: Vitals) -> Hosting:
    """The host's hooks, and what tells of operations."""
    announcer = Announcer(Publisher(relay, tenants), settings.events, vitals.counts)
    hosting = Hosting(build_hooks(settings.hooks, vitals.counts, announcer), announcer)
    await hosting.start()
    return hosting


class _Closes(Protocol):
    async def close(self) -> None: ...


async def _close(parts: Iterable[_Closes], network: Network) -> None:
    for part in parts:
        await part.close()
    network.close()


def _relay(settings: Settings, seal: Seal, tls: ProcessTls) -> tuple[Mapping[str, Members], Relay]:
    """To the processes that this one calls."""
    addresses = {"vector": settings.runtime.vector, "state": settings.runtime.state}
    wait_s = settings.deployment.upstream_wait_s
    members = {
        name: Members(name, listed, wait_s=wait_s, tls=tls) for name, listed in addresses.items()
    }
    routes = {name: AnyMember(each) for name, each in members.items()}
    return members, Relay({service: routes[owner] for service, owner in OWNERS.items()}, seal)


def _vitals(below: Mapping[str, Members], tls: ProcessTls) -> Vitals:
    """It is ready where all that it calls are there."""
    there = {name: each.any_serves for name, each in below.items()}
    return Vitals("runtime", readiness=Readiness(there), tls=tls)


def _templates(
    executing: Executing, scripts: ScriptServicer, money: MoneyParts
) -> TemplateServicer:
    return TemplateServicer(Catalogue(), executing, scripts.check_session, money.prices.mixed)


async def _pools(mine: RuntimeSettings, limits: RunLimits) -> tuple[WorkerPool, WorkerPool]:
    """Of scripts, and of tools."""
    pool = WorkerPool(
        default_limits=limits.worker,
        turns=_turns(mine),
        budget=_budget(mine),
        require_kernel_layers=mine.require_kernel_layers,
    )
    await pool.start()
    tool_pool = WorkerPool(
        turns=TurnLimits(at_once=mine.tools_at_once),
        require_kernel_layers=mine.require_kernel_layers,
        zygote=TOOL_ZYGOTE,
    )
    await tool_pool.start()
    log.info("jail", extra={"told": told(pool.layers), "layers": pool.layers})
    return pool, tool_pool


def _toolbox(
    settings: Settings, pool: WorkerPool, relay: Relay, receipts: Receipts
) -> tuple[Toolbox, Network]:
    mine, operator = settings.runtime, OperatorSettings.read(settings.tools)
    surroundings = Surroundings(
        relay=relay, data=mine.data, environment=_names(mine.tool_environment)
    )
    network = Network(_policy(mine), allowed_of_tool=operator.allowed())
    receipts.start()
    toolbox = Toolbox(
        pool,
        _folders(mine),
        inner=inner_entries(surroundings),
        network=network,
        settings=operator.of,
        off=frozenset(_names(mine.tools_off)),
        receipts=receipts,
    )
    return toolbox, network


def _providers(settings: Settings, network: Network) -> Providers:
    return deployed(
        settings.providers,
        network,
        environment=os.environ,
        authorities=OperatorSettings.read(settings.tools).authorities,
    )


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def _policy(settings: RuntimeSettings) -> AddressPolicy | None:
    if not settings.network:
        return None
    try:
        return AddressPolicy(
            allowed=parse_rules(settings.allowed_hosts),
            blocked=parse_rules(settings.blocked_hosts),
            ports=parse_ports(settings.allowed_ports),
        )
    except ValueError as error:
        text = f"A list of hosts or ports in [runtime] cannot be read: {error}."
        raise ServiceError(Reason.CONFIG_INVALID, text) from None


def _data(settings: RuntimeSettings) -> Path | None:
    return Path(settings.data).absolute() if settings.data else None


def _folders(settings: RuntimeSettings) -> Folders:
    return Folders(
        _data(settings),
        FileLimits(settings.tenant_files_bytes, settings.tenant_files_count),
    )


def _scripts(
    mine: RuntimeSettings, desk: RunDesk, limits: RunLimits, providers: Providers
) -> ScriptServicer:
    return ScriptServicer(
        desk,
        limits,
        globals_off=mine.globals_switched_off,
        rules=_tool_rules(mine),
        providers=providers.told,
    )


def _tool_rules(settings: RuntimeSettings) -> ToolRules:
    return ToolRules(
        off=frozenset(_names(settings.tools_off)),
        files=bool(settings.data),
        files_bytes=settings.tenant_files_bytes,
        network=settings.network,
    )


def _limits(settings: RuntimeSettings) -> RunLimits:
    return RunLimits(
        wall_s=settings.run_wall_s,
        cpu_s=settings.run_cpu_s,
        memory_bytes=settings.run_memory_bytes,
        output_bytes=settings.run_output_bytes,
    )


def _turns(settings: RuntimeSettings) -> TurnLimits:
    return TurnLimits(
        at_once=settings.runs_at_once,
        tenant_at_once=settings.tenant_runs_at_once,
        tenant_waiting=settings.tenant_runs_waiting,
    )


def _budget(settings: RuntimeSettings) -> Budget:
    return Budget(
        cpu_s=settings.tenant_cpu_s_a_minute,
        calls=settings.tenant_calls_a_minute,
        output_bytes=settings.tenant_output_bytes_a_minute,
    )
