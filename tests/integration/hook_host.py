"""Runs scripts with hooks of the host around their calls, against a deployment's own processes."""

import asyncio
import contextlib
import json
from pathlib import Path

from services.common.clock import SystemClock
from services.common.context import CallContext, Seal, read_key
from services.common.relay import Relay, Upstream
from services.common.settings import EventsSettings, HooksSettings
from services.common.telemetry import Counts
from services.common.tenants import SystemItems, Tenants
from services.runtime.bridge import Bridge
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.at_points import AtPoints
from services.runtime.hooks.built_in import guarded
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.model import RunInfo
from services.runtime.hooks.publishing import Publisher
from services.runtime.hooks.results import (
    Cache,
    Cancel,
    Continue,
    Fork,
    Modified,
    Operation,
    Redirect,
    Replace,
    Retry,
    Skipped,
)  # fmt: skip
from services.runtime.pool import WorkerPool
from services.runtime.runs import Result, RunLimits, RunSpec, run_script
from services.runtime.server import OWNERS
from tests.integration.hook_cells import HOST
from tests.integration.hook_harness import HOST_HARNESS

# So many failures that no breaker opens while a table is filled.
SETTINGS = HooksSettings(failure_threshold=1000, slow_threshold=1000)


class Answers:
    """A hook at one point that answers what the script's cell is about."""

    def __init__(self, point):
        self.point = point
        self.cell = "off"
        self.target = "nowhere"
        self.twin = ""
        self.asked, self.kinds = {}, {}

    async def signal(self, call, proceed):
        """The outermost hook: hears which cell begins."""
        if call.args.get("scope") == "custom:hx-signal":
            word = call.args["key"]
            name, _, value = word.partition("=")
            if name in ("target", "twin"):
                setattr(self, name, value)
            else:
                self.cell = word
        return await proceed(call)

    async def __call__(self, context):
        """The cell's result."""
        if self.cell == "off" or (
            context.operation == "StateService/GetState"
            and (context.data.get("scope") == "custom:hx-signal")
        ):
            return Continue()
        self.asked[self.cell] = self.asked.get(self.cell, 0) + 1
        result = self.result(context)
        kind = type(result).__name__.lower()
        self.kinds.setdefault(self.cell, {}).setdefault(kind, 0)
        self.kinds[self.cell][kind] += 1
        return result

    def result(self, context):
        """What to give for the cell."""
        modify, answer = HOST[self.point]
        if modify is None:

            def modify(data):
                return data | {"session_id": self.twin}

        key = "".join(letter for letter in self.point if letter.isalnum())
        value = {"scope": "custom:forked", "key": key, "value": {"json": "1"}}
        return {
            "continue": Continue,
            "skipped": lambda: Skipped("no"),
            "modified": lambda: Modified(modify(context.data)),
            "cancel": lambda: Cancel("stop"),
            "redirect": lambda: Redirect(self.target),
            "replace": lambda: Replace(answer),
            "retry": lambda: Retry(0.02, 3),
            "fork": lambda: Fork([Operation("f", "StateService/SetState", value)]),
            "cache": lambda: Cache("hx", 60),
        }[self.cell]()


@contextlib.asynccontextmanager
async def hosted(deployment, hooks, *, settings=SETTINGS, events=None):
    """A way to run scripts as a tenant with these hooks, and what is counted of them."""
    seal = Seal(read_key(next(Path(deployment.data).rglob("context.key"))), SystemClock())
    behind = ("runtime", "vector", "state")
    upstreams = {name: Upstream(name, deployment.inner_address(name)) for name in behind}
    owners = OWNERS | {"llmspell.v1.ToolService": "runtime"}
    relay = Relay({service: upstreams[owner] for service, owner in owners.items()}, seal)
    tenants = Tenants(SystemItems(relay, principal="runtime"), SystemClock())
    counts = Counts()
    wanted = events or EventsSettings(enabled=False)
    announcer = Announcer(Publisher(relay, tenants), wanted, counts)
    hosting = Hosting(guarded(hooks, settings, counts, announcer), announcer)
    await hosting.start()

    async def run(tenant, source, *, run_id="run-1", permissions=("*",), principal="k", **named):
        context = CallContext(
            tenant=tenant, principal=principal, permissions=permissions, request_id=run_id
        )
        bridge = Bridge(relay, tenants, context, timeout_s=20, own={})
        spec = RunSpec(source, "hooked.lua", named=named, limits=RunLimits(), tenant=tenant)
        value = None
        async with hosting.run(bridge, RunInfo(context, spec.name)) as hooked:
            async for event in run_script(pool, spec, hooked):
                if isinstance(event, Result):
                    await hooked.settle()
                    value = json.loads(event.json)
        return value

    async with WorkerPool() as pool:
        try:
            yield run, counts
        finally:
            await hosting.close()
            for upstream in upstreams.values():
                await upstream.close()


async def _report(deployment, case):
    answers = Answers(case.point)
    hook = AtPoints([case.point], answers, kept=KeptAnswers())
    failures = {}

    async def counting(call, proceed):
        """Between the signal and the hook: whose failures are of which cell."""
        before = counts.hooks[-1].failures
        reply = await proceed(call)
        more = counts.hooks[-1].failures - before
        failures[answers.cell] = failures.get(answers.cell, 0) + more
        return reply

    hooks = [("signal", answers.signal), ("counting", counting), ("hook", hook)]
    async with hosted(deployment, hooks) as (run, counts):
        source = HOST_HARNESS % {"case": case.lua}
        report = await run("hook-points", source, point=case.point)
    for name, cell in report.items():
        if isinstance(cell, dict):
            cell["asked"] = answers.asked.get(name, 0)
            cell["failures"] = failures.get(name, 0)
            cell["kinds"] = answers.kinds.get(name, {})
            cell["why"] = "no meaning"
            if name == "cache":
                cell["again"]["asked"] = cell["asked"]
    return report


def report(deployment, case):
    """What a host's hook did at one point, with each result."""
    return asyncio.run(_report(deployment, case))
