"""What a run is told of itself, and which globals it has."""

import pytest
import pytest_asyncio

from services.common.context import CallContext
from services.common.settings import SCRIPT_GLOBALS, RuntimeSettings
from services.runtime.facts import ToolRules, facts_of
from services.runtime.pool import WorkerPool
from services.runtime.runs import RunLimits
from tests.unit.runtime.running import Host, run

CALLER = CallContext(
    tenant="acme", principal="k1", permissions=("state.read", "tool.execute"), request_id="r1"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
async def test_a_global_that_is_switched_off_is_nil(pool):
    """It and no other; what is built on the same code goes on."""
    source = "return JSON == nil, Event == nil, State ~= nil, #RAG.search('q')"
    ran = await run(pool, source, Host(), globals_off=("JSON", "Event"))
    assert ran.value == [True, True, True, 2]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_script_reads_what_the_host_said(pool):
    """Values, their kinds and empty lists arrive as they are."""
    facts = facts_of(CALLER, RunLimits(wall_s=7))
    ran = await run(pool, "return JSON.parse(Config.toJson())", facts=facts)
    assert ran.value == facts | {"script": {}}


def facts(*permissions, off=(), **rules):
    caller = CallContext(tenant="acme", principal="k2", permissions=permissions)
    return facts_of(caller, RunLimits(), off, ToolRules(**{"files": True, "network": True} | rules))


def may(told):
    security = told["security"]
    return [
        security[f"allow_{name}"] for name in ("file_access", "network_access", "process_spawn")
    ]


def test_what_tools_may_follows_the_key():
    """Without tools there is nothing; safe ones have no files; the operator has all."""
    assert may(facts("state.read")) == [False, False, False]
    assert may(facts("tool.execute")) == [False, True, False]
    assert may(facts("tool.execute", "tool.restricted")) == [True, True, True]
    assert facts("*")["tools"]["levels"] == ["safe", "restricted", "privileged"]
    assert facts("tool.execute")["permissions"]["allowed_tools"] == ["*"]
    assert facts("state.read")["permissions"]["allowed_tools"] == []


def test_what_tools_may_follows_the_settings():
    """A deployment without tools, folders, network or programs has none of it for anybody."""
    assert may(facts("*", off=["Tool"])) == [False, False, False]
    assert may(facts("*", files=False)) == [False, True, True]
    assert may(facts("*", network=False)) == [True, False, True]
    caller = CallContext(tenant="acme", principal="operator", permissions=("*",))
    rules = ToolRules(off=frozenset({"process-executor"}), files=True, network=True)
    told = facts_of(caller, RunLimits(), (), rules)
    assert may(told) == [True, True, False]
    assert told["tools"]["off"] == ["process-executor"]


def test_a_name_that_is_no_global_is_refused():
    """The setting names what there is."""
    assert RuntimeSettings(globals_off=" RAG,Event ").globals_switched_off == {"RAG", "Event"}
    with pytest.raises(ValueError, match="has Rag; there are Agent"):
        RuntimeSettings(globals_off="Rag")
    assert "print" not in SCRIPT_GLOBALS
