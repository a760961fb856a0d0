"""How a process starts, serves and stops; the same in all four.

Start: settings, log, engine (which recovers), servicers, health NOT_SERVING, bind, SERVING.
Stop, on SIGTERM and SIGINT alike: not ready, `lame_duck_s` more, NOT_SERVING, no new calls, time
for those in flight, cancel, close the engine, exit 0.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.config import load_settings
from services.common.context import Seal
from services.common.door import Door
from services.common.errors import Reason, ServiceError, reason_name
from services.common.handlers import Handlers
from services.common.health import Health
from services.common.lifetime import end_with_parent
from services.common.limits import (
    CONNECTIONS_MAX,
    MESSAGE_BYTES_MAX,
    METADATA_BYTES_MAX,
    STREAMS_MAX,
)
from services.common.metrics_server import metrics_page
from services.common.recording import recording
from services.common.settings import DeploymentSettings, Settings
from services.common.telemetry import start_logging
from services.common.terminus import Terminus
from services.common.tls import Certificates, is_socket_file, refuse_plaintext
from services.common.vitals import Vitals

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
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
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
    options: Sequence[tuple[str, int]] = ()
    """Of its server; they come before those that all have."""
    trunk: Seal | None = None
    """Who may send calls together on one stream: whoever seals with this; None: nobody."""
    handlers: Handlers = field(default_factory=Handlers)
    """Told of every method that is served."""
    background: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=tuple)
    """Loops that run while it serves; one that fails ends the process."""
    close: Callable[[], Awaitable[None]]
    """Called last."""
    vitals: Vitals
    """What it knows of itself."""
    metrics_listen: str = ""
    """Where Prometheus gets its metrics; empty: nowhere."""


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
        with recording(settings.telemetry, parts.vitals):
            async with metrics_page(parts.metrics_listen, parts.vitals):
                await _serve(parts, stop, settings.deployment)
    finally:
        await parts.close()


async def _serve(parts: Parts, stop: asyncio.Event, times: DeploymentSettings) -> None:
    server = new_server(parts.door, parts.handlers, options=parts.options)
    terminus = None
    if parts.trunk is not None:
        terminus = Terminus(parts.door, parts.trunk, parts.handlers)
        server.add_generic_rpc_handlers((terminus,))
    health_servicer = Health()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    parts.register(server)
    if parts.reflection:
        names = (*parts.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    tls = parts.vitals.tls
    refuse_plaintext(parts.listen, tls)
    encrypted = bind(server, parts.listen, tls.listener)
    await server.start()
    readiness = parts.vitals.readiness
    await readiness.tell(health_servicer, parts.services)
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    log.info("serving", extra={"address": parts.listen, "pid": os.getpid(), "encrypted": encrypted})

    async def follow() -> None:
        await readiness.follow(health_servicer, parts.services)

    async def leave() -> None:
        await readiness.leave(health_servicer, parts.services)
        await asyncio.sleep(times.lame_duck_s)

    try:
        await _until_stopped(stop, (follow, *parts.background, *tls.loops()), leave)
    finally:
        await health_servicer.enter_graceful_shutdown()
        health_servicer.end_watches()
        if terminus is not None:
            terminus.drain()
        await server.stop(times.drain_s)
        log.info("stopped")


def new_server(
    door: Door, handlers: Handlers | None = None, *, options: Sequence[tuple[str, int]] = ()
) -> grpc.aio.Server:
    """A server that finds each method by its name.

    Generated code adds its handlers in two ways, by name and as registered methods. For those
    grpcio 1.85 waits anew, with every call, for one task a method (its pull request 43461): with 70
    methods that took more than our door does.
    """
    server = grpc.aio.server(interceptors=(door,), options=(*options, *_OPTIONS))
    server.add_registered_method_handlers = _by_name_only  # type: ignore[method-assign]
    if handlers is not None:
        _learn(server, handlers)
    return server


def _learn(server: grpc.aio.Server, known: Handlers) -> None:
    """Know every method that is added from now on."""
    add = server.add_generic_rpc_handlers

    def add_and_learn(handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        kept = tuple(handlers)
        add(kept)
        known.learn(kept)

    server.add_generic_rpc_handlers = add_and_learn  # type: ignore[method-assign,assignment]


def _by_name_only(service_name: str, method_handlers: object) -> None:
    del service_name, method_handlers


async def _until_stopped(
    stop: asyncio.Event,
    background: Sequence[Callable[[], Awaitable[None]]],
    leave: Callable[[], Awaitable[None]],
) -> None:
    """`leave`: what is done before the loops end, while calls still come."""
    async with asyncio.TaskGroup() as tasks:
        loops = [tasks.create_task(_as_coroutine(start)) for start in background]
        await stop.wait()
        await leave()
        for loop in loops:
            loop.cancel()


async def _as_coroutine(start: Callable[[], Awaitable[None]]) -> None:
    try:
        await start()
    except Exception as error:
        log.critical("a background loop failed; the process ends", exc_info=error)
        sys.exit(EXIT_SOFTWARE)


def bind(server: grpc.aio.Server, address: str, certificates: Certificates | None) -> bool:
    """Take an address; whether what goes through it is encrypted. A Unix socket's never is.

    Raises:
        ServiceError: ADDRESS_IN_USE.
    """
    shown = None if is_socket_file(address) else certificates
    try:
        if shown is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, shown.server_credentials())
    except RuntimeError:
        bound = 0
    if not bound:
        raise ServiceError(
            Reason.ADDRESS_IN_USE,
            f"{address} cannot be listened on: another process has it, or it is no address of this "
            "machine. Stop that process or choose another port.",
            address=address,
        )
    return shown is not None


def _arguments(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}", allow_abbrev=False)
    parser.add_argument("--config", type=Path, default=os.environ.get("LLMSPELL_CONFIG") or None)
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE")
    return parser.parse_args()
