"""`llmspell agent`: ask agents, talk with them, and keep those that a tenant has registered."""

from __future__ import annotations

import json
import mimetypes
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from uuid import uuid4

import typer

from services.gateway.cli.agent_spec import agent_of, is_file, limits_of, spec_of
from services.gateway.cli.agent_talk import Hearing, show_cost
from services.gateway.cli.output import (
    ExitCode,
    say,
    show_error,
    show_json,
    show_line,
    show_table,
    to_plain,
)
from services.gateway.cli.target import JsonOption, TenantOption, connect
from services.gateway.cli.workflow_files import read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmspell import Client
    from llmspell.types import Agent, AgentOutput, AgentSpec, Media

HISTORY = Path("~/.llmspell/chat_history")
"""Where what was typed is remembered."""

app = typer.Typer(
    no_args_is_help=True, help="Agents: models with instructions, tools and a conversation."
)

AgentArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="AGENT", help="A registered name, PROVIDER/MODEL, or a file in TOML, JSON or YAML."
    ),
]
NameArgument: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
ToolOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--tool", metavar="TOOL", help="A tool that it may call; * means all."),
]
SystemOption: TypeAlias = Annotated[
    str, typer.Option("--system", metavar="TEXT", help="Its instructions.", show_default=False)
]
BaseUrlOption: TypeAlias = Annotated[
    str, typer.Option(metavar="URL", help="Another address of the provider.", show_default=False)
]
SessionOption: TypeAlias = Annotated[
    str, typer.Option(metavar="ID", help="Keep its conversation there.", show_default=False)
]
ConversationOption: TypeAlias = Annotated[
    str, typer.Option(metavar="ID", help="Go on with this conversation.", show_default=False)
]
CostOption: TypeAlias = Annotated[
    float, typer.Option(metavar="USD", min=0, help="At most so much for one answer; 0: no limit.")
]
TimeOption: TypeAlias = Annotated[
    float | None, typer.Option(metavar="S", min=0, help="At most so long.", show_default=False)
]


@app.command("list")
def list_(
    context: typer.Context, *, tenant: TenantOption = None, as_json: JsonOption = False
) -> None:
    """List registered agents in order of name."""
    with connect(context, tenant) as client:
        agents = list(client.list_agents())
    if as_json:
        show_json(agents)
    elif agents:
        rows = [
            [each.name, each.spec.model or each.spec.type, each.state, str(each.executions),
             show_cost(each.spent), each.spec.description]
            for each in agents
        ]  # fmt: skip
        headings = ["agent", "model", "state", "asked", "spent", "what it does"]
        show_table(headings, rows, numbers=(3, 4))
    else:
        say("No agents are registered.")


