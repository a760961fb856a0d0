"""What `llmspell workflow` shows: steps while they go on, and the tree of all at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from services.gateway.cli.output import clean, say, stderr, stdout, to_plain

if TYPE_CHECKING:
    from types import TracebackType

    from llmspell.types import ExecutionEvent, Spent, StepResult, WorkflowResult

_SIGNS = {
    "completed": ("✔", "green"),
    "failed": ("✘", "red"),
    "running": ("●", "cyan"),
    "pending": ("○", "dim"),
    "skipped": ("-", "dim"),
    "cancelled": ("■", "yellow"),
    "partially_completed": ("◐", "yellow"),
    "interrupted": ("?", "yellow"),
}
_BRIEF = 80
"""Characters of an output in a tree."""
_LINES_MAX = 30
"""Steps that are shown while a workflow goes on."""
_MINUTE_S, _SECOND_MS = 60.0, 1000.0


def show_seconds(seconds: float | None) -> str:
    """How long something took, for people."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * _SECOND_MS:.0f} ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    return f"{seconds // _MINUTE_S:.0f} min {seconds % _MINUTE_S:.0f} s"


def show_cost(spent: Spent) -> str:
    """What something cost; nothing where no model was asked."""
    if not spent.model_calls and not spent.cost_usd and not spent.input_tokens:
        return ""
    tokens = spent.input_tokens + spent.output_tokens
    about = "about " if spent.estimated else ""
    return f"{about}${spent.cost_usd:.4f}, {tokens:,} tokens"


def brief(value: Any, most: int = _BRIEF) -> str:
    """A value on one line, cut."""
    text = value if isinstance(value, str) else json.dumps(to_plain(value), ensure_ascii=False)
    line = " ".join(clean(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


# The tree at the end.


@dataclass(slots=True)
class _Node:
    name: str
    step: StepResult | None = None
    children: dict[str, _Node] = field(default_factory=dict)


def parts_of(path: str) -> list[str]:
    """A path's parts: `each#2/say` is `each`, `#2`, `say`."""
    found: list[str] = []
    for segment in path.split("/"):
        name, *numbers = segment.split("#")
        found += [name] if name else []
        found += [f"#{number}" for number in numbers]
    return found


def _grown(steps: Iterable[StepResult]) -> _Node:
    root = _Node("")
    for step in steps:
        node = root
        for part in parts_of(step.path):
            node = node.children.setdefault(part, _Node(part))
        node.step = step
    return root


def tree_of(result: WorkflowResult, *, full: bool = False) -> Tree:
    """Every step below the one that it is a part of.

    Args:
        result: What came of a workflow.
        full: Whether with all of each step's input and output.
    """
    head = _line(result.name, result.kind, result.status)
    _add(head, show_seconds(result.elapsed_s), show_cost(result.spent))
    if result.failure is not None:
        _add(head, result.failure.message, style="red")
    tree = Tree(head, guide_style="dim")
    _hang(tree, _grown(result.steps), full=full)
    return tree


def _hang(tree: Tree, node: _Node, *, full: bool) -> None:
    for child in node.children.values():
        branch = tree.add(_told(child, full=full))
        if full and child.step is not None:
            _detail(branch, child.step)
        _hang(branch, child, full=full)


def _told(node: _Node, *, full: bool) -> Text:
    step = node.step
    if step is None:
        return Text(clean(node.name))
    name = f"{node.name} (undone)" if step.is_compensation else node.name
    line = _line(name, step.kind, step.status)
    tries = f"{step.attempts} tries" if step.attempts > 1 else ""
    _add(line, show_seconds(step.elapsed_s), show_cost(step.spent), tries)
    if step.failure is not None:
        _add(line, step.failure.message, style="red")
    elif step.output is not None and not full and not node.children:
        _add(line, brief(step.output), style="")
    return line


def _line(name: str, kind: str, status: str) -> Text:
    sign, style = _SIGNS.get(status, ("·", ""))
    return Text.assemble((sign, style), " ", (clean(name), "bold"), (f" {kind}", "dim"))


def _add(line: Text, *parts: str, style: str = "dim") -> None:
    for part in parts:
        if part:
            line.append("  ")
            line.append(clean(part), style=style)


def _detail(tree: Tree, step: StepResult) -> None:
    for name, value in (("input", step.input), ("output", step.output)):
        if value is not None:
            text = value if isinstance(value, str) else _document(value)
            tree.add(Text.assemble((f"{name} ", "dim"), clean(text)))
    for name, told in (step.failure.metadata if step.failure else {}).items():
        tree.add(Text.assemble((f"{name} ", "dim"), clean(told)))


def _document(value: Any) -> str:
    """On one line where it is short."""
    line = json.dumps(to_plain(value), ensure_ascii=False)
    if len(line) <= _BRIEF:
        return line
    return json.dumps(to_plain(value), ensure_ascii=False, indent=2)


def show_result(result: WorkflowResult, *, full: bool = False) -> None:
    """The tree, and how to see more of it."""
    stdout().print(tree_of(result, full=full), soft_wrap=True)
    if result.output is not None:
        text = result.output if isinstance(result.output, str) else _document(result.output)
        stdout().print(Text.assemble(("output ", "dim"), clean(text)), soft_wrap=True)
    if not full and result.execution_id:
        say(f"`llmspell workflow show {result.execution_id}` shows every step's result.", "dim")


# While it goes on.


class Steps:
    """Shows steps as they begin and end: in place on a terminal, else a line for each end."""

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        """`quiet`: shows nothing."""
        console = stderr()
        self._name = name
        self._quiet = quiet
        self._steps: dict[str, StepResult] = {}
        self._live: Live | None = None
        if console.is_terminal and not quiet:
            self._live = Live(console=console, transient=True, get_renderable=self._shown)

    def __enter__(self) -> Callable[[ExecutionEvent], None]:
        if self._live is not None:
            self._live.start()
        return self.hear

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def hear(self, event: ExecutionEvent) -> None:
        """Something has happened."""
        step = event.step
        if step is None:
            return
        self._steps[step.path] = step
        if self._live is None and not self._quiet and event.kind == "step_ended":
            line = _line(step.path, step.kind, step.status)
            _add(line, show_seconds(step.elapsed_s), show_cost(step.spent))
            stderr().print(line)

    def _shown(self) -> Tree:
        tree = Tree(Text(clean(self._name), style="bold"), guide_style="dim")
        latest = list(self._steps.values())[-_LINES_MAX:]
        hidden = len(self._steps) - len(latest)
        if hidden:
            tree.add(Text(f"… {hidden} more before", style="dim"))
        _hang(tree, _grown(latest), full=False)
        return tree


def show_form(form: Mapping[str, Any]) -> None:
    """A workflow as a file has it, in YAML."""
    import yaml  # noqa: PLC0415  (only this needs it)

    text = yaml.safe_dump(to_plain(form), sort_keys=False, allow_unicode=True, width=100)
    for line in text.splitlines():
        stdout().print(Text(clean(line)), soft_wrap=True)
