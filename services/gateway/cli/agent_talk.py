"""What an agent says, shown as it says it: words on stdout, tools and costs on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from services.gateway.cli.output import clean, say, show_count

if TYPE_CHECKING:
    from llmspell.types import AgentOutput, AgentToolCall, ExecutionEvent, Spent

_SHOWN_LENGTH = 200
_CENT = 0.01


class Hearing:
    """Shows the events of one answer."""

    def __init__(self) -> None:
        self._said = ""
        """What stands on stdout since the last line of stderr."""
        self._all = ""

    def hear(self, event: ExecutionEvent) -> None:
        """Show an event."""
        within = event.path.partition("/")[2]
        match event.kind:
            case "text":
                self._write(event.text)
            case "tool_started" if event.tool is not None:
                self._aside(f"→ {_named(event.tool, within)} {_short(event.tool.arguments)}")
            case "tool_ended" if event.tool is not None:
                self._aside(f"← {_named(event.tool, within)} {_outcome(event.tool)}")
            case "retried":
                self._aside(f"asked again, what was said does not count: {event.text}", "yellow")

    def end(self, output: AgentOutput) -> None:
        """Show what was not said piece by piece, and what it took."""
        if output.text.strip() and not self._all.endswith(output.text):
            self._end_line()
            self._write(output.text)
        self._end_line()
        cited = [each for each in output.citations if each.cited]
        for each in cited:
            say(f"[{each.number}] {_short_text(each.text)}", "dim")
        say(told(output), "dim")

    def _write(self, text: str) -> None:
        self._said += text
        self._all += text
        sys.stdout.write(clean(text))
        sys.stdout.flush()

    def _aside(self, text: str, style: str = "dim") -> None:
        self._end_line()
        say(text, style)

    def _end_line(self) -> None:
        if self._said and not self._said.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
        self._said = ""


def told(output: AgentOutput) -> str:
    """Model, calls, tokens, money and time of an answer, in one line."""
    spent = output.spent
    parts = [output.model] if output.model else []
    parts.append(show_count(spent.model_calls, "model call"))
    if spent.tool_calls:
        parts.append(show_count(spent.tool_calls, "tool call"))
    parts.append(f"{spent.input_tokens:,} + {spent.output_tokens:,} tokens")
    parts.append(show_cost(spent))
    parts.append(f"{output.elapsed_s:.1f} s")
    if output.finish_reason not in {"", "stop"}:
        parts.append(f"ended by {output.finish_reason}")
    return " · ".join(parts)


def show_cost(spent: Spent) -> str:
    """Dollars, with as many digits as small sums need; an estimate says so."""
    digits = 2 if spent.cost_usd >= _CENT or spent.cost_usd == 0 else 6
    return f"{'about ' if spent.estimated else ''}${spent.cost_usd:.{digits}f}"


def _named(call: AgentToolCall, within: str) -> str:
    return f"{within}/{call.tool}" if within else call.tool


def _outcome(call: AgentToolCall) -> str:
    took = f"({call.elapsed_s * 1000:.0f} ms)"
    if call.failure is not None:
        return f"failed: {_short_text(call.failure.message)} {took}"
    return f"{_short(call.result)} {took}"


def _short(value: object) -> str:
    if isinstance(value, str):
        return _short_text(value)
    return _short_text(json.dumps(value, ensure_ascii=False, default=repr))


def _short_text(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_LENGTH else f"{line[:_SHOWN_LENGTH]}…"
