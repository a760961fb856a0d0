"""Money through the gateway, over real sockets: what is spent, what may be, what is told of it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace

import pytest
from llmspell import AsyncClient, Client, PermissionDenied, ResourceExhausted
from llmspell.types import AgentLimits, AgentSpec, RunLimits

from tests.models import openai_wire as wire
from tests.models.openai_wire import say
from tests.models.scripted import Pause

ANSWER_USD = 10 * 0.001 + 5 * 0.01
"""What one answer of a paid model costs: ten tokens read, five written."""


@contextmanager
def tenant(wired, name):
    """A client of a tenant of its own."""
    up = wired.up
    up.tenant(name)
    with Client(up.address, up.keys[name]) as client:
        yield client


@pytest.fixture
def two(wired):
    """Clients of two tenants that must never meet."""
    with tenant(wired, "spends-one") as one, tenant(wired, "spends-two") as other:
        yield one, other
        for client in (one, other):
            for budget in client.list_budgets():
                client.delete_budget(budget.subject, period=budget.period)


def paid(wired, name, *answers):
    """A model that costs money, and an agent that asks it."""
    model = wired.models.add(f"paid-{name}", *(answers or (say("So much."),)))
    return AgentSpec(name=name, model=model, limits=AgentLimits(max_tokens=20))


def test_what_was_spent_is_told(wired, two):
    """On each answer, and by model, agent and run in the accounts of its own tenant."""
    one, other = two
    spec = paid(wired, "teller")
    assert one.execute_agent(spec, "How much?").spent.cost_usd == pytest.approx(ANSWER_USD)
    other.execute_agent(spec, "How much?")
    source = (
        'local agent = Agent.builder():name("teller"):model("wire/paid-teller"):build()\n'
        'return agent:execute({text = "How much?"}).metadata ~= nil'
    )
    started, *_ = one.run(source)
    report = one.get_usage(group_by=["model", "agent"])
    (row,) = [row for row in report.rows if row.keys[1] == "teller"]
    assert row.keys == ("wire/paid-teller", "teller")
    assert (row.spent.model_calls, row.spent.output_tokens) == (2, 10)
    assert row.spent.cost_usd == pytest.approx(2 * ANSWER_USD)
    runs = {row.keys[0]: row.spent.model_calls for row in one.get_usage(group_by=["run"]).rows}
    assert runs[started.run_id] == 1
    assert other.get_usage(group_by=["agent"]).rows[0].spent.model_calls == 1


def test_budgets_are_apart(wired, two):
    """One tenant's budget is neither seen by another nor spent by it."""
    one, other = two
    one.set_budget(limit_usd=one.get_usage().total.cost_usd + ANSWER_USD / 2)
    assert other.list_budgets() == []
    spec = paid(wired, "apart")
    with pytest.raises(ResourceExhausted) as raised:
        one.execute_agent(spec, "How much?")
    assert raised.value.reason == "BUDGET_EXHAUSTED"
    assert raised.value.metadata["budget"] == "tenant/month"
    assert (raised.value.metadata["tokens"], raised.value.metadata["cost_usd"]) == ("0", "0")
    assert wired.models.asked("paid-apart") == []
    other.execute_agent(spec, "How much?")
    assert not other.delete_budget()
    assert one.delete_budget()
    one.execute_agent(spec, "How much?")


def test_an_agents_budget_holds_for_it_alone(wired, two):
    """By name, over a day; another agent of the tenant goes on."""
    one, _ = two
    spec = paid(wired, "frugal")
    one.set_budget("agent:frugal", period="day", limit_tokens=60)
    one.execute_agent(spec, "How much?")
    one.execute_agent(spec, "How much?")
    with pytest.raises(ResourceExhausted) as raised:
        one.execute_agent(spec, "How much?")
    assert raised.value.metadata["budget"] == "agent:frugal/day"
    assert raised.value.metadata["unit"] == "tokens"
    one.execute_agent(replace(spec, name="other"), "How much?")