@app.command("show")
def show(
    context: typer.Context,
    name: NameArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a registered agent: what it is, how it is with it, what it has spent."""
    with connect(context, tenant) as client:
        agent = client.get_agent(name)
    if as_json:
        show_json(agent)
    else:
        _show(agent)


@app.command("create")
def create(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Its name, or a file that describes it.")
    ],
    *,
    model: Annotated[
        str, typer.Option(metavar="PROVIDER/MODEL", help="Its model.", show_default=False)
    ] = "",
    description: Annotated[
        str, typer.Option(metavar="TEXT", help="What it is for.", show_default=False)
    ] = "",
    system: SystemOption = "",
    tool: ToolOption = None,
    base_url: BaseUrlOption = "",
    change: Annotated[
        bool, typer.Option("--replace", help="Replace one that has the name.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register an agent, of a file or of options."""
    options = {
        "model": model,
        "description": description,
        "system_prompt": system,
        "tools": tool,
        "base_url": base_url,
    }
    given = {name: value for name, value in options.items() if value}
    form = read_file(source) if is_file(source) else {"name": source}
    spec = spec_of({**form, **given})
    with connect(context, tenant) as client:
        made = client.create_agent(spec, replace=change)
    if as_json:
        show_json(made)
    else:
        say(f"{made.name} is registered.")


@app.command("delete")
def delete(
    context: typer.Context,
    name: NameArgument,
    *,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a registered agent, and its conversations outside of sessions."""
    with connect(context, tenant) as client:
        deleted = client.delete_agent(name)
    if as_json:
        show_json({"deleted": deleted})
    else:
        say(f"{name} is removed." if deleted else f"There was no agent {name}.")


@app.command("run")
def run(
    context: typer.Context,
    source: AgentArgument,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What it is asked; - is stdin.")
    ] = "-",
    *,
    system: SystemOption = "",
    tool: ToolOption = None,
    tool_choice: Annotated[
        str,
        typer.Option(metavar="WORD", help="auto, none, required or a tool.", show_default=False),
    ] = "",
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An image for it to see.")
    ] = None,
    base_url: BaseUrlOption = "",
    session: SessionOption = "",
    conversation: ConversationOption = "",
    max_cost: CostOption = 0.0,
    timeout: TimeOption = None,
    max_turns: Annotated[
        int, typer.Option(metavar="N", min=0, help="Ask its model at most so often; 0: 25.")
    ] = 0,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask an agent once: what it says as it says it, its tools as they are called, the cost.

    With --json nothing is shown before the end.
    """
    asked = sys.stdin.read() if text == "-" else text
    options = {
        "system_prompt": system,
        "tools": tool,
        "tool_choice": tool_choice,
        "base_url": base_url,
    }
    call: dict[str, Any] = {
        "session_id": session,
        "conversation_id": conversation,
        "limits": limits_of(max_cost, timeout, max_turns),
        "media": [_media(file) for file in image or []],
    }
    agent = agent_of(source, options)
    with connect(context, tenant) as client:
        if as_json:
            show_json(client.execute_agent(agent, asked, **call))
        else:
            _ask(client, agent, asked, **call)


@app.command("chat")
def chat(
    context: typer.Context,
    source: AgentArgument,
    *,
    system: SystemOption = "",
    tool: ToolOption = None,
    base_url: BaseUrlOption = "",
    session: SessionOption = "",
    conversation: ConversationOption = "",
    max_cost: CostOption = 0.0,
    timeout: TimeOption = None,
    history: Annotated[
        Path, typer.Option(metavar="FILE", help="What was typed is remembered here.")
    ] = HISTORY,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Talk with an agent; from a pipe each line is a message.

    With --json each answer is one line of JSON.
    """
    agent = agent_of(source, {"system_prompt": system, "tools": tool, "base_url": base_url})
    with connect(context, tenant) as client:
        talk = Chat(
            client,
            agent,
            session=session,
            conversation=conversation or ("" if session else f"chat-{uuid4().hex[:12]}"),
            limits=limits_of(max_cost, timeout, 0),
            as_json=as_json,
        )
        if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
            _at_terminal(talk, history.expanduser())
        elif not _from_pipe(talk):
            raise typer.Exit(ExitCode.PARTIAL)


class Chat:
    """A conversation with one agent."""

    HELP = """\
What is typed goes to the agent; Ctrl-C ends its answer, Ctrl-D leaves.
  :help        this
  :new         begin a new conversation
  :messages    what was said
  :cost        what this talk has cost
  :quit        leave"""

    def __init__(
        self,
        client: Client,
        agent: str | AgentSpec,
        *,
        session: str,
        conversation: str,
        limits: Any,
        as_json: bool,
    ) -> None:
        self._client = client
        self._agent = agent
        self._place = {"session_id": session, "conversation_id": conversation}
        self._limits = limits
        self._as_json = as_json
        self._cost_usd = 0.0

    @property
    def name(self) -> str:
        """The agent's."""
        return self._agent if isinstance(self._agent, str) else self._agent.name

    def enter(self, text: str) -> bool:
        """Say something or obey a command; whether it went well.

        Raises:
            EOFError: where it was `:quit`.
        """
        if not text.strip():
            return True
        if text.startswith(":"):
            return self._command(text.strip())
        from llmspell import LLMSpellError  # noqa: PLC0415  (slow to import)

        try:
            output = self._answer(text)
        except LLMSpellError as error:
            show_error(error.message)
            return False
        self._cost_usd += output.spent.cost_usd
        return True

    def _answer(self, text: str) -> AgentOutput:
        call = {**self._place, "limits": self._limits}
        if not self._as_json:
            return _ask(self._client, self._agent, text, **call)
        output = self._client.execute_agent(self._agent, text, **call)
        sys.stdout.write(json.dumps(to_plain(output), ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return output

    def _command(self, text: str) -> bool:
        if text in {":quit", ":q", ":exit"}:
            raise EOFError
        commands: dict[str, Callable[[], None]] = {
            ":help": lambda: show_line(self.HELP),
            ":new": self._begin,
            ":messages": self._messages,
            ":cost": lambda: say(f"${self._cost_usd:.6f} so far."),
        }
        if text not in commands:
            show_error(f"{text} is not a command; :help says which there are.")
            return False
        commands[text]()
        return True

    def _begin(self) -> None:
        if self._place["session_id"] and not self._place["conversation_id"]:
            self._client.delete_conversation(self.name, **self._place)
        else:
            self._place["conversation_id"] = f"chat-{uuid4().hex[:12]}"
        say("Nothing was said yet.")

    def _messages(self) -> None:
        session, conversation = self._place["session_id"], self._place["conversation_id"]
        kept = self._client.get_conversation(
            self.name, session_id=session, conversation_id=conversation
        )
        for message in kept.messages:
            calls = ", ".join(call.tool for call in message.tool_calls)
            show_line(f"{message.role}: {message.text or f'→ {calls}'}")


def _ask(client: Client, agent: str | AgentSpec, text: str, **call: Any) -> AgentOutput:
    """Ask, and show the answer as it comes."""
    from llmspell.types import AgentOutput  # noqa: PLC0415  (slow to import)

    hearing = Hearing()
    with closing(client.stream_agent(agent, text, **call)) as events:
        for event in events:
            if isinstance(event, AgentOutput):
                hearing.end(event)
                return event
            hearing.hear(event)
    raise AssertionError


def _from_pipe(talk: Chat) -> bool:
    """Say each line; whether all went well."""
    good = True
    try:
        for line in sys.stdin:
            good = talk.enter(line.rstrip("\n")) and good
    except EOFError:  # :quit
        pass
    return good


def _at_terminal(talk: Chat, history: Path) -> None:
    from prompt_toolkit import PromptSession  # noqa: PLC0415  (slow to import)

    from services.gateway.cli.repl_prompt import history_of  # noqa: PLC0415  (likewise)

    session: PromptSession[str] = PromptSession("you> ", history=history_of(history))
    show_line(f"Talking with {talk.name}; :help says what to type.")
    while True:
        try:
            talk.enter(session.prompt())
        except KeyboardInterrupt:
            sys.stdout.write("\n")
        except EOFError:
            break


def _media(file: Path) -> Media:
    from llmspell.types import Media  # noqa: PLC0415  (slow to import)

    try:
        data = file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    return Media(mimetypes.guess_type(file.name)[0] or "image/png", data)


def _show(agent: Agent) -> None:
    spec = agent.spec
    rows = [
        ["name", spec.name],
        ["what it does", spec.description],
        ["type", spec.type or "llm"],
        ["model", spec.model],
        ["instructions", spec.system_prompt],
        ["tools", ", ".join(spec.tools)],
        ["functions", ", ".join(each.name for each in spec.functions)],
        ["state", agent.state],
        ["asked", f"{agent.executions} times, {agent.failures} failed"],
        ["spent", show_cost(agent.spent)],
    ]
    show_table(["", ""], [row for row in rows if row[1]])
