"""Workflows of the four kinds run, by what comes of them."""

import asyncio
import time

import pytest

from services.common.clock import SystemClock
from services.common.errors import Reason, ServiceError
from services.runtime.money.model import Amount, Spent
from services.runtime.workflows.engine import Engine
from services.runtime.workflows.stepping import Acted, Repeat, Steps
from tests.unit.runtime.workflow_parts import (
    Heard,
    Kept,
    NoneRegistered,
    Told,
    call,
    failing,
    nested,
    row,
    run,
    workflow,
)


def stepping(told, kept):
    return Steps(told, kept, Heard(), SystemClock())


def statuses(result):
    return {step.path: step.status.value for step in result.steps}


async def test_steps_in_a_row_read_what_those_before_gave():
    """Outputs of kinds other than text arrive as they are; the facts count."""
    told = Told(add=lambda a, b: a + b)
    result = await run(
        row(
            call("one", "add", a="{{inputs.n}}", b=1),
            call("two", "add", a="{{steps.one.output}}", b=10, save_as="sum"),
            call("three", text="sum is {{shared.sum}} of {{workflow}}"),
        ),
        told,
        inputs={"n": 5},
    )
    assert result.success
    assert result.outputs == {"one": 6, "two": 16, "three": {"text": "sum is 16 of w"}}
    assert result.output == {"text": "sum is 16 of w"}
    assert result.shared_data == {"sum": 16}
    assert result.facts["total_steps"] == result.facts["successful_steps"] == 3
    assert result.facts["failed_steps"] == 0
    assert result.facts["success_rate"] == 1.0
    assert result.facts["workflow_type"] == "sequential"


async def test_what_is_missing_fails_the_step_that_wants_it_and_nothing_after_runs():
    """The failure names step and reference."""
    told = Told()
    result = await run(row(call("a", x="{{inputs.none}}"), call("b")), told)
    assert not result.success
    assert told.paths == []
    assert result.failure.reason == "WORKFLOW_STEP_FAILED"
    assert result.failure.metadata["step"] == "a"
    assert result.failure.metadata["step_reason"] == "WORKFLOW_REFERENCE_MISSING"
    assert result.failure.metadata["reference"] == "inputs.none"
    assert statuses(result) == {"a": "failed"}


async def test_to_continue_runs_the_rest_and_says_so():
    """A failed step has no output for those after it; the whole is partially completed."""
    told = Told(fail=failing())
    result = await run(
        row(
            call("a", "fail"),
            call("b", x="{{steps.a.success}} {{steps.a.error}}"),
            call("c", x="{{steps.a.output}}"),
            error_strategy="continue",
        ),
        told,
    )
    assert result.status.value == "partially_completed"
    assert statuses(result) == {"a": "failed", "b": "completed", "c": "failed"}
    assert result.outputs == {"b": {"x": "false no"}}
    assert result.facts["failed_steps"] == 2


async def test_a_step_of_its_own_mind_goes_on_where_the_workflow_would_not():
    """`on_error` of the step counts more than the workflow's."""
    told = Told(fail=failing())
    one = await run(row(call("a", "fail", on_error="continue"), call("b")), told)
    other = await run(
        row(call("a", "fail", on_error="fail_fast"), call("b"), error_strategy="continue"), told
    )
    assert statuses(one) == {"a": "failed", "b": "completed"}
    assert statuses(other) == {"a": "failed"}


async def test_a_step_is_tried_again_with_pauses_that_grow():
    """Three tries by default under `retry`; what is beyond help is tried once."""
    times = []

    def late(**given):
        times.append(time.monotonic())
        if len(times) < 3:
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "away")
        return "there"

    policy = {"max_attempts": 4, "delay": 0.03, "multiplier": 3}
    result = await run(row(call("a", "late", retry=policy)), Told(late=late))
    assert result.outputs == {"a": "there"}
    assert result.steps[0].attempts == 3
    assert times[1] - times[0] >= 0.03
    assert times[2] - times[1] >= 0.09

    told = Told(fail=failing())
    retried = await run(
        row(call("a", "fail"), error_strategy="retry", retry={"delay": 0.001}), told
    )
    assert retried.steps[0].attempts == len(told.asked) == 3
    useless = await run(row(call("a", x="{{inputs.none}}", retry={"delay": 9})), told)
    assert useless.steps[0].attempts == 1


