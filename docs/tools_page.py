"""The reference page of tools, from the tools themselves; no process is started for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from services.gateway.cli import tool_pages
from services.runtime.toolbox import catalogue
from services.runtime.toolbox.model import MIB, Need, Tool, described
from services.runtime.tools.inner import catalogue as inner

ABOUT = """\
Every tool, by category. `llmspell tool show NAME` prints the same of one, as the deployment that
is asked has it; the guide on tools says how they are used and written. A tool answers to its name,
to the same with underscores, and to the older names given here; the older names of parameters,
given after *also*, are read too.

Who may execute a tool goes by its level: `safe` needs `tool.execute`, `restricted` the permission
`tool.restricted` as well, `privileged` `tool.privileged`. Writers hold the first two, admins all
three."""
_NEEDS = {
    Need.FILES: "the tenant's files",
    Need.NETWORK: "connections that the host checks and makes",
    Need.PROGRAMS: "programs of the machine, in the same jail",
    Need.WATCH: "changes of files",
}


def every_tool() -> list[Tool]:
    """Every tool, in order of category and name."""
    known = [*catalogue.TOOLS.values(), *inner.TOOLS.values()]
    return sorted(known, key=lambda tool: (tool.category, tool.name))


def lines() -> Iterator[str]:
    """The page below its heading."""
    yield from ("", "| category | tool | level | |", "|---|---|---|---|")
    for tool in every_tool():
        link = f"[{tool.name}](#{tool.name})"
        yield f"| {tool.category} | {link} | {tool.level} | {_cell(tool.description)} |"
    for category, tools in itertools.groupby(every_tool(), lambda tool: tool.category):
        yield from ("", f"## {category}")
        for tool in tools:
            yield from _tool(tool)


def _tool(tool: Tool) -> Iterator[str]:
    told = described(tool)
    yield from ("", f"### {tool.name}", "", tool.description, "")
    yield f"- level `{tool.level}`, version {tool.version}"
    if told["old_names"]:
        yield f"- also known as {', '.join(f'`{name}`' for name in told['old_names'])}"
    yield f"- {_place(tool)}"
    yield from ("", "| parameter | type | default | |", "|---|---|---|---|")
    for row in tool_pages.parameter_rows(tool.parameters):
        yield _row(row, also=_also(tool, row[0]))
    yield from _result(tool)
    if tool.notes:
        yield from ("", tool.notes)


def _place(tool: Tool) -> str:
    """Where it runs, with what, and within which limits."""
    if tool.name in inner.TOOLS:
        return f"runs in the runtime itself, for {tool.limits.wall_s:g} s at most"
    limits = tool.limits
    given = [_NEEDS[need] for need in Need if need in tool.needs]
    reach = f" with {' and '.join(given)}" if given else ""
    return (
        f"runs in a jailed process{reach}, for {limits.wall_s:g} s at most unless the caller says "
        f"otherwise, {limits.cpu_s} s of processor time, {limits.memory_bytes // MIB} MiB of memory"
    )


def _also(tool: Tool, name: str) -> str:
    old = [f"`{synonym}`" for synonym, meant in tool.synonyms.items() if meant == name]
    return f" *Also* {', '.join(old)}." if old else ""


def _row(row: list[str], *, also: str) -> str:
    name, kind, default, meaning = row
    shown = default if default in ("", "must be given") else f"`{default}`"
    return f"| `{name}` | {_cell(kind)} | {_cell(shown)} | {_cell(meaning)}{also} |"


def _result(tool: Tool) -> Iterator[str]:
    rows = tool_pages.result_rows(tool.result)
    if not rows:
        told: Any = tool.result.get("description", "")
        if told:
            yield from ("", f"Result: {told}")
        return
    if not any(meaning for *_, meaning in rows):
        fields = ", ".join(f"`{name}` ({kind})" for name, kind, _ in rows)
        yield from ("", f"Fields of the result: {fields}.")
        return
    yield from ("", "| field of the result | type | |", "|---|---|---|")
    for name, kind, meaning in rows:
        yield f"| `{name}` | {_cell(kind)} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
