"""What an agent, a workflow or an ingestion would cost, from their definitions, without doing it.

A workflow's estimate is its steps' together. What it turns out to be depends on what models say:
the likely figure takes what this tenant's own calls have taken, where there were any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from llmspell.v1 import agent_pb2, workflow_pb2

from services.common.errors import limit_exceeded
from services.common.limits import ESTIMATE_DEPTH_MAX
from services.runtime.money.model import FREE, Price
from services.runtime.money.tokens import estimate_tokens, most_tokens

Priced = Callable[[str], Price | None]
"""The price of `provider/model`; None where it is not known."""
FindsAgent = Callable[[str], Awaitable[agent_pb2.AgentSpec]]
FindsWorkflow = Callable[[str], Awaitable[workflow_pb2.Workflow]]

TURNS = 25
TURNS_LIKELY = 3
"""Of an agent with tools."""
OUTPUT_LIKELY = 300
OUTPUT_MOST = 4_096
TOOL_TOKENS = 150
"""Of a tool's description."""
RESULT_TOKENS = 4_000
"""Of what a tool answers, at most."""
RESULT_LIKELY = 300
FILLED_TOKENS = 500
"""Of a value that is put into a text when a workflow runs."""
ATTEMPTS = 3
ITERATIONS = 1_000
ITERATIONS_LIKELY = 10
ROUTED_SURE = 0.5


