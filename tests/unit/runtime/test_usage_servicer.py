"""UsageService over a real ledger and store: accounts, budgets, and prices beforehand."""

import asyncio
from datetime import UTC, datetime

import pytest
from llmspell.v1 import agent_pb2, types_pb2, usage_pb2, workflow_pb2

from services.common.clock import FakeClock
from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.runtime.money.model import Price
from services.runtime.money.prices import Prices
from services.runtime.providers.model import Usage
from services.runtime.servicers.usage import UsageServicer
from tests.state_engines import embedded_keeper
from tests.unit.runtime.money_world import DirectState, account, ledger, wish

START = datetime(2026, 10, 30, 12, tzinfo=UTC)
MILLION = Price(input_usd=1.0, output_usd=10.0)


@pytest.fixture
def clock():
    return FakeClock(int(START.timestamp()) * 10**9)


@pytest.fixture
async def book(tmp_path, clock):
    keeper = embedded_keeper(tmp_path, clock, sync=False)
    made = ledger(DirectState(keeper), clock, "one")
    yield made
    await made.close()
    keeper.engine.close()


AGENTS = {}
WORKFLOWS = {}


async def get_agent(request, context):
    if request.name not in AGENTS:
        raise ServiceError(Reason.AGENT_NOT_FOUND, "No such agent.", agent=request.name)
    return agent_pb2.GetAgentResponse(agent=agent_pb2.Agent(spec=AGENTS[request.name]))


async def get_workflow(request, context):
    kept = workflow_pb2.RegisteredWorkflow(workflow=WORKFLOWS[request.name])
    return workflow_pb2.GetWorkflowResponse(workflow=kept)


@pytest.fixture
def ask(book, clock):
    """Calls a method as a tenant."""
    AGENTS.clear()
    WORKFLOWS.clear()
    own = {
        "/llmspell.v1.AgentService/GetAgent": get_agent,
        "/llmspell.v1.WorkflowService/GetWorkflow": get_workflow,
    }
    prices = Prices(clock, own={"mill/*": MILLION})
    model = "local/embedding"
    servicer = UsageServicer(book, prices, clock, own=own, embedding_model=model, calls=None)

    async def serve(name, tenant, fields):
        set_context(CallContext(tenant=tenant, principal="k1", permissions=("*",)))
        request = getattr(usage_pb2, f"{name}Request")(**fields)
        return await getattr(servicer, name)(request, None)

    async def call(name, tenant="acme", **fields):
        return await asyncio.create_task(serve(name, tenant, fields))

    return call


async def refused(call, reason, **metadata):
    """Ends with this reason, and these facts of it."""
    with pytest.raises(ServiceError) as caught:
        await call
    assert caught.value.reason == reason
    assert metadata.items() <= caught.value.metadata.items()


async def spend(book, tokens, *, model="mill/one", tenant="acme", **who):
    """A call of a model."""
    asked = wish(tokens, price=MILLION)
    asked = type(asked)(model=model, price=MILLION, input_tokens=0, output_tokens_max=tokens)
    held = await book.reserve(account(tenant, **who), asked)
    await held.settle(Usage(input_tokens=10, output_tokens=tokens))


def rows(answer):
    """Tokens written, by keys."""
    return {tuple(row.keys): row.spent.output_tokens for row in answer.rows}