async def test_a_step_and_a_workflow_end_in_time():
    """Each has its own error, and what still went on was cancelled."""
    ended = []

    async def slow(**given):
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    told = Told(slow=slow)
    step = await run(row(call("a", "slow", timeout=0.05)), told)
    whole = await run(row(call("a", "slow"), timeout=0.05), told)
    assert step.failure.metadata["step_reason"] == "WORKFLOW_TIME_LIMIT"
    assert whole.failure.reason == "WORKFLOW_TIME_LIMIT"
    assert statuses(whole) == {"a": "cancelled"}
    assert ended == [True, True]


async def test_what_was_done_is_undone_the_last_first():
    """Only what was done and has a compensation, in workflows within too; it reads the outputs."""
    told = Told(fail=failing(), bad=failing())

    def undo(name):
        step = call("u", x=f"{{{{steps.{name}.output.n}}}}")
        return {"compensation": {**step, "name": "u"}}

    steps = [
        call("a", n=1, **undo("a")),
        nested("in", row(call("b", n=2, **undo("b")), call("plain", n=3))),
        call("c", n=4, compensation=call("u", "bad")),
        call("d", "fail", compensation=call("u")),
    ]
    heard = Heard()
    result = await run(row(*steps, rollback=True), told, heard=heard)
    assert told.paths[-3:] == ["c~undo", "in/b~undo", "a~undo"]
    assert told.asked[-2:] == [("in/b~undo", {"x": 2}), ("a~undo", {"x": 1})]
    assert heard.undone == ["c", "in/b", "a"]
    undone = {step.path: step.status.value for step in result.steps if step.is_compensation}
    assert undone == {"c~undo": "failed", "in/b~undo": "completed", "a~undo": "completed"}
    untouched = Told(fail=failing())
    await run(row(*steps), untouched)
    assert not [path for path in untouched.paths if "undo" in path]


def branches(*pairs, **more):
    listed = [{"name": name, "steps": steps} for name, *steps in pairs]
    return {"parallel": {"branches": listed, **more.pop("kind", {})}, **more}


async def test_branches_run_side_by_side_and_no_more_than_said():
    """Eight that wait take as long as one; with two at once four times that."""
    going, most = 0, 0

    async def wait(**given):
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0.02)
        going -= 1
        return given

    told = Told(wait=wait)
    eight = [(f"b{n}", call("s", "wait", n=n)) for n in range(8)]
    result = await run(branches(*eight, kind={"max_concurrency": 8}), told)
    assert most == 8
    assert result.output == {f"b{n}": {"n": n} for n in range(8)}
    assert result.facts["successful_branches"] == result.facts["total_branches"] == 8
    most = 0
    await run(branches(*eight, kind={"max_concurrency": 2}), told)
    assert most == 2
    most = 0
    await run(branches(*eight), told)
    assert most == 4


async def test_the_first_failure_ends_the_others_or_all_are_collected():
    """Fail fast cancels what goes on; `continue` lets it end."""
    ended = []

    async def slow(**given):
        await asyncio.sleep(0.05)
        ended.append(True)

    told = Told(fail=failing("broken"), slow=slow)
    two = (("x", call("a", "slow"), call("b")), ("y", call("c", "fail"), call("d")))
    fast = await run(branches(*two), told)
    assert not ended
    assert statuses(fast) == {"x/a": "cancelled", "y/c": "failed"}
    assert fast.failure.metadata["step"] == "y/c"
    assert fast.facts["stopped_early"]
    assert fast.facts["fail_fast"]
    assert (fast.facts["successful_branches"], fast.facts["failed_branches"]) == (0, 1)
    every = await run(branches(*two, error_strategy="continue"), told)
    assert ended
    assert every.status.value == "partially_completed"
    assert statuses(every) == {
        "x/a": "completed",
        "y/c": "failed",
        "x/b": "completed",
        "y/d": "completed",
    }
    assert (every.facts["successful_branches"], every.facts["failed_branches"]) == (1, 1)


