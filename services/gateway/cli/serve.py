"""`llmspell up`: the four processes on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.common.errors import Reason, ServiceError
from services.gateway.cli.output import fail

DEFAULT_PORT = 50060


def default_data() -> Path:
    """Where a deployment without --data keeps its data: the user's data folder (XDG)."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "llmspell"


def up(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for stores, secrets and logs; else $XDG_DATA_HOME/llmspell or "
            "~/.local/share/llmspell.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the gateway on 127.0.0.1.")
    ] = DEFAULT_PORT,
    config: Annotated[
        Path | None, typer.Option(help="Settings, as `llmspell config example` prints them.")
    ] = None,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            help="Encrypt the gateway's port, by an authority that is made in the data folder.",
        ),
    ] = False,
) -> None:
    """Start all four processes, keep them running, stop them with Ctrl-C."""
    try:
        asyncio.run(_up(data or default_data(), port, config, tls=tls))
    except ServiceError as error:
        fail(error)


async def _up(data: Path, port: int, config: Path | None, *, tls: bool) -> None:
    from llmspell._profile import usual_path, write_profile  # noqa: PLC0415  (slow imports)

    from services.common.processes import DEFAULT_TENANT, running  # noqa: PLC0415

    console = Console(highlight=False)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def report(name: str, what: str) -> None:
        console.print(f"  [yellow]{name}[/] {what}")

    address = f"127.0.0.1:{port}"
    console.print("[bold]LLMSpell[/] is starting four processes …")
    folder = _certificates(data) if tls else None
    ca_file = str(folder / "ca.crt") if folder else os.environ.get("LLMSPELL_CA_FILE", "")
    async with running(data, address, config=config, tls=folder, report=report) as processes:
        key = processes.operator_key
        await asyncio.to_thread(ensure_tenant, address, key, DEFAULT_TENANT, ca_file)
        write_profile(None, address=address, api_key=key, tenant=DEFAULT_TENANT, ca_file=ca_file)
        for name in reversed(list(processes.children)):
            where = address if name == "gateway" else "behind the gateway"
            console.print(f"  [green]●[/] {name:<8} pid {processes.pid(name):<7} {where}")
        console.print(f"Data in {data.absolute()}; the operator's profile is {usual_path()}.")
        console.print("Try `llmspell top` in another terminal. Ctrl-C stops.")
        await stop.wait()
        console.print("Stopping …")
    console.print("Stopped.")


def _certificates(data: Path) -> Path:
    """The folder of the deployment's own authority, made where it is missing."""
    from services.gateway.cli.tls import ensure  # noqa: PLC0415  (slow to import)

    folder = data.absolute() / "tls"
    try:
        ensure(folder)
    except OSError as error:
        raise ServiceError(
            Reason.STORE_NOT_WRITABLE,
            f"Certificates cannot be written to {folder}: {error.strerror}.",
            path=folder,
        ) from None
    return folder


def ensure_tenant(address: str, operator_key: str, tenant: str, ca_file: str = "") -> None:
    """Make a tenant where it is not there yet."""
    from llmspell import AlreadyExists, Client  # noqa: PLC0415  (grpc is slow to import)

    with Client(address, operator_key, ca_file=ca_file or None) as client:
        try:
            client.create_tenant(tenant)
        except AlreadyExists:
            return
