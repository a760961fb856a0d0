"""`llmspell repl`: a Lua prompt beside a tenant's data.

At a terminal it edits several lines, completes names as the running VM has them, and remembers
what was typed; from a pipe it reads piece after piece.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.gateway.cli.output import ExitCode, clean, fail, say, show_error, show_raw
from services.gateway.cli.script import show_log
from services.gateway.cli.talk import Talk, TalkEnded
from services.gateway.cli.target import TenantOption, connect

if TYPE_CHECKING:
    from llmspell import Client
    from llmspell.types import InteractAnswer, InteractEvent

HISTORY = Path("~/.llmspell/repl_history")
"""Where what was typed is remembered."""

_HELP = """\
Lua is run as it is entered; an expression shows its values, and _ is the first of the last ones.
A piece that is not whole goes on in the next line. Globals stay, locals are a piece's own.
Tab completes names.  Ctrl-C ends what runs, or gives up what is typed.  Ctrl-D leaves.
  :help        this
  :reset       begin anew with nothing defined
  :load FILE   run a file here
  :quit        leave"""


def repl(
    context: typer.Context,
    *,
    history: Annotated[
        Path, typer.Option(metavar="FILE", help="What was typed is remembered here.")
    ] = HISTORY,
    session: Annotated[
        str, typer.Option(metavar="ID", help="The run's current session.", show_default=False)
    ] = "",
    tenant: TenantOption = None,
) -> None:
    """A Lua prompt: one run that is given its source piece by piece."""
    with connect(context, tenant) as client:
        prompt = Repl(client, session=session)
        if sys.stdin.isatty() and sys.stdout.isatty():
            _at_terminal(prompt, history.expanduser())
        elif not prompt.read(sys.stdin.read()):
            raise typer.Exit(ExitCode.PRECONDITION)


class Repl:
    """What is typed, and what comes of it."""

    def __init__(self, client: Client, *, session: str = "") -> None:
        self._client = client
        self._session = session
        self._talk: Talk | None = None
        self._ends_line = True

    def talk(self) -> Talk:
        """The run; a new one where the one before is over."""
        if self._talk is None:
            self._talk = Talk(self._client, session=self._session)
        return self._talk

    def close(self) -> None:
        """End the run."""
        if self._talk is not None:
            self._talk.close()
            self._talk = None

    def is_whole(self, text: str) -> bool:
        """Whether nothing is missing at the end of a piece."""
        if not text.strip() or text.startswith(":"):
            return True
        try:
            return self.talk().ask("check", text).kind != "unfinished"
        except TalkEnded:
            return True  # running it says why

    def names(self, text: str) -> InteractAnswer | None:
        """What may stand at the end of a text; None where nobody knows."""
        try:
            return self.talk().ask("complete", text)
        except TalkEnded:
            return None

    def read(self, text: str) -> bool:
        """Run all pieces of a text; whether none failed."""
        piece, good = "", True
        try:
            for line in text.splitlines():
                piece = f"{piece}\n{line}" if piece else line
                if self.is_whole(piece):
                    good, piece = self.enter(piece) and good, ""
            return self.enter(piece) and good
        except EOFError:
            return good
        finally:
            self.close()

    def enter(self, text: str) -> bool:
        """Run a piece or obey a command; whether it went well.

        Raises:
            EOFError: where it was `:quit`, or the script ended the run.
        """
        if not text.strip():
            return True
        if text.lstrip().startswith(":"):
            return self._command(text.strip())
        return self._run(text)

    def _command(self, text: str) -> bool:
        word, _, rest = text.partition(" ")
        if word in (":quit", ":q", ":exit"):
            raise EOFError
        if word in (":help", ":h"):
            sys.stdout.write(_HELP + "\n")
            return True
        if word == ":reset":
            self.close()
            return True
        if word == ":load" and rest:
            return self._load(Path(rest.strip()).expanduser())
        show_error(f"{word} is not a command; :help says which there are.")
        return False

    def _load(self, file: Path) -> bool:
        try:
            return self._run(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            show_error(f"{file} cannot be read: {error}")
            return False

    def _run(self, text: str) -> bool:
        try:
            answer = self.talk().run(text, self._tell)
        except TalkEnded as end:
            self._end_line()
            self._over(end)
            return False
        self._end_line()
        return _show(answer, text)

    def _tell(self, event: InteractEvent) -> None:
        from llmspell.types import RunLog, RunOutput  # noqa: PLC0415  (slow to import)

        if isinstance(event, RunOutput):
            show_raw(event.data)
            self._ends_line = event.data.endswith(b"\n")
        elif isinstance(event, RunLog):
            self._end_line()
            show_log(event)

    def _end_line(self) -> None:
        if not self._ends_line:
            show_raw(b"\n")
        self._ends_line = True

    def _over(self, end: TalkEnded) -> None:
        """Say why the run is over; the next piece begins another."""
        from llmspell import LLMSpellError  # noqa: PLC0415  (slow to import)

        self._talk = None
        if end.__cause__ is None:  # the script ended it
            raise EOFError
        if not isinstance(end.__cause__, LLMSpellError):
            raise end.__cause__
        if end.__cause__.code in ("UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED"):
            fail(end.__cause__)
        show_error(f"{end.__cause__.message} What was defined is gone.")


def _show(answer: InteractAnswer, text: str) -> bool:
    """The values of a piece, or why it failed and in which line; whether it went well."""
    if answer.kind == "unfinished":
        show_error("The piece is not whole: something is missing at its end.")
        return False
    if answer.kind != "failed":
        if answer.text:
            sys.stdout.write(clean(answer.text) + "\n")
            sys.stdout.flush()
        return True
    show_error(answer.message)
    lines = text.split("\n")
    if len(lines) > 1 and 1 <= answer.line <= len(lines):
        say(f"{answer.line} | {lines[answer.line - 1]}", "dim")
    frames = answer.traceback.split("\n")[1:]
    inner = [line for line in frames if "[C]" not in line and "main chunk" not in line]
    if inner:
        say("\n".join(line.replace("\t", "  ") for line in inner), "dim")
    return False


def _at_terminal(repl: Repl, history: Path) -> None:
    from services.gateway.cli.repl_prompt import make_prompt  # noqa: PLC0415  (slow to import)

    ask = make_prompt(repl, history)
    sys.stdout.write("Lua 5.4 of LLMSpell; :help says what to type.\n")
    while True:
        try:
            repl.enter(ask())
        except KeyboardInterrupt:
            continue
        except EOFError:
            break
    repl.close()