def choice(*pairs, **more):
    listed = [
        {"name": name, "condition": condition, "steps": [call(f"s_{name}")]}
        for name, condition in pairs
    ]
    return {"conditional": {"branches": listed, **more}}


NO, YES = {"constant": False}, {"constant": True}


async def test_the_first_branch_that_is_met_is_taken():
    """Or all such, or the default steps where none is."""
    first = await run(choice(("a", NO), ("b", YES), ("c", YES)))
    assert statuses(first) == {"b/s_b": "completed"}
    assert first.facts["matched_branches"] == first.facts["executed_branches"] == 1
    assert first.facts["short_circuit_evaluation"]
    every = await run(choice(("a", NO), ("b", YES), ("c", YES), execute_all_matching=True))
    assert list(statuses(every)) == ["b/s_b", "c/s_c"]
    assert set(every.output) == {"b", "c"}
    none = await run(choice(("a", NO), default_steps=[call("d")]))
    assert statuses(none) == {"default/d": "completed"}
    assert none.facts["default_taken"]
    nothing = await run(choice(("a", NO)))
    assert nothing.success
    assert nothing.steps == ()


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({"shared_data_equals": {"key": "k", "value": 1}}, True),
        ({"shared_data_equals": {"key": "k", "value": 2}}, False),
        ({"shared_data_equals": {"key": "none", "value": None}}, False),
        ({"shared_data_exists": "k"}, True),
        ({"shared_data_exists": "none"}, False),
        ({"step_output_equals": {"step": "a", "value": {"x": "yes sir"}}}, True),
        ({"step_output_equals": {"step": "a", "value": "no"}}, False),
        ({"step_succeeded": "a"}, True),
        ({"step_succeeded": "f"}, False),
        ({"step_failed": "f"}, True),
        ({"step_failed": "a"}, False),
        ({"step_output_contains": {"step": "a", "text": "yes"}}, True),
        ({"step_output_contains": {"step": "f", "text": ""}}, False),
        ({"expression": "shared.k == 1 and steps.a.success"}, True),
        ({"expression": "shared_data.k == 2"}, False),
        ({"expression": "step_result.f.success"}, False),
        ({"function": "say_yes"}, True),
        ({"function": "say_no"}, False),
        ({"all": {"conditions": [YES, {"shared_data_exists": "k"}]}}, True),
        ({"all": {"conditions": [YES, NO]}}, False),
        ({"any": {"conditions": [NO, YES]}}, True),
        ({"any": {"conditions": [NO]}}, False),
        ({"not": NO}, True),
        (
            {
                "agent_classification": {
                    "agent": {"name": "judge"},
                    "input": "is it {{steps.a.output.x}}?",
                    "categories": ["good", "bad"],
                    "expected": "good",
                }
            },
            True,
        ),
    ],
)
async def test_every_kind_of_condition(condition, met):
    """A step is left out where its condition is not met."""
    told = Told(
        fail=failing(),
        say_yes=lambda shared: shared["k"] == 1,
        say_no=lambda shared: False,
        classify=lambda text: "good" if text == "is it yes sir?" else "bad",
    )
    result = await run(
        row(
            call("a", x="yes sir"),
            call("f", "fail", on_error="continue"),
            call("c", condition=condition),
            shared_data={"k": 1},
        ),
        told,
    )
    assert statuses(result)["c"] == ("completed" if met else "skipped")


def loop(body, **more):
    return {"loop": {"body": body, **more}}


