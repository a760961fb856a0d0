"""The host's hooks at the points of workflows: around the whole, around each step, and told."""

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.hooks.at_points import AtPoints
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.results import Cancel, Continue, Modified, Replace, Retry
from services.runtime.worker.points import PHASES
from tests.integration.workflow_host import hosts

POINTS = [point for point in PHASES if "Workflow" in point]


class Hook:
    """Notes what it is asked, and gives what the test wants."""

    def __init__(self, **results):
        self.seen = []
        self.results = results

    async def __call__(self, told):
        self.seen.append(told)
        result = self.results.get(told.point)
        return result(told) if result else Continue()

    @property
    def points(self):
        return [told.point for told in self.seen]

    def listed(self):
        return [("mine", AtPoints(POINTS, self, kept=KeptAnswers()))]


def put(name, value, **more):
    arguments = {"scope": "global", "key": f"hooks-{name}", "value": {"json": value}}
    return {
        "name": name,
        "call": {"method": "StateService/SetState", "arguments": arguments},
        **more,
    }


def row(*steps, **more):
    return {"name": "hooked", "sequential": {"steps": list(steps)}, **more}


BAD = {
    "name": "bad",
    "call": {"method": "StateService/GetState", "arguments": {"key": "nothing-is-here"}},
}


async def test_each_point_is_reached_in_its_order(deployment):
    """Of both tenants; each is told whose run it is."""
    hook = Hook()
    async with hosts(deployment, hook.listed()) as (host,):
        for tenant in ("acme", "globex"):
            hook.seen.clear()
            output = await host.execute(tenant, row(put("a", "1"), put("b", "2")))
            assert output["success"]
            stage = ["WorkflowStageTransition", "BeforeWorkflowStage", "AfterWorkflowStage"]
            around = [point for point in hook.points if point != "WorkflowCheckpoint"]
            assert around == ["BeforeWorkflowStart", *stage, *stage, "AfterWorkflowComplete"]
            assert "WorkflowCheckpoint" in hook.points
            assert {told.tenant for told in hook.seen} == {tenant}
            first = hook.seen[0]
            assert (first.component, first.name) == ("workflow", "hooked")
            assert first.data["execution_id"] == output["execution_id"]


async def test_a_failure_and_its_undoing_are_told(deployment):
    """WorkflowError has the error; WorkflowRollback what will be undone."""
    hook = Hook()
    async with hosts(deployment, hook.listed()) as (host,):
        undo = put("a", "0")
        made = row(put("a", "1", compensation=undo), BAD, rollback=True)
        output = await host.execute("acme", made)
    assert not output["success"]
    (told,) = [told for told in hook.seen if told.point == "WorkflowError"]
    assert told.data["reason"] == "WORKFLOW_STEP_FAILED"
    (told,) = [told for told in hook.seen if told.point == "WorkflowRollback"]
    assert told.data["steps"] == ["a"]


async def test_a_hook_may_change_what_is_given_and_what_comes_of_it(deployment):
    """Inputs before the whole, arguments before a step, the output after either."""
    echo = put("a", " {{inputs.n}}")

    def more(told):
        arguments = told.data["arguments"] | {"key": "hooks-changed"}
        return Modified(told.data | {"arguments": arguments})

    hook = Hook(
        BeforeWorkflowStart=lambda told: Modified(told.data | {"inputs": {"n": 41}}),
        BeforeWorkflowStage=more,
        AfterWorkflowStage=lambda told: Modified({"output": {"mine": told.data["output"]}}),
        AfterWorkflowComplete=lambda told: Modified(told.data | {"output": "all mine"}),
    )
    async with hosts(deployment, hook.listed(), []) as (host, plain):
        output = await host.execute("acme", row(echo), inputs={"n": 1})
        read = {"method": "StateService/GetState", "arguments": {"key": "hooks-changed"}}
        kept = await plain.execute("acme", row({"name": "r", "call": read}))
    assert output["output"] == "all mine"
    assert set(output["outputs"]["a"]) == {"mine"}
    assert kept["output"]["item"]["value"]["json"] == " 41"


async def test_a_hook_may_stop_or_replace(deployment):
    """A step that was replaced is not done; a workflow that was stopped has not begun."""
    stop = Hook(BeforeWorkflowStart=lambda told: Cancel("not today"))
    instead = Hook(BeforeWorkflowStage=lambda told: Replace({"output": 7}))
    async with hosts(deployment, stop.listed(), instead.listed()) as (stopped, replaced):
        with pytest.raises(ServiceError, match="not today") as seen:
            await stopped.execute("acme", row(put("stopped", "1")))
        output = await replaced.execute("acme", row(BAD))
    assert seen.value.reason == Reason.HOOK_CANCELLED
    assert stop.points == ["BeforeWorkflowStart"]
    assert output["output"] == 7


async def test_a_hook_may_have_a_step_tried_again(deployment):
    """The step's own policy is another matter: this is behind it."""
    hook = Hook(BeforeWorkflowStage=lambda told: Retry(0.01, 3))
    async with hosts(deployment, hook.listed()) as (host,):
        output = await host.execute("acme", row(BAD))
    assert output["steps"][0]["attempts"] == 1
    assert not output["success"]