def test_a_budget_that_ends_in_mid_answer(wired, two):
    """What came was streamed; then one error, with what it took; nothing is overspent."""
    one, _ = two

    def as_long_as_it_may(request):
        limit = request.json.get("max_completion_tokens") or request.json["max_tokens"]
        usage = wire.Usage(prompt=10, completion=limit)
        return say("word " * 9, finish="length", usage=usage)

    model = wired.models.behave("paid-endless", as_long_as_it_may)
    spec = AgentSpec(name="endless", model=model)
    before = one.get_usage().total.cost_usd
    one.set_budget(limit_usd=before + 2.0)
    heard = []
    with pytest.raises(ResourceExhausted) as raised:
        heard.extend(event.text for event in one.stream_agent(spec, "For ever?"))
    assert "word" in "".join(heard)
    assert raised.value.reason == "BUDGET_EXHAUSTED"
    (budget,) = one.list_budgets()
    assert before + 1.5 < budget.spent_usd <= budget.limit_usd
    assert float(raised.value.metadata["cost_usd"]) == pytest.approx(budget.spent_usd - before)


async def all_at_once(up, key, spec, count):
    """So many agents at the same time; answers, and reasons of refusals."""
    async with AsyncClient(up.address, key, timeout_s=60) as client:
        asked = [client.execute_agent(spec, "How much?") for _ in range(count)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
    unexpected = [end for end in ended if isinstance(end, BaseException)]
    reasons = {getattr(end, "reason", repr(end)) for end in unexpected}
    return [end for end in ended if not isinstance(end, BaseException)], reasons


def test_a_hundred_agents_at_once_under_one_budget(wired):
    """However they meet, the provider's bill stays within the budget, and is what is told."""
    name = "spends-crowd"

    def slowly(request):
        return replace(wire.completion(wire.message("So much.")), before=Pause(0.02))

    model = wired.models.behave("paid-crowd", slowly)
    spec = AgentSpec(name="crowd", model=model, limits=AgentLimits(max_tokens=20))
    with tenant(wired, name) as client:
        client.set_budget(limit_usd=3.0)
        answers, reasons = asyncio.run(all_at_once(wired.up, wired.up.keys[name], spec, 100))
        assert reasons == {"BUDGET_EXHAUSTED"}
        bill = len(wired.models.asked("paid-crowd")) * ANSWER_USD
        assert bill == pytest.approx(len(answers) * ANSWER_USD)
        assert 2.5 < bill <= 3.0
        (budget,) = client.list_budgets()
        assert budget.spent_usd == pytest.approx(bill)
        assert budget.reserved_usd == 0


def test_agents_of_a_workflow_share_its_limit(wired, two):
    """Side by side they spend no more than it may, and the accounts have them under its run."""
    one, _ = two

    def slowly(request):
        return replace(wire.completion(wire.message("So much.")), before=Pause(0.1))

    model = wired.models.behave("paid-branch", slowly)
    spec = AgentSpec(name="branch", model=model, limits=AgentLimits(max_tokens=20))
    one.create_agent(spec, replace=True)
    ask = {"name": "ask", "type": "agent", "agent": "branch", "input": "How much?"}
    branches = [{"name": f"b{number}", "steps": [ask]} for number in range(8)]
    workflow = {
        "name": "together",
        "type": "parallel",
        "max_concurrency": 8,
        "branches": branches,
        "max_cost_usd": 0.4,
        "error_strategy": "continue",
    }
    result = one.execute_workflow(workflow)
    assert not result.success
    bill = len(wired.models.asked("paid-branch")) * ANSWER_USD
    assert 0.1 < bill <= 0.4
    reasons = {step.failure.metadata.get("budget") for step in result.steps if step.failure}
    assert "workflow" in reasons
    runs = {row.keys[0]: row.spent.cost_usd for row in one.get_usage(group_by=["run"]).rows}
    assert runs[result.execution_id] == pytest.approx(bill)


def test_a_run_has_a_limit_of_its_own(wired, two):
    """Agents of one script draw from it together; the script is told when it is gone."""
    one, _ = two
    paid(wired, "run-limited")
    source = """
        local told = {}
        for number = 1, 5 do
          local agent = Agent.builder():name("a" .. number):model("wire/paid-run-limited")
            :max_tokens(20):build()
          local ok, why = pcall(agent.execute, agent, {text = "How much?"})
          told[#told + 1] = ok and "ok" or tostring(type(why) == "table" and why.metadata.budget)
        end
        return table.concat(told, " ")
    """
    *_, result = one.run(source, limits=RunLimits(max_cost_usd=0.4))
    assert result.value.startswith("ok")
    assert result.value.endswith("run")
    assert len(wired.models.asked("paid-run-limited")) * ANSWER_USD <= 0.4


def test_only_an_admin_sets_budgets(wired):
    """A writer sees them, and does not change them; nor what was spent, by way of state."""
    name = wired.up.tenant("spends-strict")
    with Client(wired.up.address, wired.up.operator_key) as operator:
        key = operator.create_key(name, roles=["writer"]).key
    with tenant(wired, name) as admin, Client(wired.up.address, key) as writer:
        admin.set_budget(limit_usd=1.0)
        assert writer.list_budgets()[0].limit_usd == 1.0
        for change in (lambda: writer.set_budget(limit_usd=9.0), writer.delete_budget):
            with pytest.raises(PermissionDenied):
                change()
        writer.set_state("budget/month/tenant", {"limit_nano": 9}, scope=f"custom:money_{name}")
        assert writer.list_budgets()[0].limit_usd == 1.0


def test_a_deleted_tenant_leaves_no_accounts(wired):
    """A later tenant of the same name has spent nothing, and has no budgets."""
    up = wired.up
    with Client(up.address, up.operator_key) as operator:
        for _ in range(2):
            operator.create_tenant("spends-briefly")
            key = operator.create_key("spends-briefly").key
            with Client(up.address, key) as client:
                assert client.list_budgets() == []
                assert client.get_usage().total.model_calls == 0
                client.set_budget(limit_usd=5.0)
                client.execute_agent(paid(wired, "brief"), "How much?")
                assert client.get_usage().total.model_calls == 1
            operator.delete_tenant("spends-briefly")


def test_what_would_be_spent(wired, two):
    """Agents, workflows and ingestions have a price beforehand, and nothing is asked for it."""
    one, other = two
    spec = paid(wired, "dear")
    one.create_agent(spec, replace=True)
    estimate = one.estimate_agent("dear", "How much?")
    assert 0 < estimate.likely.cost_usd <= estimate.most.cost_usd
    step = {"name": "ask", "type": "agent", "agent": "dear", "input": "How much?"}
    workflow = {"name": "w", "type": "sequential", "steps": [step, step | {"name": "again"}]}
    twice = one.estimate_workflow(workflow)
    assert twice.likely.cost_usd == pytest.approx(2 * estimate.likely.cost_usd, rel=0.1)
    assert one.estimate_ingestion(["words"]).most.cost_usd == 0
    with pytest.raises(Exception, match="dear"):
        other.estimate_agent("dear")
    assert wired.models.asked("paid-dear") == []


def test_the_shell(wired, two):
    """`usage` has a table and a plot by day; `budget` sets and lists; `estimate` prices."""
    one, _ = two
    one.execute_agent(paid(wired, "shown"), "How much?")
    up, name = wired.up, "spends-one"
    shown = up.cli("usage", "--by", "agent", tenant=name)
    assert shown.returncode == 0, shown.stderr
    assert "shown" in shown.stdout
    assert "█" in shown.stdout
    report = up.cli_json("usage", "--by", "day,model", tenant=name)
    assert report["total"]["cost_usd"] == pytest.approx(one.get_usage().total.cost_usd)
    (budget,) = up.cli_json("budget", "set", "--usd", "100", tenant=name)
    assert (budget["subject"], budget["period"], budget["limit_usd"]) == ("tenant", "month", 100)
    listed = up.cli("budget", "list", tenant=name)
    assert "$100.00" in listed.stdout
    priced = up.cli("estimate", "ingestion", __file__, tenant=name)
    assert "at most" in priced.stdout, priced.stderr