async def test_a_loop_goes_round_as_often_as_it_is_told():
    """Over numbers forwards and backwards, values, and a list from a reference."""
    body = [call("s", v="{{loop_value}}", i="{{loop_index}}", n="{{iteration}}")]
    numbers = await run(loop(body, range={"start": 1, "end": 8, "step": 3}))
    assert [one["v"] for one in numbers.output] == [1, 4, 7]
    assert [one["i"] for one in numbers.output] == [0, 1, 2]
    assert [one["n"] for one in numbers.output] == [1, 2, 3]
    assert list(statuses(numbers)) == ["#1/s", "#2/s", "#3/s"]
    assert numbers.facts["total_iterations"] == numbers.facts["completed_iterations"] == 3
    assert numbers.facts["iterator_type"] == "range"
    back = await run(loop(body, range={"start": 3, "end": 0, "step": -1}))
    assert [one["v"] for one in back.output] == [3, 2, 1]
    values = await run(loop(body, collection=["{{inputs.x}}", 2, {"y": [1]}]), inputs={"x": "X"})
    assert [one["v"] for one in values.output] == ["X", 2, {"y": [1]}]
    assert values.facts["collection_size"] == 3
    found = await run(loop(body, collection_from="{{inputs.x.list}}"), inputs={"x": {"list": [7]}})
    assert [one["v"] for one in found.output] == [7]
    wrong = await run(loop(body, collection_from="{{inputs.x}}"), inputs={"x": "text"})
    assert wrong.failure.reason == "FIELD_INVALID"
    none = await run(loop(body, collection=[]))
    assert none.success
    assert none.output == []


async def test_a_loop_goes_on_while_and_until():
    """Conditions see what the last iteration's steps gave and what they shared."""
    told = Told(up=lambda n: n + 1)
    body = [call("s", "up", n="{{shared.n}}", save_as="n")]
    going = loop(body, **{"while": {"expression": "shared.n < 4"}})
    result = await run({**going, "shared_data": {"n": 0}}, told)
    assert result.output == [1, 2, 3, 4]
    assert result.facts["break_reason"] == "completed"
    stopped = loop(
        body,
        range={"start": 0, "end": 99},
        break_conditions=[NO, {"step_output_equals": {"step": "s", "value": 3}}],
    )
    result = await run({**stopped, "shared_data": {"n": 0}}, told)
    assert result.output == [1, 2, 3]
    assert result.facts["break_reason"] == "break_condition_2"
    ever = loop(body, max_iterations=5, **{"while": YES})
    result = await run({**ever, "shared_data": {"n": 0}}, told)
    assert len(result.output) == 5
    assert result.facts["break_reason"] == "max_iterations"


@pytest.mark.parametrize(
    ("keep", "output"),
    [
        ({}, [1, 2, 3, 4]),
        ({"aggregation": "collect_all"}, [1, 2, 3, 4]),
        ({"aggregation": "last_only"}, 4),
        ({"aggregation": "first_n", "aggregation_count": 2}, [1, 2]),
        ({"aggregation": "last_n", "aggregation_count": 3}, [2, 3, 4]),
        ({"aggregation": "none"}, []),
    ],
)
async def test_what_is_kept_of_iterations(keep, output):
    """All, the last, some, or nothing."""
    told = Told(same=lambda n: n)
    body = [call("s", "same", n="{{loop_value}}")]
    result = await run(loop(body, range={"start": 1, "end": 5}, **keep), told)
    assert result.output == output


async def test_an_iteration_that_fails_ends_the_loop_or_not():
    """With `continue_on_error` the others are done, and the whole is partially completed."""

    def odd(n):
        if n % 2:
            raise ServiceError(Reason.TOOL_FAILED, "odd")
        return n

    body = [call("s", "odd", n="{{loop_value}}")]
    ended = await run(loop(body, range={"start": 0, "end": 4}), Told(odd=odd))
    assert list(statuses(ended)) == ["#1/s", "#2/s"]
    assert ended.facts["break_reason"] == "error"
    went = await run(
        loop(body, range={"start": 0, "end": 4}, continue_on_error=True), Told(odd=odd)
    )
    assert went.output == [0, 2]
    assert went.status.value == "partially_completed"
    assert went.facts["completed_iterations"] == 2
    assert went.facts["failed_steps"] == 2