@dataclass(slots=True)
class Guess:
    """Two figures and what they rest on."""

    likely_input: int = 0
    likely_output: int = 0
    likely_nano: int = 0
    most_input: int = 0
    most_output: int = 0
    most_nano: int = 0
    confidence: float = 1.0
    unpriced: bool = False
    calls: int = 0
    """Calls of models, likely."""
    calls_most: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    """In order, each once."""

    def add(self, other: Guess, *, times: float = 1, times_most: int = 1) -> None:
        """Count another beside it, so many times."""
        self.likely_input += round(other.likely_input * times)
        self.likely_output += round(other.likely_output * times)
        self.likely_nano += round(other.likely_nano * times)
        self.calls += round(other.calls * times)
        self.most_input += other.most_input * times_most
        self.most_output += other.most_output * times_most
        self.most_nano += other.most_nano * times_most
        self.calls_most += other.calls_most * times_most
        self.doubt(other)

    def doubt(self, other: Guess) -> None:
        """It is no surer than the other, and rests on the same."""
        self.confidence = min(self.confidence, other.confidence)
        self.unpriced = self.unpriced or other.unpriced
        self.notes |= other.notes

    def take_larger(self, other: Guess) -> None:
        """Be the dearer of both: only one of them happens."""
        for name in ("likely_input", "likely_output", "likely_nano", "calls"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        for name in ("most_input", "most_output", "most_nano", "calls_most"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.doubt(other)

    def limit(self, max_cost_usd: float) -> None:
        """It ends where this is spent."""
        if max_cost_usd > 0:
            nano = round(max_cost_usd * 1e9)
            self.most_nano = min(self.most_nano, nano)
            self.likely_nano = min(self.likely_nano, nano)

    def note(self, text: str, confidence: float = 1.0) -> None:
        """Say what it rests on, and how sure that is."""
        self.notes[text] = None
        self.confidence = min(self.confidence, confidence)


class Estimator:
    """Makes estimates for one call."""

    def __init__(
        self,
        price_of: Priced,
        *,
        agent: FindsAgent,
        workflow: FindsWorkflow,
        typical_output: Callable[[str, str], int | None] = lambda _model, _agent: None,
    ) -> None:
        """`typical_output`: tokens that a model has written a call for an agent, where known."""
        self._price_of = price_of
        self._agent = agent
        self._workflow = workflow
        self._typical_output = typical_output
        self._workflows: dict[str, Guess] = {}
        self._agents: dict[tuple[str, str, int], Guess] = {}

    async def of_agent(
        self,
        ref: agent_pb2.AgentRef,
        text: str,
        limits: agent_pb2.AgentLimits | None = None,
        depth: int = 0,
        filled: int = 0,
    ) -> Guess:
        """Of one execution.

        Raises:
            ServiceError: AGENT_NOT_FOUND; LIMIT_EXCEEDED where agents are too deep in one another.
        """
        _check_depth(depth)
        if ref.WhichOneof("agent") == "spec":
            return await self._of_spec(ref.spec, text, limits, depth, filled)
        place = (ref.name, text, filled)
        if limits is None and place in self._agents:
            return self._agents[place]
        guess = await self._of_spec(await self._agent(ref.name), text, limits, depth, filled)
        if limits is None:  # else it is the outermost
            self._agents[place] = guess
        return guess

    async def _of_spec(
        self,
        spec: agent_pb2.AgentSpec,
        text: str,
        limits: agent_pb2.AgentLimits | None,
        depth: int,
        filled: int,
    ) -> Guess:
        if spec.HasField("composite"):
            guess = await self._of_composite(spec, text, depth, filled)
        elif spec.type == "basic":
            guess = Guess()
            guess.note("An agent of type basic asks no model.")
        else:
            guess = self._of_loop(spec, text, limits, filled)
            for within in spec.agents:
                guess.note("Agents that it may call are counted once each.", 0.3)
                guess.add(await self.of_agent(within.agent, "", None, depth + 1))
        guess.limit(spec.limits.max_cost_usd)
        guess.limit(limits.max_cost_usd if limits is not None else 0)
        return guess

    def _of_loop(
        self,
        spec: agent_pb2.AgentSpec,
        text: str,
        limits: agent_pb2.AgentLimits | None,
        filled: int,
    ) -> Guess:
        has_tools = bool(spec.tools or spec.functions or spec.agents)
        turns = _least(spec.limits.max_turns, limits.max_turns if limits else 0, TURNS)
        turns, likely_turns = (turns, min(turns, TURNS_LIKELY)) if has_tools else (1, 1)
        longest = _least(spec.limits.max_tokens, limits.max_tokens if limits else 0, OUTPUT_MOST)
        typical = self._typical_output(spec.model, spec.name)
        output = min(longest, typical or OUTPUT_LIKELY)
        offers = (len(spec.tools) + len(spec.functions) + len(spec.agents)) * TOOL_TOKENS
        schema = estimate_tokens(spec.answer_schema)
        said = spec.system_prompt + text
        begin = 16 + estimate_tokens(said) + offers + schema + filled * FILLED_TOKENS
        begin_most = 16 + most_tokens(said) + 4 * (begin - estimate_tokens(said))
        guess = Guess(calls=likely_turns, calls_most=turns)
        guess.likely_output, guess.most_output = output * likely_turns, longest * turns
        guess.likely_input = _grown(begin, output + RESULT_LIKELY, likely_turns)
        guess.most_input = _grown(begin_most, longest + RESULT_TOKENS, turns)
        self._price(guess, spec.model)
        if filled:
            guess.note(f"A value put into a text is taken to have {FILLED_TOKENS} tokens.", 0.4)
        if typical is None:
            guess.note(f"An answer of {spec.model} is taken to have {output} tokens.", 0.5)
        else:
            guess.note(f"Answers of {spec.model} have had {typical} tokens of late.", 0.8)
        if has_tools:
            times = f"{likely_turns} times, {turns} at most"
            guess.note(f"A model with tools is likely asked {times}.", 0.4)
        return guess

    async def _of_composite(
        self, spec: agent_pb2.AgentSpec, text: str, depth: int, filled: int
    ) -> Guess:
        composite, guess = spec.composite, Guess()
        members = [
            await self.of_agent(one, text, None, depth + 1, filled) for one in composite.agents
        ]
        if composite.strategy == agent_pb2.COMPOSITE_STRATEGY_ROUTED:
            for member in members:
                guess.take_larger(member)
            guess.note("Of agents of which one is chosen, the dearest counts.", ROUTED_SURE)
            router = composite.router_model or spec.model
            if router and not composite.router_function:
                asked = agent_pb2.AgentSpec(model=router)
                asked.limits.max_tokens = 64
                guess.add(self._of_loop(asked, text, None, filled))
        else:
            for member in members:
                guess.add(member)
        if composite.HasField("fallback"):
            fallback = await self.of_agent(composite.fallback, text, None, depth + 1)
            guess.add(fallback, times=0)
        return guess

    def _price(self, guess: Guess, model: str) -> None:
        price = self._price_of(model)
        if price is None:
            guess.unpriced = True
            guess.note(f"The price of {model} is not known; it counts as nothing.", 0.1)
        held = price or FREE
        calls, calls_most = max(guess.calls, 1), max(guess.calls_most, 1)
        # A price may depend on how much one call reads.
        guess.likely_nano = held.at(guess.likely_input // calls).nano(
            guess.likely_input, guess.likely_output
        )
        most = held.at(guess.most_input // calls_most)
        guess.most_nano = most.nano(guess.most_input, guess.most_output)

    async def of_workflow(self, workflow: workflow_pb2.Workflow, depth: int = 0) -> Guess:
        """Of one run.

        Raises:
            ServiceError: WORKFLOW_NOT_FOUND, AGENT_NOT_FOUND; LIMIT_EXCEEDED where workflows are
                too deep in one another.
        """
        _check_depth(depth)
        attempts = _attempts(workflow)
        match workflow.WhichOneof("kind"):
            case "sequential":
                guess = await self._of_steps(workflow.sequential.steps, attempts, depth)
            case "parallel":
                guess = Guess()
                for branch in workflow.parallel.branches:
                    guess.add(await self._of_steps(branch.steps, attempts, depth))
            case "conditional":
                guess = await self._of_conditional(workflow.conditional, attempts, depth)
            case "loop":
                guess = await self._of_repeated(workflow.loop, attempts, depth)
            case _:
                guess = Guess()
        guess.limit(workflow.max_cost_usd)
        return guess

    async def _of_named(self, name: str, depth: int) -> Guess:
        """Of a registered one, once: many steps may be the same."""
        if name not in self._workflows:
            self._workflows[name] = await self.of_workflow(await self._workflow(name), depth)
        return self._workflows[name]

    async def _of_conditional(
        self, kind: workflow_pb2.Conditional, attempts: int, depth: int
    ) -> Guess:
        guess = await self._of_steps(kind.default_steps, attempts, depth)
        for branch in kind.branches:
            taken = await self._of_steps(branch.steps, attempts, depth)
            for asked in _asked_agents(branch.condition):
                guess.add(await self.of_agent(asked.agent, asked.input, None, depth + 1))
            if kind.execute_all_matching:
                guess.add(taken)
            else:
                guess.take_larger(taken)
        guess.note("Of branches of which one is taken, the dearest counts.", ROUTED_SURE)
        return guess

    async def _of_repeated(self, loop: workflow_pb2.Loop, attempts: int, depth: int) -> Guess:
        body = await self._of_steps(loop.body, attempts, depth)
        most = loop.max_iterations or ITERATIONS
        known = _iterations(loop)
        guess = Guess()
        if known is None:
            likely = min(most, ITERATIONS_LIKELY)
            guess.note(f"A loop of unknown length is taken to run {likely} times.", 0.2)
            guess.add(body, times=likely, times_most=most)
        else:
            times = min(known, most)
            guess.add(body, times=times, times_most=times)
        return guess

    async def _of_steps(
        self, steps: Iterable[workflow_pb2.Step], attempts: int, depth: int
    ) -> Guess:
        guess = Guess()
        for step in steps:
            tries = step.retry.max_attempts or ATTEMPTS if step.HasField("retry") else attempts
            if step.on_error == workflow_pb2.ERROR_STRATEGY_RETRY:
                tries = max(tries, step.retry.max_attempts or ATTEMPTS)
            one = await self._of_step(step, depth)
            for asked in _asked_agents(step.condition):
                one.add(await self.of_agent(asked.agent, asked.input, None, depth + 1))
            guess.add(one, times_most=tries)
            if step.HasField("compensation"):
                guess.add(await self._of_step(step.compensation, depth), times=0)
        return guess

    async def _of_step(self, step: workflow_pb2.Step, depth: int) -> Guess:
        match step.WhichOneof("action"):
            case "agent":
                text = step.agent.input
                filled = text.count("{{") or int(not text)
                return await self.of_agent(step.agent.agent, text, None, depth + 1, filled)
            case "workflow":
                _check_depth(depth + 1)
                if step.workflow.WhichOneof("workflow") == "name":
                    return await self._of_named(step.workflow.name, depth + 1)
                return await self.of_workflow(step.workflow.definition, depth + 1)
            case "template":
                guess = Guess()
                guess.note(f"The template {step.template.template_id} is not counted.", 0.2)
                return guess
            case "function" | "call" as kind:
                guess = Guess()
                guess.note(f"Steps that are a {kind} are taken to cost nothing.", 0.8)
                return guess
            case _:
                return Guess()


def of_ingestion(texts: Iterable[str], characters: int, model: str, price: Price | None) -> Guess:
    """Of texts that are embedded, or of so many characters."""
    guess = Guess(confidence=0.9)
    for text in texts:
        guess.likely_input += estimate_tokens(text)
        guess.most_input += most_tokens(text)
    guess.likely_input += characters // 4
    guess.most_input += characters
    guess.likely_nano = (price or FREE).nano(guess.likely_input, 0)
    guess.most_nano = (price or FREE).nano(guess.most_input, 0)
    guess.calls = guess.calls_most = 1
    guess.note("Chunks that overlap are embedded twice where they do, which is not counted.")
    if price is None:
        guess.unpriced = True
        guess.note(f"The price of {model} is not known; it counts as nothing.", 0.1)
    elif price == FREE:
        guess.note(f"{model} runs on the operator's machines and costs nothing.")
    return guess


def _check_depth(depth: int) -> None:
    if depth > ESTIMATE_DEPTH_MAX:
        raise limit_exceeded("agents and workflows (depth)", depth, ESTIMATE_DEPTH_MAX, "levels")


def _grown(begin: int, each: int, turns: int) -> int:
    """What a model reads in so many turns: all that was said before, again each time."""
    return turns * begin + each * turns * (turns - 1) // 2


def _least(first: int, second: int, otherwise: int) -> int:
    given = [value for value in (first, second) if value > 0]
    return min(given) if given else otherwise


def _attempts(workflow: workflow_pb2.Workflow) -> int:
    if workflow.error_strategy == workflow_pb2.ERROR_STRATEGY_RETRY or workflow.HasField("retry"):
        return workflow.retry.max_attempts or ATTEMPTS
    return 1


def _iterations(loop: workflow_pb2.Loop) -> int | None:
    """How often it runs, where that is written down."""
    match loop.WhichOneof("iterator"):
        case "range":
            step = loop.range.step or 1
            return len(range(loop.range.start, loop.range.end, step))
        case "collection":
            return len(loop.collection.values)
        case _:
            return None


def _asked_agents(
    condition: workflow_pb2.WorkflowCondition,
) -> Iterable[workflow_pb2.AgentClassification]:
    """Agents that a condition asks."""
    match condition.WhichOneof("condition"):
        case "agent_classification":
            yield condition.agent_classification
        case "all" | "any" as kind:
            for within in getattr(condition, kind).conditions:
                yield from _asked_agents(within)
        case "not":
            yield from _asked_agents(getattr(condition, "not"))
        case _:
            return
