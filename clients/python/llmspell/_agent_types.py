"""Agents, as users see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from llmspell._execution_types import NOTHING_SPENT, AgentToolCall, Spent

AgentFunction = Callable[..., Any] | Callable[..., Awaitable[Any]]
"""A function that a model may call, by named arguments; coroutines for the asyncio client only."""

AgentState = Literal[
    "uninitialized",
    "initializing",
    "ready",
    "running",
    "paused",
    "terminating",
    "terminated",
    "error",
    "recovering",
]
"""How it is with a registered agent."""

CompositeStrategy = Literal["sequential", "parallel", "vote", "routed"]
"""How several agents answer as one."""


@dataclass(frozen=True, slots=True)
class Media:
    """Bytes beside text."""

    mime_type: str
    """Such as `image/png`."""
    data: bytes
    """The bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """What an agent may take; 0 is the deployment's own limit."""

    max_turns: int = 0
    """How often its model is asked."""
    max_tool_calls: int = 0
    """Calls of tools."""
    timeout_s: float | None = None
    """Seconds."""
    max_cost_usd: float = 0.0
    """US dollars."""
    max_depth: int = 0
    """How deep agents may call agents."""
    max_tokens: int = 0
    """Tokens of one answer of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedFunction:
    """A function that whoever executes the agent offers to it."""

    name: str
    """That the model sees."""
    description: str = ""
    """What it is for."""
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of its arguments; None: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAsTool:
    """An agent that another one may call like a tool."""

    agent: str | AgentSpec
    """Name of a registered one, or one that is described here."""
    tool_name: str = ""
    """That the model sees; empty: `NAME_tool`."""
    description: str = ""
    """What it is for; empty: the agent's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorMemory:
    """Memory by meaning: what fits is looked up before the model is asked."""

    collection: str = ""
    """Empty: one of the agent's own."""
    scope: str = ""
    """Empty: that of the session where there is one, else of the agent."""
    limit: int = 0
    """At most this many passages; 0: 5."""
    min_score: float = 0.0
    """Only those at least so near."""
    read_only: bool = False
    """Whether what is said is left out of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """Several agents that answer as one."""

    strategy: CompositeStrategy
    """How."""
    agents: Sequence[str | AgentSpec]
    """Who, in order; registered ones by name."""
    threshold: float = 0.0
    """Share of the votes that one answer needs; 0: more than half."""
    fallback: str | AgentSpec | None = None
    """Who answers where the chosen one fails, or no answer has enough votes."""
    router_model: str = ""
    """Model that routes, as `provider/model`; empty: that of the agent."""
    router_function: str = ""
    """Function of the caller that routes: given `text` and `agents`, it gives a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """What an agent is."""

    name: str
    """Its name."""
    model: str = ""
    """As `provider/model`; a model alone is one of openai."""
    description: str = ""
    """One sentence."""
    type: str = ""
    """`llm`; `basic`, which repeats what it is told; `tool-orchestrator`; empty: `llm`."""
    system_prompt: str = ""
    """Its instructions."""
    temperature: float | None = None
    """How freely it chooses words, 0 to 2; None: the provider's default."""
    top_p: float | None = None
    """Share of the likeliest words that it chooses from."""
    seed: int | None = None
    """What its chance starts from, where the provider knows that."""
    stop: Sequence[str] = ()
    """Texts at which it stops."""
    tools: Sequence[str] = ()
    """Tools that it may call; `*` means all that its caller may."""
    functions: Sequence[OfferedFunction] = ()
    """Functions of the caller that it may call."""
    agents: Sequence[AgentAsTool] = ()
    """Agents that it may call."""
    tool_choice: str = ""
    """`auto`, `none`, `required` or the name of a tool; empty: `auto`."""
    limits: AgentLimits | None = None
    """What it may take."""
    max_conversation_length: int = 0
    """Messages of a conversation that it is shown at most; 0: 100."""
    max_conversation_tokens: int = 0
    """Tokens of a conversation that it is shown at most; 0: what the window leaves."""
    answer_schema: Mapping[str, Any] | None = None
    """JSON Schema that its answer must fit; None: any text."""
    memory: VectorMemory | None = None
    """Memory by meaning."""
    base_url: str = ""
    """Another address of the provider, as far as the deployment lets tenants reach it."""
    api_key: str = field(default="", repr=False)
    """Key for it. It is not kept."""
    composite: Composite | None = None
    """Set where it is several agents."""
    custom: Mapping[str, Any] = field(default_factory=dict)
    """More about it; kept, not used."""


@dataclass(frozen=True, slots=True)
class AgentTransition:
    """A move from one state to another."""

    start: AgentState
    """From."""
    end: AgentState
    """To."""
    time: datetime | None
    """When."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered agent."""

    spec: AgentSpec
    """What it is; without its key."""
    state: AgentState
    """How it is with it."""
    history: tuple[AgentTransition, ...] = ()
    """How it came there, the oldest first; the last 100."""
    create_time: datetime | None = None
    """When it was registered."""
    update_time: datetime | None = None
    """When it was last changed."""
    executions: int = 0
    """How often it was executed."""
    failures: int = 0
    """How often that failed."""
    spent: Spent = NOTHING_SPENT
    """What it has spent."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Citation:
    """Something that was taken from memory or documents to answer."""

    number: int
    """By which the answer refers to it, from 1."""
    collection: str
    """That it is in."""
    source_id: str
    """Id of its document or record."""
    text: str
    """Its text."""
    score: float
    """How near it is to what was asked; higher is nearer."""
    cited: bool
    """Whether the answer refers to it."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """More of it."""


@dataclass(frozen=True, slots=True)
class AgentOutput:
    """What came of an agent."""

    text: str
    """What it said."""
    tool_calls: tuple[AgentToolCall, ...] = ()
    """Tools it has called, in order."""
    spent: Spent = NOTHING_SPENT
    """What was spent, that of agents within included."""
    model: str = ""
    """That answered, as `provider/model`."""
    finish_reason: str = ""
    """Why it ended: `stop`, `length`, `content_filter`."""
    turns: int = 0
    """How often the model was asked."""
    elapsed_s: float = 0.0
    """Seconds that it took."""
    conversation_id: str = ""
    """Conversation that it went on with; empty: none is kept."""
    citations: tuple[Citation, ...] = ()
    """What was found in memory."""
    json: Any = None
    """The text read as JSON, where a schema of it was asked for."""
    media: tuple[Media, ...] = ()
    """Images that it made; mostly none."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """More of it."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ConversationMessage:
    """A message of a conversation."""

    role: str
    """`user`, `assistant`, `tool` or `system`."""
    text: str
    """Its words."""
    tool_calls: tuple[AgentToolCall, ...] = ()
    """Tools that it calls."""
    call_id: str = ""
    """Which call it answers, where it is of a tool."""
    time: datetime | None = None
    """When it was kept."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of a conversation."""

    messages: tuple[ConversationMessage, ...]
    """The oldest first."""
    trimmed_count: int = 0
    """Messages that were let go, since no more are kept."""
