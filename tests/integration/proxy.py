"""A TCP proxy of the tests' own: what lies between two processes, and what can go wrong there.

Each direction can be slowed, held (bytes wait, as in a network that lost its way for a while) or
dropped (they are gone; the connection is broken when it heals). Connections can be reset, closed
by half, or answered with garbage. New connections are taken and held in a partition, as a firewall
that drops does. One thread with one loop serves all proxies of a test.
"""

from __future__ import annotations

import asyncio
import random
import struct
import threading
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET

FORTH, BACK = "forth", "back"
_PIECE = 64 * 1024


class Wires:
    """The thread that all proxies share."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []

    def proxy(self, target: str, seed: int = 0) -> Proxy:
        """A new one before `HOST:PORT`."""
        made = Proxy(self, target, seed)
        self._proxies.append(made)
        return made

    def run(self, coroutine):
        """Do something in the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def close(self) -> None:
        """End all of them."""
        for proxy in self._proxies:
            proxy.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Proxy:
    """One listener before one target."""

    def __init__(self, wires: Wires, target: str, seed: int) -> None:
        host, _, port = target.rpartition(":")
        self._wires = wires
        self._target = (host, int(port))
        self._chance = random.Random(seed)
        self._pairs: set[_Pair] = set()
        self.latency_s = 0.0
        """Before each piece, in both directions."""
        self.bytes_per_s = 0.0
        """0: as fast as it goes."""
        self.garbage = False
        """What the target answers is replaced by random bytes."""
        self._dropped: set[str] = set()
        self.connection_count = 0
        self.byte_count = 0
        self._server = wires.run(self._listen())
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    # What goes wrong

    def hold(self, *directions: str) -> None:
        """Let bytes wait, in both directions where none is named."""
        self._in_loop(self._hold, directions or (FORTH, BACK))

    def drop(self, *directions: str) -> None:
        """Let bytes be gone."""
        self._in_loop(self._dropped.update, directions or (FORTH, BACK))

    def reset(self) -> None:
        """Cut all connections as a process does that was killed: RST."""
        self._in_loop(self._reset)

    def half_close(self) -> None:
        """Tell each target that its caller sends no more, and each caller nothing."""
        self._in_loop(self._half_close)

    def heal(self) -> None:
        """As at first; connections that lost bytes are cut."""
        self.latency_s = self.bytes_per_s = 0.0
        spoilt = bool(self._dropped) or self.garbage
        self.garbage = False
        self._in_loop(self._heal, spoilt)

    def close(self) -> None:
        """End it."""
        self._wires.run(self._close())

    # How

    def _in_loop(self, function, *arguments) -> None:
        async def call() -> None:
            function(*arguments)

        self._wires.run(call())

    async def _listen(self):
        self._open = {FORTH: asyncio.Event(), BACK: asyncio.Event()}
        for event in self._open.values():
            event.set()
        return await asyncio.start_server(self._take, "127.0.0.1", 0)

    def _hold(self, directions) -> None:
        for direction in directions:
            self._open[direction].clear()

    def _reset(self) -> None:
        for pair in list(self._pairs):
            pair.cut()

    def _half_close(self) -> None:
        for pair in list(self._pairs):
            with suppress(OSError, RuntimeError):
                pair.target.write_eof()

    def _heal(self, spoilt) -> None:
        self._dropped.clear()
        if spoilt:
            self._reset()
        for event in self._open.values():
            event.set()

    async def _take(self, reader, writer) -> None:
        self.connection_count += 1
        await self._open[FORTH].wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _abort(writer)
            return
        pair = _Pair(writer, far_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pump(FORTH, reader, far_writer), self._pump(BACK, far_reader, writer)
            )
        except OSError:
            pass
        finally:
            self._pairs.discard(pair)
            pair.cut()

    async def _pump(self, direction, reader, writer) -> None:
        while data := await reader.read(_PIECE):
            await self._open[direction].wait()
            if direction in self._dropped:
                continue
            if self.garbage and direction == BACK:
                data = self._chance.randbytes(len(data))
            pause_s = self.latency_s + (len(data) / self.bytes_per_s if self.bytes_per_s else 0.0)
            if pause_s:
                await asyncio.sleep(pause_s)
            self.byte_count += len(data)
            try:
                writer.write(data)
            except RuntimeError:  # it was closed by half, so that nobody takes this
                continue
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _close(self) -> None:
        self._server.close()
        self._heal(spoilt=True)
        await asyncio.sleep(0.05)  # connections end in the loop's next turns


class _Pair:
    """One connection: its caller's side and its target's."""

    def __init__(self, caller, target) -> None:
        self.caller = caller
        self.target = target

    def cut(self) -> None:
        _abort(self.caller)
        _abort(self.target)


def _abort(writer) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
