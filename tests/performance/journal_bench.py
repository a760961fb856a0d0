"""What a journal costs: the same scripts with and without one, in turn.

`python -m tests.performance.journal_bench` prints a Markdown table (about a minute; `make bench`
does it too). A ratio is the median of pairs that were run one after the other. What is written
after a run's end is let happen before the next one begins.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from llmspell import Client
from llmspell.types import RunResult

from services.common.processes import running
from tests.integration.deployment import free_port
from tests.performance.report import Report

PAIRS = 20
SETTLES_S = 0.03
MOST = 1.05
SCRIPTS = {
    "20 calls of a tool that computes": "for i = 1, 20 do Tool.execute('calculator', "
    "{input = i .. ' * 2'}) end",
    "100 searches of documents": "for i = 1, 100 do RAG.search('cats', {k = 3}) end",
    "200 reads": "for i = 1, 200 do State.load('global', 'k') end",
    "100 writes": "for i = 1, 100 do State.save('global', 'k', i) end",
    "50 times a read, then a write": "for i = 1, 50 do local n = State.load('global', 'k') "
    "State.save('global', 'k', n + 1) end",
    "1000 looks at the clock": "for i = 1, 1000 do os.clock() end",
    "nothing": "return 1",
}
ASKED = "20 calls of a tool that computes"


def _run_s(client: Client, source: str, *, journal: bool) -> float:
    """Seconds from the call until the result is told."""
    time.sleep(SETTLES_S)
    begin = time.perf_counter()
    *_, result = client.run(source, journal=journal)
    assert isinstance(result, RunResult)
    return time.perf_counter() - begin


def bench(report: Report, client: Client) -> None:
    """Each script in pairs, now one first and now the other."""
    client.set_state("k", 1)
    for what, source in SCRIPTS.items():
        took: dict[bool, list[float]] = {True: [], False: []}
        for number in range(PAIRS + 3):
            for journal in (number % 2 == 0, number % 2 == 1):
                took[journal].append(_run_s(client, source, journal=journal))
        pairs = list(zip(took[True], took[False], strict=True))[3:]
        ratio = statistics.median(one / other for one, other in pairs)
        kept, bare = (1e3 * statistics.median(took[journal][3:]) for journal in (True, False))
        figure = f"{kept:.1f} ms beside {bare:.1f} ms: {ratio:.3f}"
        if what == ASKED:
            report.asked(f"journal on beside off: {what}", figure, "under 1.05", ratio < MOST)
        else:
            report.line(f"journal on beside off: {what}", figure)


async def _main() -> None:
    report = Report()
    with tempfile.TemporaryDirectory(prefix="llmspell-bench-") as folder:
        address = f"127.0.0.1:{free_port()}"
        async with running(Path(folder) / "data", address, report=print) as processes:
            await asyncio.to_thread(_measure, report, processes.address, processes.operator_key)
    print(f"\n{report.table()}")


def _measure(report: Report, address: str, operator_key: str) -> None:
    with Client(address, operator_key) as operator:
        operator.create_tenant("bench")
        key = operator.create_key("bench", roles=["admin"]).key
    with Client(address, key, timeout_s=60) as client:
        for _ in client.run("RAG.ingest({content = 'Cats purr.', id = 'c'})"):
            pass
        bench(report, client)


if __name__ == "__main__":
    asyncio.run(_main())
