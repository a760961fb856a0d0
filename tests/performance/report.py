"""Lines of a benchmark, printed as they come and kept for a page."""

from __future__ import annotations

import sys


class Report:
    """What was asked, what was measured, and what else is worth knowing."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []

    def asked(self, what: str, measured: str, target: str, met: bool) -> None:
        """A line with a target."""
        self._add(what, measured, target, "met" if met else "**missed**")

    def line(self, what: str, measured: str) -> None:
        """A line without."""
        self._add(what, measured, "", "")

    def table(self) -> str:
        """All lines as a Markdown table."""
        head = "| what | measured | asked | |\n| --- | --- | --- | --- |\n"
        return head + "".join(f"| {' | '.join(row)} |\n" for row in self.rows)

    def _add(self, *row: str) -> None:
        self.rows.append(row)  # type: ignore[arg-type]
        print(" | ".join(row))
        sys.stdout.flush()
