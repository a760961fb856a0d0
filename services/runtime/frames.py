"""The framing of the socket between a run's worker and its host, both ends.

A frame is a length, a kind and a payload. The worker trusts the host; the host trusts nothing: it
checks the length before it reads, the kind before it looks at the payload, and the shape of a
MessagePack tree before it builds one. Imports the standard library only, since the worker loads it.
"""

from __future__ import annotations

import enum
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

HEADER = struct.Struct("<IB")
"""Length of the payload in bytes, then its kind."""

_LENGTH = struct.Struct("<I")


class FrameError(Exception):
    """The other end broke the protocol; nothing it says is of use any more."""


class FrameTooLong(FrameError):  # noqa: N818 - it is one of the above
    """A frame is longer, or its tree wider or deeper, than what its reader takes."""


class Kind(enum.IntEnum):
    """What a payload is. Below 16: host to worker; from 16: worker to host."""

    RUN = 1
    """What to run, see `RunOrder`. Sent once."""
    REPLY = 2
    """A status byte (0 done, 1 refused) and a MessagePack tree. Answers one CALL."""
    TOLD = 3
    """Eight bytes, a whole number with its sign. Answers one READING."""
    PIECE = 4
    """Of an interactive run: 0 and Lua text to run, or 1, `c` or `k` and Lua text to look at."""
    INTERRUPT = 5
    """Empty. Of an interactive run: the piece that runs is to end."""
    RECEIPT = 6
    """Empty, with a descriptor: where the process of a tool notes what came of it, see
    `toolbox.receipt`. Before its RUN."""
    READY = 16
    """Empty. The worker is jailed and its VM is built. Sent once, first."""
    OUTPUT = 17
    """Bytes the script printed."""
    CALL = 18
    """MessagePack map of `method`, `args` and perhaps `tenant`. Waits for its REPLY."""
    RESULT = 19
    """JSON text of what the script returned. Last."""
    FAILURE = 20
    """JSON object of `kind`, `message`, `line`, `traceback`, `reason`. Last."""
    READING = 21
    """What is to be told: `t` nanoseconds since 1970, `c` since the run began, or `m` with eight
    bytes, the size of the heap. Waits for its TOLD."""
    LOG = 22
    """JSON object of `level`, `message`, perhaps `module` and `data`: a line of the run's log."""
    METRICS = 23
    """JSON object of `counters`, `gauges`, `histograms`. Once at most, before the last word."""
    ANSWER = 24
    """JSON object of `kind` and what belongs to it: an interactive run waits for its next PIECE."""


def pack(kind: Kind, *parts: bytes) -> bytes:
    """One frame whose payload is the parts joined."""
    return b"".join((HEADER.pack(sum(map(len, parts)), kind), *parts))


def parse_header(header: bytes, limit: int) -> tuple[Kind, int]:
    """Kind and payload length in bytes.

    Raises:
        FrameTooLong: where the payload is longer than `limit` bytes.
        FrameError: where the kind is unknown.
    """
    length, number = HEADER.unpack(header)
    if length > limit:
        raise FrameTooLong(f"a frame of {length} bytes; the limit is {limit}")
    try:
        return Kind(number), length
    except ValueError:
        raise FrameError(f"unknown kind {number}") from None


def receive(sock: socket.socket) -> tuple[Kind, bytes]:
    """The worker's end: block for the next frame from the host.

    Raises:
        EOFError: where the host has gone.
    """
    return receive_rest(sock, _receive_exactly(sock, HEADER.size))


