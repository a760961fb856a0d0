"""Runs the four processes on one machine: `llmspell up`, the tour and the integration tests.

The three inner processes listen on Unix sockets in a folder of mode 0700, so that only the
gateway has a port (ADR 0008). A process that dies is started again at once; one that says that it
cannot start ends all of them with its words.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.config import load_settings
from services.common.errors import Reason, ServiceError
from services.common.server import DIE_WITH_PARENT, EXIT_CANNOT_START
from services.common.vitals import READY

NAMES = ("state", "vector", "runtime", "gateway")
DEFAULT_TENANT = "default"
"""Which `llmspell up` makes: the operator's own."""
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.02
_RESTART_DELAY_MAX_S = 5.0
_HEALTHY_AFTER_S = 1.0
_KILL_AFTER_S = 10.0
_MASTER_KEYS = frozenset({"LLMSPELL_MASTER_KEY", "LLMSPELL_PREVIOUS_MASTER_KEY"})
_PROVIDER_KEYS = ("_API_KEY", "_API_TOKEN")
"""Ends of variables with keys of providers, which the runtime process alone reads."""
_LOG_BYTES_MAX = 16 * 1024 * 1024

Report = Callable[[str, str], None]
"""Told (process name, what happened) when something does."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a local deployment keeps its things."""

    data: Path
    """Stores, secrets and logs."""

    def secret(self, name: str) -> Path:
        """A secret's file."""
        return self.data / "secrets" / name

    def log(self, name: str) -> Path:
        """A process's log."""
        return self.data / "logs" / f"{name}.log"

    @property
    def run_file(self) -> Path:
        """Process ids and addresses while it runs, as JSON."""
        return self.data / "run.json"


@dataclass(slots=True)
class _Child:
    name: str
    address: str
    encrypted: bool = False
    process: asyncio.subprocess.Process | None = None
    ready: float = 0.0
    """When it began to serve, on the monotonic clock; 0 while it starts."""
    quick_deaths: int = 0
    log_start: int = 0
    """Where in its log the words of the present process begin."""


@dataclass(slots=True)
class Processes:
    """The four, running."""

    place: Place
    address: str
    """The gateway's."""
    operator_key: str
    children: dict[str, _Child] = field(default_factory=dict)

    def pid(self, name: str) -> int:
        """The process id of one of them at this moment."""
        process = self.children[name].process
        return 0 if process is None else process.pid

    def addresses(self) -> dict[str, str]:
        """Where each of them listens."""
        return {name: child.address for name, child in self.children.items()}


@asynccontextmanager
async def running(
    data: Path, address: str, *, config: Path | None = None, tls: Path | None = None, report: Report
) -> AsyncIterator[Processes]:
    """Start the four and keep them running until the block ends.

    Args:
        data: Folder for stores, secrets and logs; made where it is missing.
        address: Where the gateway listens, such as `127.0.0.1:50060`.
        config: Settings of the deployment; addresses, data folders and secrets are set here.
        tls: Folder of `llmspell tls init`, whose certificate the gateway shows; None: what the
            settings say.
        report: Told when a process dies and when it is back.

    Raises:
        ServiceError: STORE_LOCKED, STORE_NOT_WRITABLE, or what a process said when it could not
            start.
    """
    place = Place(data.absolute())
    _refuse_taken(address)
    lock = _hold(place)
    sockets = Path(tempfile.mkdtemp(prefix="llmspell-"))
    processes = Processes(place, address, _secret(place, "operator.key", _operator_key))
    _secret(place, "context.key", lambda: secrets.token_hex(32))
    environment = _environment(processes, sockets, config, tls)
    public = load_settings(config, environment).gateway
    processes.children["gateway"].encrypted = bool(public.tls_certificate_file)
    supervisors: list[asyncio.Task[None]] = []
    try:
        for child in processes.children.values():
            await _start(child, place, environment)
        await _until_ready(processes)
        _write_run_file(processes)
        supervisors = [
            asyncio.create_task(_supervise(child, processes, environment, report))
            for child in processes.children.values()
        ]
        yield processes
    finally:
        for supervisor in supervisors:
            supervisor.cancel()
        # Each may just be starting a process; that one has to be stopped as well.
        await asyncio.gather(*supervisors, return_exceptions=True)
        await _stop(processes)
        place.run_file.unlink(missing_ok=True)
        shutil.rmtree(sockets, ignore_errors=True)
        os.close(lock)


