"""The prompt of `llmspell repl` at a terminal, by prompt_toolkit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.scripting import LuaLexer

if TYPE_CHECKING:
    from services.gateway.cli.repl import Repl

_WORDS = (
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
)  # fmt: skip
_COMMANDS = (":help", ":load", ":quit", ":reset")


class _Names(Completer):
    """Names as the running VM has them, and Lua's own words."""

    def __init__(self, repl: Repl) -> None:
        self._repl = repl

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Called when Tab is pressed."""
        del complete_event
        text = document.text_before_cursor
        if text.startswith(":"):
            yield from _starting(_COMMANDS, text)
            return
        answer = self._repl.names(text)
        if answer is None:
            return
        for name in answer.names:
            yield Completion(name, start_position=-len(answer.start))
        before = text[: len(text) - len(answer.start)]
        if answer.start and not before.endswith((".", ":")):
            yield from _starting(_WORDS, answer.start)


def _starting(words: Iterable[str], start: str) -> Iterable[Completion]:
    for word in words:
        if word.startswith(start):
            yield Completion(word, start_position=-len(start))


def make_prompt(repl: Repl, history: Path) -> Callable[[], str]:
    """A function that reads one piece: Enter ends it where it is whole, else begins a line."""
    keys = KeyBindings()

    @keys.add("enter")
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and repl.is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(
        "> ",
        multiline=True,
        prompt_continuation=". ",
        history=history_of(history),
        completer=ThreadedCompleter(_Names(repl)),
        complete_while_typing=False,
        lexer=PygmentsLexer(LuaLexer),
        key_bindings=keys,
    )
    return session.prompt


def history_of(file: Path) -> History:
    """The file's; where it cannot be kept, this prompt's own."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))
