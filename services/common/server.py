"""How a process starts, serves and stops; the same in all four.

Start: settings, log, engine (which recovers), servicers, health NOT_SERVING, bind, SERVING.
Stop, on SIGTERM and SIGINT alike: NOT_SERVING, no new calls, time for those in flight, cancel,
close the engine, exit 0.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.config import load_settings
from services.common.door import Door
from services.common.errors import Reason, ServiceError, reason_name
from services.common.lifetime import end_with_parent
from services.common.limits import MESSAGE_BYTES_MAX, METADATA_BYTES_MAX, STREAMS_MAX
from services.common.settings import Settings
from services.common.telemetry import start_logging

log = logging.getLogger(__name__)

EXIT_CANNOT_START = 78
"""The process was refused by its configuration or its data folder; starting it again will not
help (EX_CONFIG of sysexits)."""

EXIT_SOFTWARE = 70
"""Something that must not fail has failed; the log has it (EX_SOFTWARE)."""

DIE_WITH_PARENT = "LLMSPELL_DIE_WITH_PARENT"
"""Environment variable: the process id of a supervisor that this process must not outlive."""

_OPTIONS = (
    # Two processes must not share a port: a stale one would take half the calls.
    ("grpc.so_reuseport", 0),
    # Twice the limit, so that a message a little too large is told the limit by the door; grpc
    # itself would only say that it was refused.
    ("grpc.max_receive_message_length", 2 * MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.server_handshake_timeout_ms", 5000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a process consists of, once its engine is open."""

    listen: str
    """Where it serves."""
    door: Door
    """How calls enter."""
    register: Callable[[grpc.aio.Server], None]
    """Adds its servicers."""
    services: Sequence[str]
    """Full names of the services it serves, for health and reflection."""
    reflection: bool
    """Whether it describes the contract."""
    background: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=tuple)
    """Loops that run while it serves; one that fails ends the process."""
    close: Callable[[], Awaitable[None]]
    """Called last."""


Build = Callable[[Settings], Awaitable[Parts]]


def main(name: str, build: Build) -> int:
    """The body of each `__main__`: run the process until a signal; its exit code."""
    arguments = _arguments(name)
    start_logging(name, "info")
    _die_with_parent()
    try:
        settings = load_settings(arguments.config, os.environ, arguments.set)
        start_logging(name, settings.telemetry.log_level)
        asyncio.run(_run(settings, build))
    except ServiceError as error:
        log.error(  # noqa: TRY400  (the message says it all; a trace would hide it)
            "cannot start",
            extra={
                "reason": reason_name(error.reason),
                "why": error.message,
                "what": error.metadata,
            },
        )
        return EXIT_CANNOT_START
    return 0


def _die_with_parent() -> None:
    """Where a supervisor asks for it: end when it ends, however it ends.

    By SIGKILL: a store loses nothing by it, and one that drained would hold its folder against
    the supervisor that comes next.
    """
    parent = os.environ.get(DIE_WITH_PARENT)
    if parent is None:
        return
    end_with_parent()
    if os.getppid() != int(parent):  # it ended before we asked
        sys.exit(0)


async def _run(settings: Settings, build: Build) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parts = await build(settings)
    try:
        await _serve(parts, stop, drain_s=settings.deployment.drain_s)
    finally:
        await parts.close()


async def _serve(parts: Parts, stop: asyncio.Event, *, drain_s: float) -> None:
    server = new_server(parts.door)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    parts.register(server)
    if parts.reflection:
        names = (*parts.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    _bind(server, parts.listen)
    await server.start()
    await _set_health(health_servicer, parts.services, health_pb2.HealthCheckResponse.SERVING)
    log.info("serving", extra={"address": parts.listen, "pid": os.getpid()})
    try:
        await _until_stopped(stop, parts.background)
    finally:
        await health_servicer.enter_graceful_shutdown()
        await server.stop(drain_s)
        log.info("stopped")


def new_server(door: Door) -> grpc.aio.Server:
    """A server that finds each method by its name.

    Generated code adds its handlers in two ways, by name and as registered methods. For those
    grpcio 1.85 waits anew, with every call, for one task a method (its pull request 43461): with 70
    methods that took more than our door does.
    """
    server = grpc.aio.server(interceptors=(door,), options=_OPTIONS)
    server.add_registered_method_handlers = _by_name_only  # type: ignore[method-assign]
    return server


def _by_name_only(service_name: str, method_handlers: object) -> None:
    del service_name, method_handlers


async def _until_stopped(
    stop: asyncio.Event, background: Sequence[Callable[[], Awaitable[None]]]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        loops = [tasks.create_task(_as_coroutine(start)) for start in background]
        await stop.wait()
        for loop in loops:
            loop.cancel()


async def _as_coroutine(start: Callable[[], Awaitable[None]]) -> None:
    try:
        await start()
    except Exception as error:
        log.critical("a background loop failed; the process ends", exc_info=error)
        sys.exit(EXIT_SOFTWARE)


def _bind(server: grpc.aio.Server, address: str) -> None:
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ServiceError(
            Reason.ADDRESS_IN_USE,
            f"{address} cannot be listened on: another process has it, or it is no address of this "
            "machine. Stop that process or choose another port.",
            address=address,
        )


async def _set_health(servicer: Any, services: Sequence[str], status: int) -> None:
    for name in ("", *services):
        await servicer.set(name, status)


def _arguments(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}", allow_abbrev=False)
    parser.add_argument("--config", type=Path, default=os.environ.get("LLMSPELL_CONFIG") or None)
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE")
    return parser.parse_args()
