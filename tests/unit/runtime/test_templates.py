"""What templates are: their heads, parameters, estimates, and how deep they execute one another."""

import asyncio
import json

import jsonschema_rs
import pytest

from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import TEMPLATE_DEPTH_MAX
from services.runtime.pool import TurnLimits
from services.runtime.runs import Call, Reply, RunLimits
from services.runtime.templates.catalogue import Catalogue
from services.runtime.templates.estimate import UNKNOWN_PRICE_CONFIDENCE, estimate
from services.runtime.templates.executing import Executing, Tally
from services.runtime.templates.model import COMMON, Template

CATALOGUE = Catalogue()
IDS = list(CATALOGUE.templates)
HEAD = """--[==[ template
id = "greeting"
name = "Greeting"
description = "Greets."
category = "Chat"
version = "1.0.0"
requires = []
tags = []
result_schema = "{}"

[[parameters]]
name = "who"
type = "string"
description = "Whom."
required = true
pattern = "^[A-Z]"

[[parameters]]
name = "times"
type = "integer"
description = "How often."
default = 1
min = 1
max = 3
]==]
return {result = "Hello"}
"""
CALLER = CallContext(tenant="acme", principal="k", permissions=("*",))


def refusal(call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize("name", IDS)
def test_each_template_is_whole(name):
    """Its result has a schema that can be used, its defaults fit its own rules."""
    template = CATALOGUE.templates[name]
    jsonschema_rs.validator_for(json.loads(template.head.result_schema))
    assert [each.name for each in template.parameters][-1] == "provider_name"
    assert {each.name for each in COMMON} <= {each.name for each in template.parameters}
    needed = {each.name for each in template.parameters if each.required}
    given = {"code_path": "a", "language": "c", "topic": "cats", "description": "d"}
    given |= {"data_file": "a", "document_paths": ["a"], "source_path": "a", "operation": "list"}
    given |= {"collection": "c", "workflow_config": {"steps": []}}
    accepted = template.accept({key: given[key] for key in needed})
    for parameter in template.parameters:
        assert accepted.get(parameter.name) == given.get(parameter.name, parameter.default) or (
            parameter.name not in needed
        )


def test_parameters_are_held_to_their_rules():
    """Each breach names the parameter; what is not given has its default."""
    template = Template.of(HEAD)
    assert template.accept({"who": "Ann"})["times"] == 1
    for given, field in (
        ({}, "who"),
        ({"who": "ann"}, "who"),
        ({"who": "Ann", "times": 4}, "times"),
        ({"who": "Ann", "times": 1.5}, "times"),
        ({"who": "Ann", "tims": 1}, "tims"),
    ):
        assert refusal(template.accept, given).metadata["field"] == field


def test_a_provider_takes_the_place_of_the_model_s():
    """The name of the model stays."""
    given = {"topic": "cats", "model": "openai/org/m", "provider_name": "groq"}
    assert CATALOGUE.find("research-assistant").accept(given)["model"] == "groq/org/m"


@pytest.mark.parametrize(
    "broken",
    [
        HEAD.replace("--[==[ template", "--[==["),
        HEAD.replace('category = "Chat"', 'category = "Chats"'),
        HEAD.replace('version = "1.0.0"\n', ""),
        HEAD.replace('type = "integer"', 'type = "int"'),
        HEAD.replace('result_schema = "{}"', 'result_schema = "{"'),
        HEAD.replace('name = "Greeting"', 'nam = "Greeting"'),
    ],
)
def test_a_file_that_is_none_is_refused(broken):
    """With what is wrong, when the process starts and not when somebody executes it."""
    with pytest.raises(ValueError, match=r"."):
        Template.of(broken)


def test_a_file_is_named_after_its_id(tmp_path):
    """Else two could have one id."""
    (tmp_path / "hello.lua").write_text(HEAD)
    with pytest.raises(ValueError, match="greeting"):
        Catalogue(tmp_path)


def test_templates_are_found_by_words_and_by_near_names():
    """In whatever case; an unknown id names the nearest."""
    fitting = [t.head.id for t in CATALOGUE.templates.values() if t.fits("RESEARCH", "Citations")]
    assert fitting == ["knowledge-management", "research-assistant"]
    error = refusal(CATALOGUE.find, "code-revue")
    assert (error.reason, "code-review" in error.message) == (Reason.TEMPLATE_NOT_FOUND, True)
    assert refusal(CATALOGUE.find, "").reason == Reason.FIELD_REQUIRED


def test_estimates_follow_what_they_depend_on():
    """500 a source and 3000; a guess of the price halves what is thought of it."""
    template = CATALOGUE.find("research-assistant")
    accepted = template.accept({"topic": "cats", "max_sources": 20})
    guessed = estimate(template, accepted, lambda _: None)
    assert (guessed.tokens, guessed.cost_usd) == (13_000, pytest.approx(0.0013))
    priced = estimate(template, accepted, {"ollama/llama3.2:3b": 2.0}.get)
    assert priced.cost_usd == pytest.approx(0.026)
    assert guessed.confidence == priced.confidence * UNKNOWN_PRICE_CONFIDENCE
    free = CATALOGUE.find("file-classification")
    assert estimate(free, {}, lambda _: None).tokens == 0


async def test_what_agents_spend_is_added_up():
    """Of agents and workflows; nothing else that a template calls counts."""
    spent = {"input_tokens": 3, "output_tokens": 2, "cost_usd": 0.5, "estimated": True}

    async def answers(call):
        if call.method == "broken":
            return Reply(ok=False, tree={"progress": {"agent": {"spent": spent}}})
        return Reply(ok=True, tree=call.args)

    tally = Tally(answers)
    for tree in (
        {"progress": {"agent": {"spent": spent}}},
        {
            "progress": {
                "workflow": {"spent": spent, "steps": [{"kind": "agent"}, {"kind": "tool"}]}
            }
        },
        {"progress": {"execution_id": "x"}},
        {"spent": spent},
    ):
        await tally(Call("some", None, tree))
    await tally(Call("broken", None, {}))
    assert (tally.agents, tally.spent.input_tokens, tally.spent.cost_usd) == (2, 6, 1.0)
    assert tally.spent.estimated is True
    within = {"spent": spent, "agents_invoked": 3}  # a template that this one has executed
    await tally(Call("llmspell.v1.TemplateService/ExecuteTemplate", None, within))
    assert (tally.agents, tally.spent.input_tokens, tally.spent.cost_usd) == (5, 9, 1.5)


async def test_templates_execute_templates_so_deep():
    """The next one is refused; beside one another they are not counted."""
    reached = []

    class Nested(Executing):
        async def _run(self, spec, caller, turns):
            reached.append(turns)
            await self.execute(template, {}, caller, timeout_s=1.0)

    template = Template.of(HEAD)
    turns = TurnLimits(at_once=1, tenant_at_once=1)
    nested = Nested(None, None, lambda spec, _: spec, RunLimits(), turns)
    for _ in range(2):
        with pytest.raises(ServiceError) as caught:
            await asyncio.create_task(nested.execute(template, {}, CALLER, timeout_s=1.0))
        assert caught.value.reason == Reason.LIMIT_EXCEEDED
    assert len(reached) == 2 * TEMPLATE_DEPTH_MAX
    assert len({id(each) for each in reached}) == TEMPLATE_DEPTH_MAX