def _refuse_taken(address: str) -> None:
    """Say so where the gateway's port has an owner: asked for its health, that one would answer."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise ServiceError(
                Reason.ADDRESS_IN_USE,
                f"{address} cannot be listened on: {error.strerror}. Stop what listens there, or "
                "choose another port with --port.",
                address=address,
            ) from None


def _hold(place: Place) -> int:
    """Make the folder ours until we end; two deployments must not share one."""
    lock = -1
    try:
        for folder in (place.data, place.data / "secrets", place.data / "logs"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(place.data / "LOCK", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ServiceError(
            Reason.STORE_LOCKED,
            f"{place.data} is in use by another `llmspell up`; stop it, or choose another folder "
            "with --data.",
            path=place.data,
        ) from None
    except OSError as error:
        raise ServiceError(
            Reason.STORE_NOT_WRITABLE,
            f"The data folder {place.data} cannot be used: {error.strerror}.",
            path=place.data,
        ) from None
    return lock


def _secret(place: Place, name: str, make: Callable[[], str]) -> str:
    """A secret of the deployment, made at the first start and kept for its owner alone."""
    file = place.secret(name)
    try:
        if not file.exists():
            _write_secret(file, make() + "\n")
        return file.read_text("ascii").strip()
    except OSError as error:
        raise ServiceError(
            Reason.STORE_NOT_WRITABLE,
            f"The secret {file} cannot be read or written: {error.strerror}.",
            path=file,
        ) from None


def _write_secret(file: Path, text: str) -> None:
    """Whole or not at all: half a key, kept for ever, would keep the deployment from starting."""
    aside = file.with_suffix(".new")
    descriptor = os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as target:
        target.write(text)
        target.flush()
        os.fsync(descriptor)
    aside.replace(file)


def _operator_key() -> str:
    return f"llms_operator_{secrets.token_urlsafe(32)}"


def _environment(
    processes: Processes, sockets: Path, config: Path | None, tls: Path | None = None
) -> dict[str, str]:
    place = processes.place
    listen = {name: f"unix:{sockets / name}.sock" for name in NAMES} | {
        "gateway": processes.address
    }
    processes.children = {name: _Child(name, listen[name]) for name in NAMES}
    settings = {f"{name}.listen": address for name, address in listen.items()}
    settings |= {f"gateway.{name}": listen[name] for name in ("runtime", "vector", "state")}
    settings["vector.state"] = listen["state"]
    settings |= {f"runtime.{name}": listen[name] for name in ("vector", "state")}
    settings |= {f"{name}.data": str(place.data / name) for name in ("runtime", "vector", "state")}
    settings["deployment.context_key_file"] = str(place.secret("context.key"))
    settings["gateway.operator_key_file"] = str(place.secret("operator.key"))
    if tls is not None:
        settings["gateway.tls_certificate_file"] = str(tls.absolute() / "gateway" / "tls.crt")
        settings["gateway.tls_key_file"] = str(tls.absolute() / "gateway" / "tls.key")
    # Whoever starts the four has this machine, and the tenant that comes with them.
    environment = {"LLMSPELL__GATEWAY__OPERATOR_TENANTS": DEFAULT_TENANT} | dict(os.environ)
    for key, value in settings.items():
        environment[f"LLMSPELL__{key.replace('.', '__').upper()}"] = value
    if not _says_where_traces_go(environment, config):
        environment["LLMSPELL__TELEMETRY__TRACES"] = str(place.data / "traces")
    environment[DIE_WITH_PARENT] = str(os.getpid())
    environment["PYTHONUNBUFFERED"] = "1"
    if config is not None:
        environment["LLMSPELL_CONFIG"] = str(config.absolute())
    return environment


def _says_where_traces_go(environment: Mapping[str, str], config: Path | None) -> bool:
    """Whether the operator has; one that cannot be read is told by the processes."""
    if "LLMSPELL__TELEMETRY__TRACES" in environment:
        return True
    file = environment.get("LLMSPELL_CONFIG") if config is None else config
    if not file:
        return False
    with suppress(OSError, ValueError):
        return "traces" in tomllib.loads(Path(file).read_text("utf-8")).get("telemetry", {})
    return False


async def _start(child: _Child, place: Place, environment: Mapping[str, str]) -> None:
    path = place.log(child.name)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
    # Before it is tried: a start that fails must count as a quick death.
    child.ready = 0.0
    with path.open("ab") as log:
        child.log_start = log.tell()
        child.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"services.{child.name}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_own(environment, child.name),
            # Ctrl-C is for the supervisor, which then stops them in order. Not a session of its
            # own: between sessions the kernel does not look at priorities (sched(7), autogroup).
            process_group=0,
        )


def _own(environment: Mapping[str, str], name: str) -> Mapping[str, str]:
    """What a process is given of the environment: of keys those that it alone needs."""
    others = {key for key in _MASTER_KEYS if name != "state"}
    others |= {key for key in environment if key.endswith(_PROVIDER_KEYS) and name != "runtime"}
    return {key: value for key, value in environment.items() if key not in others}


async def _until_ready(processes: Processes) -> None:
    # Ready, not only live: each has found those that it calls.
    waits = [_answers(child, processes.place, READY) for child in processes.children.values()]
    await asyncio.gather(*waits)


async def _answers(child: _Child, place: Place, service: str = "") -> None:
    """Wait until it says that it serves: anything at all, or what is named."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    if child.encrypted:
        await _listening(child, place, deadline)
        return
    async with grpc.aio.insecure_channel(child.address, options=_QUICK) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            if child.process is not None and child.process.returncode is not None:
                raise _cannot_start(child, place)
            with suppress(grpc.aio.AioRpcError):
                asked = health_pb2.HealthCheckRequest(service=service)
                answer = await health.Check(asked, timeout=1.0)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    child.ready = time.monotonic()
                    return
            await asyncio.sleep(_POLL_S)
    raise _late(child, place)


