"""An open-loop generator of calls, cheap enough to flood a gateway from the machine it runs on.

It speaks just enough HTTP/2 to make one unary call over and over: the headers are packed once, and
of an answer only the frames are looked at (one with a message is good, one without was refused). A
client of grpc in Python takes as much of a processor as the gateway does; this takes a twentieth.

`python -m tests.performance.wire` reads its orders as JSON on standard input, one flow a line, and
prints what became of each.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_REFUSED_STREAM = 7
_WINDOW = 2**31 - 1
_HEAD = struct.Struct(">HBBBL")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Calls of one caller."""

    name: str
    address: str
    key: str
    others: tuple[str, ...] = ()
    """Keys that take turns with it."""
    path: str
    message: str
    """Hexadecimal."""
    rate: float = 0.0
    """Calls a second, whatever comes back; 0: as many as `callers` make."""
    callers: int = 1
    """Calls in flight at most, where there is no rate."""
    connections: int = 1
    seconds: float = 1.0
    timeout_s: float = 5.0


@dataclass
class Outcome:
    """What became of them."""

    name: str
    offered: int = 0
    good_s: list[float] = field(default_factory=list)
    """Latencies from when the call was sent, in seconds."""
    refused_s: list[float] = field(default_factory=list)
    good_at_s: list[float] = field(default_factory=list)
    """When each good one ended, since the begin."""
    held_back: int = 0
    """Never sent: the server lets a connection have only so many calls in flight."""
    lost: int = 0
    """Sent, and no answer within the time."""


class Connection(asyncio.Protocol):
    """One connection of a flow."""

    def __init__(self, flow: Flow, outcome: Outcome, begin: float) -> None:
        self._flow, self._outcome, self._begin = flow, outcome, begin
        self._buffer = bytearray()
        self._open: dict[int, list[float]] = {}
        """Stream → when it was sent, and 1 once a message came."""
        self.due = 0
        """Calls that are to be sent."""
        self._next = 1
        self._streams_max = 100
        self._packed = [_packed(flow, key) for key in (flow.key, *flow.others)]
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HL", 4, _WINDOW) + struct.pack(">HL", 2, 0)
        window = struct.pack(">L", _WINDOW - 65_535)
        transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(8, 0, 0, window))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is open is lost."""
        self.is_lost = True

    def call(self, count: int) -> None:
        """So many calls are due."""
        self._outcome.offered += count
        self.due += count
        self._send()

    @property
    def in_flight(self) -> int:
        """Calls sent and not answered."""
        return len(self._open)

    def close(self) -> None:
        """End it."""
        self._transport.close()

    def _send(self) -> None:
        out, now = [], time.perf_counter()
        while self.due and len(self._open) < self._streams_max and not self.is_lost:
            self.due -= 1
            self._open[self._next] = [now, 0.0]
            number = struct.pack(">L", self._next)
            head, body = self._packed[self._next // 2 % len(self._packed)]
            out.append(head + number + body[0] + number + body[1])
            self._next += 2
        if out:
            self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        """Look at the frames."""
        buffer, position = self._buffer, 0
        buffer += data
        while len(buffer) - position >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, position)
            end = position + 9 + (high << 8 | low)
            if end > len(buffer):
                break
            self._take(kind, flags, stream & _WINDOW, buffer[position + 9 : end])
            position = end
        del buffer[:position]
        self._send()

    def _take(self, kind: int, flags: int, stream: int, body: bytearray) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for offset in range(0, len(body), 6):
                name, value = struct.unpack_from(">HL", body, offset)
                if name == 3:
                    self._streams_max = value
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, bytes(body)))
        elif kind == _DATA and stream in self._open:
            self._open[stream][1] = 1.0
        if kind == _RST and body[3] == _REFUSED_STREAM and self._open.pop(stream, None):
            self.due += 1  # it came before the server had noticed the end of another; as grpc does
        elif kind == _RST or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
            self._end(stream)

    def _end(self, stream: int) -> None:
        if (told := self._open.pop(stream, None)) is None:
            return
        now = time.perf_counter()
        sent, good = told
        if good:
            self._outcome.good_s.append(now - sent)
            self._outcome.good_at_s.append(now - self._begin)
        else:
            self._outcome.refused_s.append(now - sent)
        if not self._flow.rate and now - self._begin < self._flow.seconds:
            self.call(1)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body) >> 8, len(body) & 255, kind, flags, stream) + body


def _packed(flow: Flow, key: str) -> tuple[bytes, tuple[bytes, bytes]]:
    """A call in three parts, between which its number goes."""
    block = b"\x83\x86"
    for name, value in (
        (b"\x04", flow.path),
        (b"\x01", flow.address),
        (b"\x0f\x10", "application/grpc"),
        (b"\x00\x02te", "trailers"),
        (b"\x0f\x08", f"Bearer {key}"),
        (b"\x00\x0cgrpc-timeout", f"{int(flow.timeout_s * 1000)}m"),
    ):
        block += name + _text(value)
    message = bytes.fromhex(flow.message)
    body = b"\0" + struct.pack(">L", len(message)) + message
    head = _frame(_HEADERS, _END_HEADERS, 0, block)
    data = _frame(_DATA, _END_STREAM, 0, body)
    return head[:5], (head[9:] + data[:5], data[9:])


def _text(value: str) -> bytes:
    raw = value.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, size = len(raw) - 127, b"\x7f"
    while rest >= 128:
        size += bytes([rest % 128 + 128])
        rest //= 128
    return size + bytes([rest]) + raw


async def run(flow: Flow) -> Outcome:
    """Make the calls of a flow."""
    outcome, loop = Outcome(flow.name), asyncio.get_running_loop()
    host, _, port = flow.address.rpartition(":")
    begin = time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(flow, outcome, begin), host, int(port)))[1]
        for _ in range(flow.connections)
    ]
    await asyncio.sleep(0.05)
    if flow.rate:
        await _at_rate(flow, made, begin)
    else:
        for number in range(flow.callers):
            made[number % len(made)].call(1)
        await asyncio.sleep(max(begin + flow.seconds - time.perf_counter(), 0))
    for each in made:
        outcome.held_back += each.due
        each.due = 0
    until = time.perf_counter() + flow.timeout_s
    while any(each.in_flight for each in made):
        await asyncio.sleep(0.05)
        if time.perf_counter() > until:
            break
    outcome.lost = sum(each.in_flight for each in made)
    for each in made:
        each.close()
    return outcome


async def _at_rate(flow: Flow, made: list[Connection], begin: float) -> None:
    sent = 0
    while (passed := time.perf_counter() - begin) < flow.seconds:
        due = int(passed * flow.rate) - sent
        for number, connection in enumerate(made):
            if share := len(range(number, due, len(made))):
                connection.call(share)
        sent += due
        await asyncio.sleep(0.001)


def quantile(values: list[float], share: float) -> float:
    """The value below which that share of them is; 0 without any."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


async def _main(flows: list[Flow]) -> list[Outcome]:
    return await asyncio.gather(*(run(flow) for flow in flows))


def orders(lines: Iterator[str]) -> list[Flow]:
    """Flows, as they came."""
    return [Flow(**json.loads(line)) for line in lines if line.strip()]


if __name__ == "__main__":
    for told in asyncio.run(_main(orders(iter(sys.stdin)))):
        print(json.dumps(asdict(told)))
