"""Hooks of scripts and of the host: every point, with every result, in real runs."""

import asyncio
import functools
import json

import pytest
from llmspell import Client, RunOutput, RunResult, SchemaField
from llmspell.types import RunLimits

from services.runtime.hooks.at_points import AtPoints
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.results import Cancel, Continue
from services.runtime.worker.points import PHASES
from tests.integration import hook_host
from tests.integration.hook_cells import CASES, HOST, RESULTS, fill

TENANT = "hook-points"


@pytest.fixture(scope="module")
def tenant(deployment):
    """A tenant with the schemas that the scripts migrate to."""
    deployment.tenant(TENANT)
    with Client(deployment.address, deployment.keys[TENANT]) as client:
        for name, first in (("hx", "1.0.0"), ("hy", "1.5.0")):
            client.put_schema(name, first, scope_pattern=f"custom:{name}-schema")
            for version in ("2.0.0", "3.0.0"):
                client.put_schema(name, version, fields=[SchemaField("a", "integer")])
    return TENANT


WORKFLOWS = sorted(point for point in PHASES if "Workflow" in point)
"""See test_workflow_hooks."""


def of_script(deployment, case):
    """What a script's own hooks did, as its run reports it."""
    with Client(deployment.address, deployment.keys[TENANT]) as client:
        limits = RunLimits(**dict(case.limits)) if case.limits else None
        events = list(client.run(case.source, named={"point": case.point}, limits=limits))
    if case.point == "SystemShutdown":
        printed = b"".join(event.data for event in events if isinstance(event, RunOutput))
        return json.loads(printed)
    (result,) = [event for event in events if isinstance(event, RunResult)]
    return result.value


@pytest.fixture(scope="module")
def reports(deployment, tenant):
    """What a point's run reports, by whose hooks they are and the case; each is run once."""
    known = {(case.point, case.phase): case for case in CASES}
    sides = {"script": of_script, "host": hook_host.report}

    @functools.cache
    def report(side, point, phase):
        return sides[side](deployment, known[point, phase])

    return lambda side, case: report(side, case.point, case.phase)


def same(value, expected):
    """Whether a value is the expected one, in which `*` is any."""
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    return expected == "*" or (type(value) is type(expected) and value == expected)


def cells(*phases):
    """Each point of some phases with each result."""
    wanted = [("script", case) for case in CASES if case.phase in phases]
    hosted = [case for _, case in wanted if case.point in HOST and case.phase != "notice"]
    wanted += [("host", case) for case in hosted]
    return [
        pytest.param(side, case, result, id=f"{side}-{case.point}-{case.phase}-{result}")
        for side, case in wanted
        for result in RESULTS
    ]


def good(cell, expected, result):
    """The call went well, with what was expected."""
    assert cell["ok"], cell
    assert same(cell["value"], fill(expected, result)), cell
    assert (cell["failures"], cell["kinds"]) == (0, {result: cell["asked"]}), cell


def refused(cell, reason, message=None):
    """The call failed for a reason, not for a fault of the hook's."""
    assert (cell["ok"], cell["reason"], cell["failures"]) == (False, reason, 0), cell
    assert message is None or cell["message"].endswith(message), cell


@pytest.mark.parametrize(("side", "case", "result"), cells("before"))
def test_before_a_call(reports, side, case, result):
    """What a result does before a call: to its arguments, its target, whether it is made."""
    report = reports(side, case)
    cell = report[result]
    if result == "cancel":
        refused(cell, "HOOK_CANCELLED", "stop")
    elif result == "retry":
        assert cell["ms"] >= 40, "two waits of 20 ms"
        assert (cell["asked"], cell["failures"]) == (1, 0)
        assert cell["reason"] == case.failed if case.failed else cell["ok"]
    elif result == "cache":
        good(cell, case.normal, result)
        assert cell["again"]["asked"] == 2
        if case.cached != "same":
            assert same(cell["again"]["value"], case.cached), cell
    elif result == "redirect" and case.redirect_reason:
        refused(cell, case.redirect_reason)
    else:
        expected = {
            "modified": case.modified, "redirect": case.redirected, "replace": case.replaced,
        }  # fmt: skip
        good(cell, expected.get(result, case.normal), result)
    if result == "fork":
        assert forked(report)