async def test_usage_is_grouped(ask, book, clock):
    """By day, month, model, agent and run, in any order, with the sum of all."""
    await spend(book, 1, agent="a", run_id="r1")
    await spend(book, 2, model="mill/two")
    clock.advance(3 * 24 * 3600)
    await spend(book, 4, agent="a", run_id="r2")
    await spend(book, 100, tenant="globex", agent="a")
    answer = await ask("GetUsage")
    assert rows(answer) == {(): 7}
    assert (answer.total.model_calls, answer.total.input_tokens) == (3, 30)
    assert answer.total.cost_usd == pytest.approx(7 * 10e-6 + 30e-6)
    by = usage_pb2
    answer = await ask("GetUsage", group_by=[by.USAGE_GROUP_DAY])
    assert rows(answer) == {("2026-10-30",): 3, ("2026-11-02",): 4}
    answer = await ask("GetUsage", group_by=[by.USAGE_GROUP_MONTH, by.USAGE_GROUP_AGENT])
    assert rows(answer) == {("2026-10", ""): 2, ("2026-10", "a"): 1, ("2026-11", "a"): 4}
    answer = await ask("GetUsage", group_by=[by.USAGE_GROUP_MODEL])
    assert rows(answer) == {("mill/one",): 5, ("mill/two",): 2}
    answer = await ask("GetUsage", group_by=[by.USAGE_GROUP_RUN])
    assert rows(answer) == {("r1",): 1, ("r2",): 4}
    assert rows(await ask("GetUsage", tenant="globex")) == {(): 100}


async def test_usage_of_some_days(ask, book, clock):
    """From a day on, before a time; runs are told of for 30 days."""
    await spend(book, 1, run_id="r1")
    clock.advance(40 * 24 * 3600)
    await spend(book, 2, run_id="r2")
    assert rows(await ask("GetUsage")) == {(): 2}
    answer = await ask("GetUsage", start_time=START)
    assert rows(answer) == {(): 3}
    answer = await ask("GetUsage", start_time=START, end_time=datetime(2026, 12, 9, tzinfo=UTC))
    assert rows(answer) == {(): 1}
    answer = await ask("GetUsage", start_time=datetime(1990, 1, 1, tzinfo=UTC))
    assert rows(answer) == {(): 3}
    runs = [usage_pb2.USAGE_GROUP_RUN]
    assert rows(await ask("GetUsage", start_time=START, group_by=runs)) == {("r2",): 2}
    past = {"start_time": START, "end_time": START}
    await refused(ask("GetUsage", **past), Reason.FIELD_INVALID, field="start_time")
    await refused(ask("GetUsage", group_by=[99]), Reason.FIELD_INVALID, field="group_by")


async def test_budgets(ask, book):
    """They are told with what is spent and held, in order, and to their own tenant alone."""
    await spend(book, 100_000, agent="writer")
    answer = await ask("SetBudget", budget={"subject": "tenant", "limit_usd": 5.0})
    assert answer.budget.spent_usd == pytest.approx(1.00001)
    assert answer.budget.period == usage_pb2.BUDGET_PERIOD_MONTH
    assert answer.budget.period_end_time.ToDatetime(tzinfo=UTC) == datetime(2026, 11, 1, tzinfo=UTC)
    daily = {"subject": "agent:writer", "period": "BUDGET_PERIOD_DAY", "limit_tokens": 200_000}
    await ask("SetBudget", budget=daily)
    held = await book.reserve(account(agent="writer"), wish(50_000, price=MILLION))
    first, second = (await ask("ListBudgets")).budgets
    assert (first.subject, first.spent_tokens, first.reserved_tokens) == (
        "agent:writer",
        100_010,
        50_000,
    )
    assert (second.subject, second.reserved_usd) == ("tenant", pytest.approx(0.5))
    held.release()
    assert not (await ask("ListBudgets", tenant="globex")).budgets
    gone = {"subject": "agent:writer", "period": "BUDGET_PERIOD_DAY"}
    assert not (await ask("DeleteBudget", tenant="globex", **gone)).deleted
    assert (await ask("DeleteBudget", **gone)).deleted
    assert not (await ask("DeleteBudget", **gone)).deleted
    assert (await ask("PurgeUsage")).deleted_count > 0
    assert not (await ask("ListBudgets")).budgets
    assert (await ask("GetUsage")).total.output_tokens == 0


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({}, Reason.FIELD_REQUIRED),
        ({"subject": "tenant"}, Reason.FIELD_REQUIRED),
        ({"subject": "user:x", "limit_usd": 1.0}, Reason.FIELD_INVALID),
        ({"subject": "everybody", "limit_usd": 1.0}, Reason.SCOPE_INVALID),
        ({"subject": "tenant", "limit_usd": -1.0}, Reason.FIELD_INVALID),
        ({"subject": "tenant", "limit_usd": float("nan")}, Reason.FIELD_INVALID),
        ({"subject": "tenant", "limit_usd": 1e-12}, Reason.FIELD_INVALID),
        ({"subject": "tenant", "limit_tokens": -1}, Reason.FIELD_INVALID),
        ({"subject": "tenant", "limit_usd": 1.0, "period": 9}, Reason.FIELD_INVALID),
    ],
)
async def test_budgets_that_are_none(ask, budget, reason):
    """Each is refused with its field."""
    await refused(ask("SetBudget", budget=budget), reason)
    assert not (await ask("ListBudgets")).budgets


