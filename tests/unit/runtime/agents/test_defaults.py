"""Agents that name no model get their tenant's, wherever they are in a message."""

from llmspell.v1 import agent_pb2

from services.common.context import CallContext, set_context
from services.common.tenants import TenantRecord
from services.runtime.agents.defaults import DefaultModels


class Told:
    """What the operator says of tenants, and how often it was asked."""

    def __init__(self):
        self.asked = 0

    async def get(self, tenant_id):
        self.asked += 1
        default = "house/small" if tenant_id == "acme" else ""
        return TenantRecord(tenant_id, "", 0, default_provider=default)


def nested():
    """A reference to an agent that has one as a tool."""
    ref = agent_pb2.AgentRef()
    ref.spec.name = "outer"
    ref.spec.agents.add().agent.spec.name = "inner"
    return ref


async def test_every_agent_without_a_model_gets_the_tenants():
    """One that names a model keeps it, one that needs none gets none, another tenant's neither."""
    told = Told()
    models = DefaultModels(told)
    set_context(CallContext(tenant="acme", principal="k", permissions=()))
    ref = nested()
    await models.fill(ref)
    assert (ref.spec.model, ref.spec.agents[0].agent.spec.model) == ("house/small",) * 2
    ref.spec.model = "own/large"
    ref.spec.agents[0].agent.spec.model = ""
    ref.spec.agents[0].agent.spec.type = "basic"
    asked = told.asked
    await models.fill(ref)
    assert (ref.spec.model, ref.spec.agents[0].agent.spec.model) == ("own/large", "")
    assert told.asked == asked
    set_context(CallContext(tenant="globex", principal="k", permissions=()))
    other = nested()
    await models.fill(other)
    assert other.spec.model == ""
