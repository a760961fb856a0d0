"""`make run`: the main job, done for real in a folder of its own, told as it happens.

Four processes start; this project's own documents are chunked, embedded by a real model and stored
for one tenant; a Lua script asks them three questions through the gateway and keeps something in
state; a second tenant finds none of it; a process is killed and nothing is lost. Everything that
was started is stopped, and everything that was written is removed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from llmspell import Client
from llmspell.types import RunOutput, RunResult
from rich.console import Console

from services.common.errors import ServiceError
from services.common.processes import Processes, running
from services.gateway.cli.documents import find_sources
from services.gateway.cli.ingestion import Report, ingest_sources
from services.gateway.cli.output import fail

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path("examples/tour.lua")
DOCUMENTS = (Path("README.md"), Path("THREAT_MODEL.md"), Path("docs/guide"))
PAGES_LEFT_OUT = "reference"
"""Tables are poor reading; the guides answer questions."""

WHAT_THEY_DO = {
    "gateway": "the one public door: keys, tenants, routing",
    "runtime": "runs Lua scripts, each in a jailed process of its own",
    "vector": "chunks, embeds, stores and searches documents",
    "state": "keeps what scripts remember",
}

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Take the tour; exit code 0 where every stop was reached."""
    started = time.monotonic()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in a pipe too
    os.chdir(ROOT)  # so that sources read as they are named in the repository
    try:
        with tempfile.TemporaryDirectory(prefix="llmspell-tour-") as folder:
            asyncio.run(_tour(Path(folder)))
    except ServiceError as error:
        fail(error)
    took = time.monotonic() - started
    console.print(f"\n[bold green]Done in {took:.0f} s.[/] All four processes are stopped again.")
    console.print(
        "Your turn: `make up` keeps them running; then, in another terminal, "
        "`.venv/bin/llmspell health`, `… rag ingest FOLDER`, `… rag search TEXT`.\n"
        "docs/guide/start.md goes on from here."
    )


async def _tour(folder: Path) -> None:
    _stop(1, "Start four processes")
    started = time.monotonic()
    address = f"127.0.0.1:{_free_port()}"
    returned = asyncio.Event()
    async with running(folder, address, report=lambda _, what: _watch(what, returned)) as processes:
        console.print(f"  all serving after {time.monotonic() - started:.1f} s")
        for name, what in WHAT_THEY_DO.items():
            console.print(f"  [green]●[/] {name:<8} pid {processes.pid(name):<7} {what}")
        keys = await asyncio.to_thread(_make_tenants, processes)
        await asyncio.to_thread(_use, address, keys)
        await _kill(processes, returned)
        await asyncio.to_thread(_look_again, address, keys["acme"])


def _make_tenants(processes: Processes) -> dict[str, str]:
    _stop(2, "Make two tenants, each with a key of its own")
    keys = {}
    with Client(processes.address, processes.operator_key) as operator:
        for tenant in ("acme", "globex"):
            operator.create_tenant(tenant)
            created = operator.create_key(tenant)
            keys[tenant] = created.key
            console.print(f"  {tenant:<7} key llms_{created.api_key.key_id}_…")
    return keys


def _use(address: str, keys: dict[str, str]) -> None:
    with Client(address, keys["acme"]) as acme:
        _ingest(acme)
        _run_script(acme)
    _stop(5, "Let the other tenant ask the same")
    with Client(address, keys["globex"]) as globex:
        found = globex.retrieve("How is one tenant kept away from another tenant's data?")
        kept = globex.get_state("asked", scope="session:tour")
        if found.hits or kept is not None:
            sys.exit("error: globex sees what belongs to acme")
    console.print("  globex finds 0 passages and no state: what is acme's does not exist for it")


def _ingest(acme: Client) -> None:
    _stop(3, "Ingest real documents: this project's own guides")
    sources, _ = find_sources([path for path in DOCUMENTS if path.exists()])
    chosen = [source for source in sources if PAGES_LEFT_OUT not in source.path.parts]
    report = Report()
    ingest_sources(chosen, acme.import_documents, acme.ingest, report)
    console.print(
        f"  {report.done_count} documents → {report.chunk_count} chunks, "
        f"{report.token_count} tokens embedded by all-MiniLM-L6-v2 on this machine, "
        f"in {report.elapsed_s:.1f} s"
    )


def _run_script(acme: Client) -> None:
    _stop(4, f"Run a Lua script that asks three questions ({SCRIPT})")
    for event in acme.run(SCRIPT.read_text("utf-8"), name=SCRIPT.name):
        if isinstance(event, RunOutput):
            text = event.data.decode("utf-8", "replace")
            console.print("  " + text.rstrip("\n").replace("\n", "\n  "), markup=False)
        elif isinstance(event, RunResult):
            console.print(
                f"  the script took {event.elapsed_s:.2f} s and made {event.call_count} calls"
            )


async def _kill(processes: Processes, returned: asyncio.Event) -> None:
    _stop(6, "Kill the state process with kill -9, as a crash would")
    victim = processes.pid("state")
    started = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    await asyncio.wait_for(returned.wait(), 30)
    console.print(
        f"  pid {victim} died; pid {processes.pid('state')} serves after "
        f"{time.monotonic() - started:.1f} s"
    )


def _look_again(address: str, key: str) -> None:
    with Client(address, key) as acme:
        item = acme.get_state("asked", scope="session:tour")
        if item is None or not isinstance(item.value, dict):
            sys.exit("error: what was kept in state is gone")
        console.print(
            f"  state read back: {item.value['count']} questions asked (revision {item.revision})"
        )


def _watch(what: str, returned: asyncio.Event) -> None:
    if what.startswith("serving again"):
        returned.set()


def _stop(number: int, title: str) -> None:
    if number == 1:
        console.print("[bold]LLMSpell, a short tour[/]")
    console.print(f"\n[bold cyan]{number}. {title}[/]")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