@pytest.mark.parametrize(("side", "case", "result"), cells("after"))
def test_after_a_call(reports, side, case, result):
    """What a result does once a call was answered: to its answer, or the call is made again."""
    report = reports(side, case)
    cell = report[result]
    if result == "cancel":
        refused(cell, "HOOK_CANCELLED", "stop")
    elif result == "retry":
        good(cell, case.retried, result)
        assert cell["asked"] == 3
    elif result == "redirect" and case.redirect_reason:
        refused(cell, case.redirect_reason)
    else:
        expected = {
            "modified": case.modified, "redirect": case.redirected, "replace": case.replaced,
        }  # fmt: skip
        good(cell, expected.get(result, case.normal), result)
    if result == "fork":
        assert forked(report)


@pytest.mark.parametrize(("side", "case", "result"), cells("error"))
def test_at_an_error(reports, side, case, result):
    """What a result does where a call has failed; a cache has no meaning there."""
    report = reports(side, case)
    cell = report[result]
    if result == "cancel":
        refused(cell, "HOOK_CANCELLED", "stop")
    elif result == "modified":
        refused(cell, case.failed, "reworded")
    elif result == "replace" or (result == "redirect" and not case.redirect_reason):
        good(cell, case.replaced if result == "replace" else case.redirected, result)
    elif result == "cache":
        assert (cell["reason"], cell["failures"]) == (case.failed, cell["asked"]), cell
        assert "no meaning" in cell["why"]
    else:
        refused(cell, case.failed)
    if result == "retry":
        assert (cell["asked"], cell["ms"] >= 40) == (3, True), cell
    if result == "fork":
        assert forked(report)


@pytest.mark.parametrize(("side", "case", "result"), cells("custom"))
def test_at_a_point_of_ones_own(reports, side, case, result):
    """What a result does to what a script fires."""
    cell = reports(side, case)[result]
    if result == "cancel":
        refused(cell, "HOOK_CANCELLED", "stop")
        return
    expected = {
        "modified": case.modified, "redirect": case.redirected, "replace": case.replaced,
        "retry": case.retried,
    }  # fmt: skip
    good(cell, expected.get(result, case.normal), result)
    assert result != "retry" or cell["asked"] == 3
    assert result != "cache" or cell["again"]["value"] == case.cached
    assert result != "fork" or forked(reports(side, case))


@pytest.mark.parametrize(("side", "case", "result"), cells("notice"))
def test_where_something_is_only_told(reports, side, case, result):
    """Only going on, skipping and forking have a meaning; all else fails and changes nothing."""
    cell = reports(side, case)[result]
    means = result in ("continue", "skipped", "fork")
    assert (cell["asked"], cell["failures"]) == (1, 0 if means else 1), cell
    assert means or "no meaning" in cell["why"]
    assert result != "fork" or cell["joined"][0]["ok"]


def forked(report):
    """Whether the operation that was forked went well and was made."""
    (one,) = report["fork"]["joined"]
    return (one["id"], one["ok"], report["forked"]) == ("f", True, 1)


def test_the_table_has_every_point():
    """Each point of the specification is in the table, or is of agents or workflows."""
    agents = {point for point in PHASES if "Agent" in point}  # see test_agents
    assert {case.point for case in CASES} | agents | set(WORKFLOWS) >= set(PHASES)


def test_points_of_workflows_take_hooks(deployment):
    """They may be registered for; an unknown point raises and names the one that was meant."""
    source = """
      for _, point in ipairs{...} do assert(Hook.register(point, print):hook_point() == point) end
      local ok, problem = pcall(Hook.register, "BeforeToolExecutoin", print)
      return {#Hook.list(), problem.message, problem.metadata.nearest}
    """
    deployment.tenant(TENANT)
    with Client(deployment.address, deployment.keys[TENANT]) as client:
        *_, result = client.run(source, args=WORKFLOWS)
    assert result.value[0] == len(WORKFLOWS)
    assert "Unknown hook point" in result.value[1]
    assert result.value[2] == "BeforeToolExecution"


def test_a_hook_of_the_host_is_told_of_the_process(deployment):
    """It hears of start and end; a result without a meaning there fails and breaks nothing."""
    heard = []

    async def ask(context):
        heard.append((context.point, context.tenant))
        return Continue() if context.point == "SystemStartup" else Cancel("no")

    async def main():
        hook = AtPoints(["SystemStartup", "SystemShutdown"], ask, kept=KeptAnswers())
        async with hook_host.hosted(deployment, [("hook", hook)]) as (_, counts):
            assert counts.hooks[0].failures == 0
        return counts.hooks[0].failures

    assert asyncio.run(main()) == 1
    assert heard == [("SystemStartup", ""), ("SystemShutdown", "")]
