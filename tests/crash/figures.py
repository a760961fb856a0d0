"""What the tests here have reached, for the table at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: what was asked, what was seen, and which broken build the same test catches."""

    name: str
    what: str
    asked: str
    reached: str
    teeth: str = ""


HEAD = Figure("", "what", "asked", "reached", "caught")


def table(figures: list[Figure]) -> str:
    """The lines in columns, ordered by the plan's names: T1, T2, … T17."""
    rows = [HEAD, *sorted(figures, key=lambda each: (int(each.name[1:]), each.what))]
    cells = [(row.name, row.what, row.asked, row.reached, row.teeth) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join(lines)
