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
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import services
from services.common.errors import Reason, ServiceError
from services.common.limits import FRAME_BYTES_MAX, RUN_CPU_SECONDS, RUN_MEMORY_BYTES
from services.runtime.frames import HEADER, FrameError, Kind, pack, parse_header
from services.runtime.worker.zygote import ORPHAN_SECONDS

logger = logging.getLogger(__name__)

START_SECONDS = 10.0
"""How long a zygote or a worker may take to be ready."""
FRAME_SECONDS = 5.0
"""How long a frame may take from its first byte to its last, in either direction."""

_left: list[subprocess.Popen[bytes]] = []
"""Zygotes that end by themselves; whoever forgets a process that goes on is warned."""
_QUEUE_FULL_S = 0.005
_READ_BYTES = 64 * 1024
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
        sock: socket.socket,
    ) -> None:
        self.pid = pid
        self.ended = ended
        self._sock = sock
        self._pidfd = pidfd
        self._reader = reader
        self._writer = writer
        self._is_left = False
        # What was read, and how far it was taken.
        self._have, self._at = b"", 0

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
        try:
            if not self._have:
                await self._read_on()
            frame = self._whole_frame()
            if frame is None:
                async with asyncio.timeout(FRAME_SECONDS):
                    while (frame := self._whole_frame()) is None:
                        await self._read_on()
        except TimeoutError:
            raise FrameError("a frame that did not end") from None
        except ConnectionError:  # it ended before it had read all that was sent to it
            raise EOFError from None
        return frame

    async def _read_on(self) -> None:
        data = await self._reader.read(_READ_BYTES)
        if not data:
            raise EOFError
        self._have = self._have[self._at :] + data
        self._at = 0

    def _whole_frame(self) -> tuple[Kind, bytes] | None:
        """The first frame of what was read, where all of it is there."""
        begin = self._at + HEADER.size
        if begin > len(self._have):
            return None
        kind, length = parse_header(self._have[self._at : begin], FRAME_BYTES_MAX)
        end = begin + length
        if end > len(self._have):
            return None
        payload = self._have[begin:end]
        self._at = end
        if end == len(self._have):
            self._have, self._at = b"", 0
        return kind, payload

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
        transport = self._writer.transport
        if not transport.get_write_buffer_size() and not transport.is_closing():
            return  # the kernel has it
        try:
            async with asyncio.timeout(FRAME_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise FrameError("a frame that was not read") from None
        except ConnectionError:
            raise EOFError from None

    async def send_with_descriptor(self, kind: Kind, payload: bytes, descriptor: int) -> None:
        """Write one short frame that brings a descriptor; the worker is waiting for it.

        Raises:
            EOFError: where it has gone, or does not read.
        """
        await self._writer.drain()
        try:
            # It has asked and waits, so its buffer is empty: a short frame goes out whole or not.
            socket.send_fds(self._sock, [pack(kind, payload)], [descriptor])
        except OSError:
            raise EOFError from None

    def kill(self) -> None:
        """End it now. Safe at any moment: the descriptor can mean no other process."""
        if self._pidfd >= 0 and not self._is_left:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def leave(self) -> None:
        """From now on it goes on by itself, for as long as any may without its host."""
        self._is_left = True
        asyncio.get_running_loop().call_later(ORPHAN_SECONDS, self._end_left)
        if not self.ended.done():
            self.ended.set_result(_UNKNOWN_EXIT)

    def _end_left(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        self._pidfd = -1

    @property
    def is_left(self) -> bool:
        """Whether it goes on by itself."""
        return self._is_left

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
        if self._pidfd >= 0 and not self._is_left:
            os.close(self._pidfd)
            self._pidfd = -1


_Started = tuple[int, int, asyncio.Future[WorkerExit]]
"""A worker's pid, its pidfd, and how it ends."""


class Zygote:
    """The host's end of the control socket."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        # Not asyncio's: that kills whatever it has started when it ends itself.
        self.process = process
        self._leaves_some = False
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
        try:
            with theirs:
                process = _start(module, theirs.fileno())
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

    async def spawn(self, limits: WorkerLimits, *, patient: bool = False) -> Worker:
        """Fork a worker and wait until it is ready; `patient`: it has what others leave.

        Raises:
            EOFError: where the zygote or the worker dies meanwhile.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            # A frame counts as sent when the kernel has it, so its deadline means something.
            writer.transport.set_write_buffer_limits(0)
            try:
                pid, pidfd, ended = await self._fork(theirs, limits, patient=patient)
            except BaseException:
                writer.transport.abort()
                raise
        # Nothing waits between here and there: a descriptor always has an owner.
        worker = Worker(pid=pid, pidfd=pidfd, ended=ended, reader=reader, writer=writer, sock=ours)
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
            worker.ended.add_done_callback(lambda _: self._ended_one(worker))

    def _ended_one(self, worker: Worker) -> None:
        self.workers.pop(worker.pid, None)
        self._leaves_some = self._leaves_some or worker.is_left

    async def _fork(
        self, theirs: socket.socket, limits: WorkerLimits, *, patient: bool
    ) -> _Started:
        if self.lost.is_set():
            raise EOFError
        number = next(self._ids)
        order = {"id": number, "patient": patient, **asdict(limits)}
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
        """End it; where workers were left to go on, it ends by itself after them."""
        self._lose()
        if self._leaves_some:
            if self.process.poll() is None:
                _left.append(self.process)
            return
        self.process.kill()
        await asyncio.to_thread(self.process.wait)


def _start(module: str, control_fd: int) -> subprocess.Popen[bytes]:
    bare = (sys.executable, "-I", "-S", "-c", _BOOTSTRAP)
    return subprocess.Popen(  # noqa: S603 - our own
        (*bare, module, str(control_fd), *_paths()),
        env={},
        cwd="/",
        pass_fds=(control_fd,),
        # Ctrl-C is not for it. Of our session, where its workers' priority counts.
        process_group=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _paths() -> list[str]:
    """Where a bare interpreter finds our package and lupa."""
    lupa = importlib.util.find_spec("lupa")
    assert lupa is not None
    assert lupa.origin is not None
    assert services.__file__ is not None
    return [str(Path(file).parents[1]) for file in (services.__file__, lupa.origin)]