async def _listening(child: _Child, place: Place, deadline: float) -> None:
    """Whoever shows a certificate may ask for one that we do not have: look whether it accepts."""
    host, _, port = child.address.rpartition(":")
    while time.monotonic() < deadline:
        if child.process is not None and child.process.returncode is not None:
            raise _cannot_start(child, place)
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            child.ready = time.monotonic()
            return
        await asyncio.sleep(_POLL_S)
    raise _late(child, place)


def _late(child: _Child, place: Place) -> ServiceError:
    return ServiceError(
        Reason.SERVICE_UNAVAILABLE,
        f"The {child.name} process did not start within {_READY_TIMEOUT_S:.0f} s; "
        f"its log is {place.log(child.name)}.",
        service=child.name,
    )


_QUICK = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 50),
    ("grpc.enable_http_proxy", 0),
)


def _cannot_start(child: _Child, place: Place) -> ServiceError:
    """The last words of a process, from its log; never those of an earlier one."""
    with place.log(child.name).open("rb") as log:
        log.seek(child.log_start)
        lines = log.read().decode("utf-8", "replace").splitlines()[-50:]
    for line in reversed(lines):
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "cannot start":
                reason = getattr(Reason, event["reason"], Reason.INTERNAL)
                return ServiceError(reason, event["why"], service=child.name)
    return ServiceError(
        Reason.INTERNAL,
        f"The {child.name} process ended while starting; its log is {place.log(child.name)}.",
        service=child.name,
    )


async def _supervise(
    child: _Child, processes: Processes, environment: Mapping[str, str], report: Report
) -> None:
    while True:
        assert child.process is not None
        code = await child.process.wait()
        died = time.monotonic()
        lived_long = child.ready > 0 and died - child.ready > _HEALTHY_AFTER_S
        child.quick_deaths = 0 if lived_long else child.quick_deaths + 1
        report(child.name, f"ended ({_words(code)}), starting it again")
        if child.quick_deaths > 1 or code == EXIT_CANNOT_START:
            # The exponent has an end too: 2**1024 is no float, and this may go on for days.
            delay = 0.1 * 2 ** min(child.quick_deaths, 10)
            await asyncio.sleep(min(delay, _RESTART_DELAY_MAX_S))
        try:
            await _start(child, processes.place, environment)
            await _answers(child, processes.place)
        except (ServiceError, OSError) as error:  # no processes or no disk left: try again
            report(child.name, str(error))
            if child.process.returncode is None:  # it lives and does not answer
                child.process.kill()
            continue
        _write_run_file(processes)
        report(child.name, f"serving again after {time.monotonic() - died:.1f} s")


def _words(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _write_run_file(processes: Processes) -> None:
    content = {
        name: {"pid": processes.pid(name), "address": child.address}
        for name, child in processes.children.items()
    }
    target = processes.place.run_file
    aside = target.with_suffix(".tmp")
    try:
        aside.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        aside.replace(target)
    except OSError:  # a full disk: the processes serve all the same, so that room can be made
        aside.unlink(missing_ok=True)


async def _stop(processes: Processes) -> None:
    """The gateway first, so that nothing new arrives; the stores last."""
    for name in reversed(NAMES):
        child = processes.children.get(name)
        process = child.process if child else None
        if process is None or process.returncode is not None:
            continue
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _KILL_AFTER_S)
        except TimeoutError:
            process.kill()
            await process.wait()