def receive_rest(sock: socket.socket, header: bytes) -> tuple[Kind, bytes]:
    """The frame whose header has been received already.

    Raises:
        EOFError: where the host has gone.
    """
    length, number = HEADER.unpack(header)
    return Kind(number), _receive_exactly(sock, length)


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = sock.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What a RUN frame carries."""

    header: Mapping[str, object]
    """`name`, and the limits that the worker keeps by itself: see `worker.vm`."""
    source: bytes
    """Lua text."""
    arguments: bytes
    """MessagePack map of `positional` (list of text) and `named` (map of text)."""

    def payload(self) -> bytes:
        """The frame's payload: header and source with their lengths, then the arguments."""
        header = json.dumps(self.header).encode()
        lengths = _LENGTH.pack(len(header)), _LENGTH.pack(len(self.source))
        return b"".join((lengths[0], header, lengths[1], self.source, self.arguments))

    @classmethod
    def parse(cls, payload: bytes) -> RunOrder:
        """Read what `payload` wrote."""
        header, rest = _split(payload)
        source, arguments = _split(rest)
        return cls(json.loads(header), source, arguments)


def _split(data: bytes) -> tuple[bytes, bytes]:
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    if end > len(data):
        raise FrameError("a part is longer than its frame")
    return data[_LENGTH.size : end], data[end:]


# MessagePack lead bytes: how many bytes of length or value follow, by family.
# https://github.com/msgpack/msgpack/blob/master/spec.md
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_FIXED |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_SIZED = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_TEXT = {0xD9, 0xDA, 0xDB}


class _Scan:
    """Reads heads of MessagePack values one after another without building any."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def _number(self, size: int) -> int:
        end = self.position + size
        if end > len(self.data):
            raise FrameError("a tree ends within a value")
        number = int.from_bytes(self.data[self.position : end], "big")
        self.position = end
        return number

    def _skip(self, size: int) -> None:
        self.position += size
        if self.position > len(self.data):
            raise FrameError("a tree ends within a value")

    def value(self) -> tuple[int, bool, bool]:
        """Step over one head: how many values it holds, is it a map, is it text."""
        lead = self._number(1)
        if lead <= 0x7F or lead >= 0xE0:  # noqa: PLR2004 - the format's own numbers
            return 0, False, False
        if lead <= 0xBF:  # noqa: PLR2004
            return self._short(lead)
        if lead in _FIXED:
            self._skip(_FIXED[lead])
            return 0, False, False
        if lead in _SIZED:
            self._skip(self._number(_SIZED[lead]))
            return 0, False, lead in _TEXT
        if lead in _LISTS:
            return self._number(_LISTS[lead]), False, False
        if lead in _MAPS:
            return 2 * self._number(_MAPS[lead]), True, False
        raise FrameError(f"lead byte {lead:#x} in a tree")

    def _short(self, lead: int) -> tuple[int, bool, bool]:
        if lead <= 0x8F:  # noqa: PLR2004
            return 2 * (lead & 0x0F), True, False
        if lead <= 0x9F:  # noqa: PLR2004
            return lead & 0x0F, False, False
        self._skip(lead & 0x1F)
        return 0, False, True


def check_tree(data: bytes, *, depth_max: int, nodes_max: int) -> None:
    """Refuse MessagePack that would build something deep, wide or odd; builds nothing itself.

    Raises:
        FrameError: where the bytes are not exactly one value, nest deeper than `depth_max`, hold
            more than `nodes_max` values (keys included) or have a map key that is not text.
    """
    scan = _Scan(data)
    nodes = 0
    open_values = [[1, False]]  # values still to come, and whether they are a map's
    while open_values:
        top = open_values[-1]
        if not top[0]:
            open_values.pop()
            continue
        is_key = top[1] and top[0] % 2 == 0
        top[0] -= 1
        nodes += 1
        count, is_map, is_text = scan.value()
        if nodes + count > nodes_max:
            raise FrameTooLong(f"a tree of more than {nodes_max} values")
        if is_key and not is_text:
            raise FrameError("a map key that is not text")
        if count:
            if len(open_values) > depth_max:
                raise FrameTooLong(f"a tree deeper than {depth_max}")
            open_values.append([count, is_map])
    if scan.position != len(data):
        raise FrameError("bytes after the end of a tree")
