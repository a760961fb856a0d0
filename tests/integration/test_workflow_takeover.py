"""Several runtimes on one state: a run that was lost goes on in one of them, as who began it."""

import asyncio
import json

import pytest
from llmspell import Client
from llmspell.v1 import execution_pb2, state_pb2

from services.common.access import METHODS
from services.common.context import set_context
from services.common.errors import Reason, ServiceError
from services.runtime.workflows import desk
from services.runtime.workflows.past import read_past
from services.runtime.workflows.results import Status
from tests.integration.workflow_host import context, hosts
from tests.unit.runtime.workflow_parts import message

GET = METHODS["/llmspell.v1.StateService/GetState"]


def count(name, key):
    arguments = {"scope": "custom:takeover", "key": key, "int_delta": 1}
    call = {"method": "StateService/IncrementState", "arguments": arguments}
    return {"name": name, "call": call}


def wait(name, seconds):
    arguments = {"pattern": "takeover.nothing", "after": 0, "wait": seconds}
    return {"name": name, "call": {"method": "EventService/PollEvents", "arguments": arguments}}


def row(*steps):
    return {"name": "takeover", "sequential": {"steps": list(steps)}}


async def counted(host, tenant, key):
    """The number that is there; 0 where there is none."""
    request = state_pb2.GetStateRequest(scope="custom:takeover", key=key)
    data = request.SerializeToString()
    try:
        answer = await host.handling.relay.call(GET, data, context(tenant), timeout_s=5)
    except ServiceError:
        return 0
    return json.loads(state_pb2.GetStateResponse.FromString(answer).item.value.json)


async def begun(host, tenant, tree, *, request_id="", **who):
    """A run that has done its first step and is at the second."""
    set_context(context(tenant, **who))
    execution = await host.desk.begin(message(tree), {}, request_id=request_id)
    active = host.desk.active(tenant, execution.execution_id)
    for _ in range(300):
        if active.steps is not None and len(active.steps.results) > 1:
            return execution
        await asyncio.sleep(0.02)
    raise AssertionError("it does not get to its second step")


async def ended(host, tenant, execution_id):
    """What is kept of a run once it has ended."""
    for _ in range(500):
        past = await read_past(host.desk.shelf, tenant, execution_id)
        if past.end is not None:
            return past
        await asyncio.sleep(0.02)
    active = host.desk.active(tenant, execution_id)
    raise AssertionError(f"it has not ended: {active} {past}")


async def vanish(host):
    """A runtime gives no more signs of life, though it may live."""
    await host.leases.close()


async def test_a_run_of_a_runtime_that_was_stopped_goes_on_in_another(deployment):
    """Of two tenants; each once, with what was done before."""
    tree = row(count("one", "stopped"), wait("pause", 1), count("two", "stopped"))
    async with hosts(deployment, [], []) as (first, second):
        await first.leases.sign()
        runs = {tenant: await begun(first, tenant, tree) for tenant in ("acme", "globex")}
        for tenant, execution in runs.items():
            past = await read_past(second.desk.shelf, tenant, execution.execution_id)
            set_context(context(tenant))
            with pytest.raises(ServiceError, match="another process") as seen:
                await second.desk.resume(past)
            assert seen.value.reason == Reason.WORKFLOW_NOT_RESUMABLE
        await second.finder.look()  # the first one lives
        assert not any(second.desk.active(tenant, run.execution_id) for tenant, run in runs.items())
        await first.desk.close()
        await second.finder.look()
        for tenant, execution in runs.items():
            past = await ended(second, tenant, execution.execution_id)
            assert past.end.status is Status.COMPLETED
            assert (past.lease.resumed_count, past.lease.by_itself_count) == (1, 1)
            assert [step.name for step in past.steps] == ["one", "pause", "two"]
            assert await counted(second, tenant, "stopped") == 2


async def test_a_runtime_that_was_only_slow_does_nothing_more(deployment):
    """It gave no sign, so another went on; its own next step is refused before its effect."""
    tree = row(count("one", "slow"), wait("pause", 2), count("two", "slow"), count("three", "slow"))
    async with hosts(deployment, [], []) as (first, second):
        execution = await begun(first, "acme", tree)
        await vanish(first)
        await second.finder.look()
        assert second.desk.active("acme", execution.execution_id) is not None
        with pytest.raises(ServiceError, match="Another process") as seen:
            await execution.task
        assert seen.value.reason == Reason.WORKFLOW_NOT_RESUMABLE
        past = await ended(second, "acme", execution.execution_id)
        assert past.end.status is Status.COMPLETED
        assert await counted(second, "acme", "slow") == 3


async def test_only_one_of_many_takes_a_run(deployment):
    """Three look at the same time; the effects are there once."""
    tree = row(count("one", "many"), wait("pause", 1), count("two", "many"))
    async with hosts(deployment, [], [], [], []) as (first, *others):
        execution = await begun(first, "acme", tree)
        await first.desk.close()
        await asyncio.gather(*(other.finder.look() for other in others))
        past = await ended(others[0], "acme", execution.execution_id)
        assert past.lease.resumed_count == 1
        assert past.end.status is Status.COMPLETED
        assert await counted(others[0], "acme", "many") == 2


async def test_a_request_that_is_repeated_twice_at_once_goes_on_once(deployment):
    """Both look whether the runtime that had it lives; one goes on, and the other joins it."""
    tree = row(count("one", "joined"), wait("pause", 1), count("two", "joined"))
    async with hosts(deployment, [], []) as (first, second):
        await begun(first, "acme", tree, request_id="joined")
        await first.desk.close()
        again = [second.desk.begin(message(tree), {}, request_id="joined") for _ in range(2)]
        one, other = await asyncio.gather(*again)
        assert one is other
        past = await ended(second, "acme", one.execution_id)
        assert (past.end.status, past.lease.resumed_count) == (Status.COMPLETED, 1)
        assert await counted(second, "acme", "joined") == 2