async def test_workflows_stand_within_each_other():
    """One described within reads what is around it; what it shares stays within."""
    inner = loop(
        [call("s", v="{{steps.first.output.x}}{{loop_value}}{{inputs.own}}")], collection=[1]
    )
    result = await run(
        row(
            call("first", x="{{inputs.x}}"),
            nested("each", inner, inputs={"own": "o"}),
            call("last", v="{{steps.each.output[0].v}}"),
        ),
        inputs={"x": "X"},
    )
    assert result.outputs["last"] == {"v": "X1o"}
    assert "loop_value" not in result.shared_data
    assert list(statuses(result)) == ["first", "each", "each#1/s", "last"]


async def test_a_registered_workflow_sees_its_inputs_only():
    """It was written by itself; its failure is that of the step that runs it."""
    reg = {"sub": {**row(call("s", v="{{inputs.own}}")), "name": "sub"}}
    step = {"name": "a", "workflow": {"name": "sub", "inputs": {"own": "{{inputs.x}}"}}}
    good = await run(row(step), inputs={"x": 1}, registered=reg)
    assert good.output == {"v": 1}
    blind = {"sub": {**row(call("s", v="{{inputs.x}}")), "name": "sub"}}
    bad = await run(row(step), inputs={"x": 1}, registered=blind)
    assert bad.failure.metadata["step"] == "a/s"
    unknown = await run(row({"name": "a", "workflow": {"name": "none"}}))
    assert unknown.failure.metadata["step_reason"] == "WORKFLOW_NOT_FOUND"


async def test_money_of_a_workflow_ends_it_before_the_next_agent():
    """What is spent is added up, failures included."""

    class Rich(Told):
        async def act(self, order):
            self.asked.append((order.path, order.cost_left_usd))
            return Acted("text", Spent(input_tokens=2, cost_usd=0.6))

        def repeat(self, order):
            return Repeat.ALWAYS

    told = Rich()
    ask = [{"name": f"a{n}", "agent": {"agent": {"name": "x"}, "input": "q"}} for n in range(3)]
    spec = workflow(row(*ask, max_cost_usd=1))
    steps = Steps(told, Kept(), Heard(), SystemClock(), max_cost_usd=spec.max_cost_usd)
    result = await Engine(steps, NoneRegistered(), "e").run(spec, {})
    assert [round(left, 3) for _, left in told.asked] == [1.0, 0.4]
    assert result.failure.metadata["step_reason"] == "BUDGET_EXHAUSTED"
    assert result.spent.input_tokens == 4
    assert round(result.spent.cost_usd, 3) == 1.2


async def test_money_of_a_workflow_within_is_its_own_purse():
    """Its agents draw from it and from those around it; what a lost process has paid is paid."""
    seen = []

    class Paying(Told):
        async def act(self, order):
            limits = [(purse.limit_nano, purse.spent.nano) for purse in order.purses]
            seen.append((order.path, limits))
            for purse in order.purses:  # as the ledger does
                purse.spent += Amount(4 * 10**8)
            return Acted("text", Spent(cost_usd=0.4))

        def repeat(self, order):
            return Repeat.ALWAYS

    def ask(name):
        return {"name": name, "agent": {"agent": {"name": "x"}, "input": "q"}}

    inner = nested("in", row(ask("c"), ask("d"), max_cost_usd=1))
    spec = workflow(row(ask("a"), nested("out", row(ask("b"), inner, max_cost_usd=2)), ask("e")))
    one, two, spent = 10**9, 2 * 10**9, 4 * 10**8
    wanted = [
        ("a", []),
        ("out/b", [(two, 0)]),
        ("out/in/c", [(two, spent), (one, 0)]),
        ("out/in/d", [(two, 2 * spent), (one, spent)]),
        ("e", []),
    ]
    kept = Kept()
    await Engine(stepping(Paying(), kept), NoneRegistered(), "e").run(spec, {})
    assert seen == wanted
    seen.clear()
    del kept.results["out/in/d"], kept.results["e"]
    again = stepping(Paying(), kept)
    await Engine(again, NoneRegistered(), "e").run(spec, {})
    assert seen == wanted[3:]


