"""Ours, as clients reach it: through the gateway, with a key."""

from __future__ import annotations

from services.common.processes import Processes
from tests.performance.peers.engines import llmspell
from tests.performance.peers.measure import family


class Engine(llmspell.Engine):
    """The same calls by way of the gateway; memory is that of all four processes."""

    title = "LLMSpell, through its gateway, bf16 graph, dot"

    def pids(self) -> list[int]:
        processes = self.deployment.processes
        return [pid for name in processes.children for pid in family(processes.pid(name))]

    def _door(self, processes: Processes) -> tuple[str, llmspell.Metadata]:
        return processes.address, (("authorization", f"Bearer {self.deployment.key()}"),)