async def test_it_acts_with_what_its_starter_was_allowed(deployment):
    """No more: a step that was forbidden then is forbidden now."""
    tree = row(wait("a", 1), wait("pause", 1), count("two", "rights"))
    allowed = ("event.read",)
    async with hosts(deployment, [], []) as (first, second):
        execution = await begun(first, "acme", tree, permissions=allowed)
        await first.desk.close()
        await second.finder.look()
        past = await ended(second, "acme", execution.execution_id)
        assert past.end.status is Status.FAILED
        assert past.end.failure.metadata["step_reason"] == "PERMISSION_DENIED"
        assert await counted(second, "acme", "rights") == 0


async def test_what_a_key_has_begun_does_not_go_on_without_it(deployment):
    """The key was revoked meanwhile: the run stays interrupted until somebody resumes it."""
    tree = row(count("one", "revoked"), wait("pause", 1), count("two", "revoked"))
    with Client(deployment.address, deployment.operator_key) as operator:
        key_id = operator.create_key("acme").key.split("_")[1]
        async with hosts(deployment, [], []) as (first, second):
            execution = await begun(first, "acme", tree, principal=key_id)
            await first.desk.close()
            operator.revoke_key(key_id)
            await second.finder.look()
            await second.finder.look()
            assert second.desk.active("acme", execution.execution_id) is None
            past = await read_past(second.desk.shelf, "acme", execution.execution_id)
            assert past.end is None
            assert await counted(second, "acme", "revoked") == 1
            set_context(context("acme"))  # somebody else who may
            await second.desk.resume(past)
            past = await ended(second, "acme", execution.execution_id)
            assert past.end.status is Status.COMPLETED
            assert await counted(second, "acme", "revoked") == 2


async def test_what_needs_its_caller_waits_for_it(deployment):
    """A function is called by whoever began the run; the same request goes on with it."""
    ask = {"name": "ask", "function": {"function": "f", "arguments": {}}}
    tree = row(count("one", "caller"), ask, count("two", "caller"))
    async with hosts(deployment, [], []) as (first, second):
        set_context(context("acme"))
        execution = await first.desk.begin(message(tree), {}, request_id="needs-caller")
        executions = first.handling.executions
        told = await executions.progress(execution.execution_id, execution.owner, wait_s=10)
        assert [callback.name for callback in told.callbacks] == ["f"]
        await first.desk.close()
        await second.finder.look()
        assert second.desk.active("acme", execution.execution_id) is None
        again = await second.desk.begin(message(tree), {}, request_id="needs-caller")
        assert again.execution_id == execution.execution_id
        assert await counted(second, "acme", "caller") == 1


async def test_a_run_whose_caller_has_gone_waits_for_it(deployment):
    """Its script was lost, or nobody answers: it has no end, and goes on when asked again."""
    ask = {"name": "ask", "function": {"function": "f", "arguments": {}}}
    tree = row(count("one", "gone"), ask, count("two", "gone"))
    async with hosts(deployment, []) as (host,):
        executions = host.handling.executions
        for tenant in ("acme", "globex"):
            set_context(context(tenant))
            execution = await host.desk.begin(message(tree), {}, request_id="gone")
            await executions.progress(execution.execution_id, execution.owner, wait_s=10)
            executions.end_run("")
            await asyncio.gather(execution.task, return_exceptions=True)
            past = await read_past(host.desk.shelf, tenant, execution.execution_id)
            assert past.end is None
            assert [step.status.value for step in past.steps] == ["completed", "running"]
            await host.finder.look()
            assert host.desk.active(tenant, execution.execution_id) is None
            again = await host.desk.begin(message(tree), {}, request_id="gone")
            told = await executions.progress(again.execution_id, again.owner, wait_s=10)
            answer = execution_pb2.CallbackResult(callback_id=told.callbacks[0].callback_id)
            executions.answer(again.execution_id, again.owner, [answer])
            past = await ended(host, tenant, execution.execution_id)
            assert past.end.status is Status.COMPLETED
            assert await counted(host, tenant, "gone") == 2


async def test_a_run_that_somebody_ends_has_ended(deployment):
    """CancelExecution is an end like CancelWorkflowRun."""
    tree = row(count("one", "ended"), {"name": "ask", "function": {"function": "f"}})
    async with hosts(deployment, []) as (host,):
        executions = host.handling.executions
        set_context(context("acme"))
        execution = await host.desk.begin(message(tree), {})
        await executions.progress(execution.execution_id, execution.owner, wait_s=10)
        assert executions.cancel(execution.execution_id, execution.owner)
        past = await ended(host, "acme", execution.execution_id)
        assert past.end.status is Status.CANCELLED


async def test_a_tenant_has_so_many_workflows_at_once(deployment, monkeypatch):
    """One more is refused; another tenant has its own."""
    monkeypatch.setattr(desk, "TENANT_WORKFLOWS_AT_ONCE", 2)
    tree = row(wait("pause", 5))
    async with hosts(deployment, []) as (host,):
        set_context(context("acme"))
        for _ in range(2):
            await host.desk.begin(message(tree), {})
        with pytest.raises(ServiceError) as seen:
            await host.desk.begin(message(tree), {})
        assert seen.value.reason == Reason.TENANT_LIMIT_REACHED
        set_context(context("globex"))
        await host.desk.begin(message(tree), {})