async def test_a_cancelled_workflow_ends_its_steps():
    """The cancellation reaches what goes on, and what was done is told."""
    ended = []

    async def slow(**given):
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    steps = stepping(Told(slow=slow), Kept())
    engine = Engine(steps, NoneRegistered(), "e")
    task = asyncio.create_task(engine.run(workflow(row(call("a"), call("b", "slow"))), {}))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    assert [step.status.value for step in steps.results.values()] == ["completed", "cancelled"]


async def test_a_result_is_plain_and_in_bounds():
    """What a step gives is bounded, since it is kept."""
    told = Told(big=lambda: "x" * 600_000)
    result = await run(row(call("a", "big")), told)
    assert result.failure.metadata["step_reason"] == "LIMIT_EXCEEDED"


async def test_an_agent_that_is_asked_nothing_is_asked_what_came_before():
    """Of the list around it too, and as it is: nothing in it is read for references."""

    class Asked(Told):
        async def act(self, order):
            if order.step.kind == "function":
                return await super().act(order)
            self.asked.append((order.path, order.arguments["input"]))
            return Acted("said")

        def repeat(self, order):
            return Repeat.ALWAYS

    told = Asked(sly=lambda: "{{inputs.x}}")
    agent = {"name": "ask", "agent": {"agent": {"name": "x"}}}
    await run(row(call("a", "sly"), nested("n", row(agent)), {**agent, "name": "b"}), told)
    assert told.asked[1:] == [("n/ask", "{{inputs.x}}"), ("b", "said")]


async def test_a_function_may_share_more():
    """What it gives beside its output becomes shared data."""
    told = Told(share=lambda: Acted(1, shared={"x": 2}))
    heard = Heard()
    result = await run(row(call("a", "share"), call("b", x="{{shared.x}}")), told, heard=heard)
    assert result.outputs == {"a": 1, "b": {"x": 2}}
    assert heard.changed == [("a", {"x": 2})]


async def test_shared_data_is_bounded_and_a_loop_in_it_is_not_slow():
    """Twenty values of a third of a MiB are too many; the same key again and again is one."""
    told = Told(big=lambda n: "x" * 350_000)
    many = [call(f"s{n}", "big", n=n, save_as=f"k{n}") for n in range(20)]
    result = await run(row(*many), told)
    assert result.failure.reason == "LIMIT_EXCEEDED"
    body = [call("s", "big", n="{{loop_value}}", save_as="k")]
    again = loop(body, range={"start": 0, "end": 30}, aggregation="none")
    result = await run(again, told)
    assert result.success, result.failure


async def test_a_registered_workflow_is_given_what_it_needs():
    """An input that it wants and is not given is the failure of the step that runs it."""
    sub = {**row(call("s", v="{{inputs.n}}")), "name": "sub", "input_schemas": {"n": ""}}
    step = {"name": "a", "workflow": {"name": "sub", "inputs": {"m": 1}}}
    result = await run(row(step), registered={"sub": sub})
    assert "inputs.n must be given to sub" in result.failure.message
    typed = {**sub, "input_schemas": {"n": '{"type": "integer"}'}}
    step["workflow"]["inputs"] = {"n": "x"}
    result = await run(row(step), registered={"sub": typed})
    assert "does not fit" in result.failure.message


async def test_what_all_steps_give_is_bounded():
    """A loop cannot fill the memory with outputs that each are small enough."""
    told = Told(big=lambda: "x" * 500_000)
    result = await run(loop([call("s", "big")], range={"end": 100}, aggregation="none"), told)
    assert result.failure.reason == "LIMIT_EXCEEDED"
    assert 60 < len(told.asked) < 70
