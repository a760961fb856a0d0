"""Workflows in the test's own process, with hooks of its own, against a deployment's state."""

from __future__ import annotations

import contextlib
from pathlib import Path

from services.common.clock import SystemClock
from services.common.context import CallContext, Seal, read_key, set_context
from services.common.errors import Reason, ServiceError
from services.common.relay import Relay, Upstream
from services.common.settings import EventsSettings, HooksSettings
from services.common.telemetry import Counts
from services.common.tenants import SystemItems, Tenants
from services.runtime import marshal
from services.runtime.callers import Callers
from services.runtime.handling import Handling
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.built_in import guarded
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.publishing import Publisher
from services.runtime.server import OWNERS
from services.runtime.tools.receipts import Receipts
from services.runtime.workflows.desk import Workflows
from services.runtime.workflows.leases import Leases
from services.runtime.workflows.life import Around
from services.runtime.workflows.lost import Finder, KeptKeys
from services.runtime.workflows.records import RecordSeal
from services.runtime.workflows.registered import RegisteredWorkflows
from services.runtime.workflows.shelf import Shelf
from tests.unit.runtime.workflow_parts import message


class Nobody:
    """No tools, no agents."""

    async def entries(self):
        return {}

    async def find(self, name):
        raise ServiceError(Reason.TOOL_NOT_FOUND, f"There is no tool {name!r}.")

    async def get(self, context, name):
        raise ServiceError(Reason.AGENT_NOT_FOUND, f"There is no agent {name!r}.")


class Host:
    """One runtime's workflows."""

    def __init__(self, relay, tenants, hosting):
        clock = SystemClock()
        items = SystemItems(relay, principal="runtime")
        shelf = Shelf(relay, RecordSeal(b"k" * 32))
        self.handling = Handling(relay, tenants, {}, hosting)
        callers = Callers(self.handling, _no_check)
        nobody = Nobody()
        receipts = Receipts(None, clock)
        around = Around(self.handling, callers, None, nobody, nobody, receipts, clock)
        self.leases = Leases(items, clock)
        self.desk = Workflows(shelf, self.leases, RegisteredWorkflows(shelf, clock), around)
        self.finder = Finder(self.desk, self.leases, tenants, KeptKeys(items, clock), clock)

    async def execute(self, tenant, tree, *, permissions=("*",), principal="operator", **more):
        """The output of a workflow, as a plain tree."""
        set_context(context(tenant, permissions, principal))
        inputs = more.pop("inputs", {})
        execution = await self.desk.begin(message(tree), inputs, **more)
        progress = await self.handling.executions.progress(
            execution.execution_id, execution.owner, wait_s=30
        )
        assert progress.done
        return marshal.read(progress.workflow)


def context(tenant, permissions=("*",), principal="operator"):
    """Of a caller of a tenant."""
    return CallContext(
        tenant=tenant, principal=principal, permissions=permissions, request_id="r-1"
    )


async def _no_check(session_id):
    del session_id


@contextlib.asynccontextmanager
async def hosts(deployment, *hooks_of_each):
    """A runtime for each list of hooks, all on one state process."""
    seal = Seal(read_key(next(Path(deployment.data).rglob("context.key"))), SystemClock())
    upstreams = {
        name: Upstream(name, deployment.inner_address(name)) for name in ("vector", "state")
    }
    relay = Relay({service: upstreams[owner] for service, owner in OWNERS.items()}, seal)
    tenants = Tenants(SystemItems(relay, principal="runtime"), SystemClock())
    made = []
    for hooks in hooks_of_each:
        counts = Counts()
        announcer = Announcer(Publisher(relay, tenants), EventsSettings(enabled=False), counts)
        settings = HooksSettings()
        hosting = Hosting(guarded(hooks, settings, counts, announcer), announcer)
        made.append(Host(relay, tenants, hosting))
    try:
        yield made
    finally:
        for host in made:
            await host.desk.close()
            await host.handling.executions.close()
        for upstream in upstreams.values():
            await upstream.close()
