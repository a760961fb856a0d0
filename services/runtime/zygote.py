"""The host's end of the zygote and of the workers forked from it.

The zygote is exec'ed with an empty environment before anything is forked from it, so no worker
ever holds what this process holds. Which workers there are and when is the pool's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import services
from services.common.errors import Reason, ServiceError
from services.common.limits import FRAME_BYTES_MAX, RUN_CPU_SECONDS, RUN_MEMORY_BYTES
from services.runtime.frames import HEADER, FrameError, Kind, pack, parse_header

logger = logging.getLogger(__name__)

START_SECONDS = 10.0
"""How long a zygote or a worker may take to be ready."""
FRAME_SECONDS = 5.0
"""How long a frame may take from its first byte to its last, in either direction."""

_QUEUE_FULL_S = 0.005
_CONTROL_BYTES_MAX = 4096
_BOOTSTRAP = (
    "import sys, importlib; sys.path += sys.argv[3:];"
    "importlib.import_module(sys.argv[1]).main(int(sys.argv[2]))"
)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What the kernel holds a worker to."""

    memory_bytes: int = RUN_MEMORY_BYTES
    """Lua heap; the address space is limited to this and a fixed headroom."""
    cpu_seconds: int = int(RUN_CPU_SECONDS)
    """Processor time until SIGXCPU."""


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ended. All None where its zygote died first and nobody could ask."""

    status: int | None
    """Exit status; negative: the number of the signal that ended it."""
    cpu_seconds: float | None
    """Processor time it used."""


_UNKNOWN_EXIT = WorkerExit(None, None)


class Worker:
    """One jailed process, from ready to reaped. It serves one run and is hostile from byte one."""

    def __init__(
        self,
        *,
        pid: int,
        pidfd: int,
        ended: asyncio.Future[WorkerExit],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = pid
        self.ended = ended
        self._pidfd = pidfd
        self._reader = reader
        self._writer = writer

    @property
    def alive(self) -> bool:
        """Whether it can still be given a run."""
        return not self.ended.done() and not self._reader.at_eof()

    async def receive(self) -> tuple[Kind, bytes]:
        """The next frame; waits as long as the worker is silent between frames.

        Raises:
            FrameError: where it breaks the protocol or takes too long over one frame.
            EOFError: where it has gone.
        """
        first = await self._reader.read(1)
        if not first:
            raise EOFError
        try:
            async with asyncio.timeout(FRAME_SECONDS):
                rest = await self._reader.readexactly(HEADER.size - 1)
                kind, length = parse_header(first + rest, FRAME_BYTES_MAX)
                return kind, await self._reader.readexactly(length)
        except TimeoutError:
            raise FrameError("a frame that did not end") from None

    async def receive_ready(self) -> None:
        """Wait for the worker's first frame.

        Raises:
            FrameError: where it is another one.
            EOFError: where the worker has gone.
        """
        kind, _ = await self.receive()
        if kind is not Kind.READY:
            raise FrameError(f"{kind.name} before READY")

    async def send(self, kind: Kind, *parts: bytes) -> None:
        """Write one frame.

        Raises:
            FrameError: where the worker does not read it in time.
            EOFError: where it has gone.
        """
        self._writer.write(pack(kind, *parts))
        try:
            async with asyncio.timeout(FRAME_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise FrameError("a frame that was not read") from None
        except ConnectionError:
            raise EOFError from None

    def kill(self) -> None:
        """End it now. Safe at any moment: the descriptor can mean no other process."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> WorkerExit:
        """How it ended, once it has."""
        return await asyncio.shield(self.ended)

    def zygote_lost(self) -> None:
        """From now on only the descriptor tells of its end."""
        if not self.ended.done():
            asyncio.get_running_loop().add_reader(self._pidfd, self._end_unknown)

    def _end_unknown(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if not self.ended.done():
            self.ended.set_result(_UNKNOWN_EXIT)

    async def close(self) -> None:
        """Kill it, see it end, let go of its descriptors."""
        self.kill()
        self._writer.transport.abort()
        await self.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


_Started = tuple[int, int, asyncio.Future[WorkerExit]]
"""A worker's pid, its pidfd, and how it ends."""


class Zygote:
    """The host's end of the control socket."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.process = process
        self.lost = asyncio.Event()
        self.layers: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self.workers: dict[int, Worker] = {}
        self._control = control
        self._ids = itertools.count(1)
        self._started: dict[int, asyncio.Future[_Started]] = {}
        self._ended: dict[int, asyncio.Future[WorkerExit]] = {}
        asyncio.get_running_loop().add_reader(control, self._on_message)

    @classmethod
    async def start(cls, module: str) -> Zygote:
        """Exec one and wait until it has said which layers hold.

        Raises:
            ServiceError: INTERNAL where it does not come up.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
        bare = (sys.executable, "-I", "-S", "-c", _BOOTSTRAP)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(*bare, module, str(theirs.fileno()), *_paths()),
                    env={},
                    cwd="/",
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                )
        except BaseException:
            ours.close()
            raise
        zygote = cls(process, ours)
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(zygote.layers)
        except BaseException as error:
            await zygote.close()
            if isinstance(error, TimeoutError | EOFError):
                text = "The zygote of script workers did not start."
                raise ServiceError(Reason.INTERNAL, text) from None
            raise
        return zygote

    async def spawn(self, limits: WorkerLimits) -> Worker:
        """Fork a worker and wait until it is ready.

        Raises:
            EOFError: where the zygote or the worker dies meanwhile.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            # A frame counts as sent when the kernel has it, so its deadline means something.
            writer.transport.set_write_buffer_limits(0)
            try:
                pid, pidfd, ended = await self._fork(theirs, limits)
            except BaseException:
                writer.transport.abort()
                raise
        # Nothing waits between here and there: a descriptor always has an owner.
        worker = Worker(pid=pid, pidfd=pidfd, ended=ended, reader=reader, writer=writer)
        self._adopt(worker)
        try:
            async with asyncio.timeout(START_SECONDS):
                await worker.receive_ready()
        except BaseException:
            await worker.close()
            raise
        return worker

    def _adopt(self, worker: Worker) -> None:
        if self.lost.is_set():
            worker.zygote_lost()
        else:
            self.workers[worker.pid] = worker
            worker.ended.add_done_callback(lambda _: self.workers.pop(worker.pid, None))

    async def _fork(self, theirs: socket.socket, limits: WorkerLimits) -> _Started:
        if self.lost.is_set():
            raise EOFError
        number = next(self._ids)
        order = {"id": number, **asdict(limits)}
        started: asyncio.Future[_Started] = asyncio.get_running_loop().create_future()
        self._started[number] = started
        try:
            await self._order(json.dumps(order).encode(), theirs)
            return await started
        except OSError:
            raise EOFError from None
        except asyncio.CancelledError:
            # The answer may have come in the same turn of the loop as the cancellation.
            if not started.cancelled() and started.done() and started.exception() is None:
                os.close(started.result()[1])
            raise
        finally:
            self._started.pop(number, None)

    async def _order(self, message: bytes, theirs: socket.socket) -> None:
        """Send an order; where many wait already, wait for room in the zygote's queue."""
        while True:
            try:
                socket.send_fds(self._control, [message], [theirs.fileno()])
            except BlockingIOError:
                await asyncio.sleep(_QUEUE_FULL_S)
            else:
                return

    def _on_message(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, _CONTROL_BYTES_MAX, 1)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._lose()
            return
        message: Mapping[str, Any] = json.loads(data)
        if "layers" in message:
            self.layers.set_result(message["layers"])
        elif "started" in message:
            self._on_started(message, fds[0])
        elif "refused" in message:
            self._on_refused(message)
        else:
            self._on_exited(message)

    def _on_started(self, message: Mapping[str, Any], pidfd: int) -> None:
        waiting = self._started.get(message["started"])
        ended = self._ended[message["pid"]] = asyncio.get_running_loop().create_future()
        if waiting is None or waiting.done():
            # Whoever asked has gone; the worker's socket is closed too, so it ends by itself.
            os.close(pidfd)
        else:
            waiting.set_result((message["pid"], pidfd, ended))

    def _on_refused(self, message: Mapping[str, Any]) -> None:
        logger.warning("no worker could be forked: %s", message["error"])
        waiting = self._started.get(message["refused"])
        if waiting is not None and not waiting.done():
            waiting.set_exception(EOFError())

    def _on_exited(self, message: Mapping[str, Any]) -> None:
        ended = self._ended.pop(message["exited"])
        if not ended.done():
            ended.set_result(WorkerExit(message["status"], message["cpu_seconds"]))

    def _lose(self) -> None:
        if self.lost.is_set():
            return
        self.lost.set()
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        waiting: list[asyncio.Future[Any]] = [self.layers, *self._started.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(EOFError())
                future.exception()  # asked for, so that the loop does not complain if nobody waits
        for worker in self.workers.values():
            worker.zygote_lost()

    async def close(self) -> None:
        """End it."""
        self._lose()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


def _paths() -> list[str]:
    """Where a bare interpreter finds our package and lupa."""
    lupa = importlib.util.find_spec("lupa")
    assert lupa is not None
    assert lupa.origin is not None
    assert services.__file__ is not None
    return [str(Path(file).parents[1]) for file in (services.__file__, lupa.origin)]