def agent(**fields):
    """An agent of a model that costs ten dollars a million tokens written."""
    return agent_pb2.AgentSpec(**{"name": "a", "model": "mill/one"} | fields)


def asked(spec, text="x" * 400, **fields):
    """One execution of it."""
    ref = agent_pb2.AgentRef(spec=spec) if not isinstance(spec, str) else {"name": spec}
    return {"agent": {"agent": ref, "input": {"text": text}, **fields}}


async def test_an_agent_beforehand(ask, book):
    """What it reads and may write, by its price; surer once there were calls like it."""
    answer = await ask("EstimateCost", **asked(agent(limits={"max_tokens": 1000})))
    assert (answer.likely.input_tokens, answer.likely.output_tokens) == (116, 300)
    assert answer.most.output_tokens == 1000
    assert answer.likely.cost_usd == pytest.approx(116e-6 + 300e-5)
    assert answer.most.cost_usd >= answer.likely.cost_usd
    await spend(book, 50, agent="a")
    surer = await ask("EstimateCost", **asked(agent(limits={"max_tokens": 1000})))
    assert surer.likely.output_tokens == 50
    assert surer.confidence > answer.confidence
    assert all(note.endswith(".") for note in surer.notes)


async def test_an_agent_with_tools_beforehand(ask):
    """It is asked several times, and reads all again each time; its own limit of money holds."""
    plain = await ask("EstimateCost", **asked(agent()))
    tools = await ask("EstimateCost", **asked(agent(tools=["calculator"])))
    assert tools.likely.model_calls == 3
    assert tools.likely.input_tokens > 3 * plain.likely.input_tokens
    assert tools.most.model_calls == 25
    limited = await ask(
        "EstimateCost", **asked(agent(tools=["calculator"], limits={"max_cost_usd": 0.01}))
    )
    assert limited.most.cost_usd == pytest.approx(0.01)


async def test_registered_and_composite_agents_beforehand(ask):
    """Members count together; of those of which one is chosen, the dearest."""
    AGENTS["writer"] = agent(name="writer")
    one = await ask("EstimateCost", **asked("writer"))
    members = {"agents": [{"name": "writer"}, {"name": "writer"}]}
    both = agent_pb2.AgentSpec(name="both", composite={"strategy": 2} | members)
    answer = await ask("EstimateCost", **asked(both))
    assert answer.likely.cost_usd == pytest.approx(2 * one.likely.cost_usd)
    routed = {"strategy": 4, "router_function": "choose"} | members
    answer = await ask("EstimateCost", **asked(agent_pb2.AgentSpec(name="r", composite=routed)))
    assert answer.likely.cost_usd == pytest.approx(one.likely.cost_usd)
    await refused(ask("EstimateCost", **asked("nobody")), Reason.AGENT_NOT_FOUND)


async def test_what_has_no_price_and_what_is_free(ask):
    """An unknown price counts as nothing and says so; a basic agent asks no model."""
    answer = await ask("EstimateCost", **asked(agent(model="nobody/model")))
    assert answer.likely.cost_usd == 0
    assert answer.most.estimated
    assert answer.confidence <= 0.1
    assert any("not known" in note for note in answer.notes)
    answer = await ask("EstimateCost", **asked(agent(type="basic")))
    assert (answer.likely.model_calls, answer.confidence) == (0, 1.0)
    await refused(ask("EstimateCost"), Reason.FIELD_REQUIRED)


def step(name="s", text="x" * 400, **fields):
    """A step that asks the agent."""
    return {"name": name, "agent": {"agent": {"spec": agent()}, "input": text}, **fields}


async def cost(ask, **kind):
    """(likely, most) US dollars of a workflow."""
    answer = await ask("EstimateCost", workflow={"workflow": {"name": "w", **kind}})
    return answer.likely.cost_usd, answer.most.cost_usd


async def test_a_workflow_beforehand(ask):
    """Steps count together, branches as they are taken, loops as often as they run."""
    one, most = await cost(ask, sequential={"steps": [step()]})
    assert await cost(ask, sequential={"steps": [step(), step("t")]}) == pytest.approx(
        (2 * one, 2 * most)
    )
    branch = {"name": "b", "steps": [step()]}
    assert await cost(ask, parallel={"branches": [branch, branch]}) == pytest.approx(
        (2 * one, 2 * most)
    )
    chosen = {"branches": [branch, {"name": "c", "steps": [step(), step("t")]}]}
    assert await cost(ask, conditional=chosen) == pytest.approx((2 * one, 2 * most))
    loop = {"range": {"start": 1, "end": 6}, "body": [step()]}
    assert await cost(ask, loop=loop) == pytest.approx((5 * one, 5 * most))
    values = types_pb2.ListValue(values=[types_pb2.Value(int_value=1)] * 3)
    assert (await cost(ask, loop={"collection": values, "body": [step()]}))[0] == pytest.approx(
        3 * one
    )
    endless = {"while": {"constant": True}, "body": [step()]}
    assert await cost(ask, loop=endless) == pytest.approx((10 * one, 1000 * most))
    retried = [step(retry={"max_attempts": 4})]
    assert await cost(ask, sequential={"steps": retried}) == pytest.approx((one, 4 * most))
    limited = {"sequential": {"steps": [step()]}, "max_cost_usd": 0.001}
    assert await cost(ask, **limited) == pytest.approx((0.001, 0.001))
    filled, _ = await cost(ask, sequential={"steps": [step(text="{{inputs.a}}" + "x" * 388)]})
    assert filled == pytest.approx(one + 500e-6)


async def test_workflows_within_beforehand(ask):
    """Registered ones count like those that are written out; a cycle is an error, not for ever."""
    WORKFLOWS["inner"] = workflow_pb2.Workflow(name="inner", sequential={"steps": [step()]})
    one, _ = await cost(ask, sequential={"steps": [step()]})
    within = {"name": "w", "workflow": {"name": "inner"}}
    assert (await cost(ask, sequential={"steps": [within, within]}))[0] == pytest.approx(2 * one)
    WORKFLOWS["inner"].sequential.steps.add(name="again", workflow={"name": "inner"})
    await refused(cost(ask, sequential={"steps": [within]}), Reason.LIMIT_EXCEEDED)


async def test_an_ingestion_beforehand(ask):
    """By the embedding model's price; the deployment's own costs nothing."""
    answer = await ask("EstimateCost", ingestion={"characters": 4_000_000})
    assert (answer.likely.input_tokens, answer.likely.cost_usd) == (1_000_000, 0)
    priced = {"model": "openai/text-embedding-3-small", "characters": 4_000_000}
    answer = await ask("EstimateCost", ingestion=priced)
    assert answer.likely.cost_usd == pytest.approx(0.02)
    answer = await ask("EstimateCost", ingestion={"model": "mill/e", "texts": ["x" * 400] * 10})
    assert answer.likely.input_tokens == 1000
    assert answer.most.cost_usd == pytest.approx(2000e-6)
    many = {"texts": [""] * 10_001}
    await refused(ask("EstimateCost", ingestion=many), Reason.LIMIT_EXCEEDED)
