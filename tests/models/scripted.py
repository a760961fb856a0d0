"""A server that says, byte for byte, what a test has written down: providers are tested against it.

It knows HTTP and nothing of models: a `Reply` is a status, headers and the parts of a body, each
part one write to the socket, with pauses, waits and cuts between them. `openai_wire` and
`anthropic_wire` write replies of the two protocols. It lives in a thread of the test's process
with a loop of its own, on a real socket of loopback, so that services in other processes reach it.

    with ScriptedServer([openai_wire.say("Hello.")]) as server:
        openai.OpenAI(base_url=server.base_url, api_key="any").chat.completions.create(…)
    assert server.requests[0].json["model"] == "…"

Replies are taken from the front, one a request; one may be a function of the request. Instead of a
list there may be one function for all requests: then it is an agent's model with a behaviour.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Self

HOST = "127.0.0.1"
START_S = 10


@dataclass(frozen=True)
class Pause:
    """Say nothing for this long."""

    seconds: float


@dataclass(frozen=True)
class Until:
    """Say nothing until the test sets the event."""

    event: threading.Event


@dataclass(frozen=True)
class Cut:
    """End the connection here, without an end of the body; `reset` by RST instead of FIN."""

    reset: bool = False


@dataclass(frozen=True)
class Forever:
    """Say this again and again until the client goes away."""

    part: bytes
    every_s: float = 0.0


Part = bytes | Pause | Until | Cut | Forever


@dataclass(frozen=True)
class Reply:
    """An answer: what is written after the request was read."""

    parts: Sequence[Part] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = True
    """Each part is a chunk of HTTP's; else the body has a length, or ends with the connection."""
    closing: bool = False
    """Not chunked and without a length: the connection's end is the body's."""
    before: Pause | Until | Cut | None = None
    """What happens before the first byte of the head."""

    def head(self) -> bytes:
        """The status line and the headers, as they are written."""
        given = {name.lower(): value for name, value in self.headers.items()}
        if self.closing:
            given["connection"] = "close"
        elif self.chunked:
            given["transfer-encoding"] = "chunked"
        else:
            whole = b"".join(part for part in self.parts if isinstance(part, bytes))
            given.setdefault("content-length", str(len(whole)))
        known = {status.value: status.phrase for status in HTTPStatus}
        lines = [f"HTTP/1.1 {self.status} {known.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in given.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass
class Request:
    """A request as it came, and what became of its connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Which connection it came on; the first is 1."""
    came: float = field(default_factory=time.monotonic)
    answered: float | None = None
    """When the last part had been given to the socket, by `time.monotonic`."""
    client_left: float | None = None
    """When the client closed the connection before it had the whole answer."""
    parts_sent: int = 0

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Answering = Callable[[Request], Reply]


class ScriptedServer:
    """The server; enter it to start. Everything it was asked is in `requests`."""

    def __init__(
        self,
        replies: Answering | Sequence[Reply | Answering] = (),
        *,
        models: Sequence[str] | Reply = ("scripted-model",),
    ) -> None:
        self.requests: list[Request] = []
        """Requests for an answer, in the order they came; `/v1/models` is not among them."""
        self.listings: list[Request] = []
        """Requests of `/v1/models`."""
        self.unexpected: list[Request] = []
        """Requests for which the script had no reply; they got a 500, and the block fails."""
        self.failures: list[Exception] = []
        """What functions of the script raised; likewise."""
        self.connections = 0
        """Connections made so far."""
        self.open_connections: set[_Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.models = models if isinstance(models, Reply) else listing(models)
        """The answer to `/v1/models`."""
        self._replies = replies if callable(replies) else list(replies)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self.port = 0

    @property
    def origin(self) -> str:
        """Like `http://127.0.0.1:1234`: what Anthropic's client wants."""
        return f"http://{HOST}:{self.port}"

    @property
    def base_url(self) -> str:
        """Like `http://127.0.0.1:1234/v1`: what OpenAI's client wants."""
        return f"{self.origin}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_S)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if kind is None:
            if self.failures:
                raise self.failures[0]
            assert not self.unexpected, f"{len(self.unexpected)} requests that no reply was for"

    def script(self, *replies: Reply | Answering) -> None:
        """Add replies behind those that are left."""
        assert isinstance(self._replies, list)
        self._replies += replies

    def until(self, claim: Callable[[], bool], within_s: float = 10.0) -> bool:
        """Whether the claim comes true within that time."""
        end = time.monotonic() + within_s
        while not claim():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def until_left(self, index: int = -1, within_s: float = 10.0) -> bool:
        """Whether the client leaves that request's connection within that time."""
        return self.until(lambda: self.requests[index].client_left is not None, within_s)

    def reply_to(self, request: Request) -> Reply:
        """What the script says next."""
        if request.method == "GET" and request.path.startswith("/v1/models"):
            self.listings.append(request)
            return self.models
        self.requests.append(request)
        if callable(self._replies):
            return self._asked(self._replies, request)
        if not self._replies:
            self.unexpected.append(request)
            return Reply([b'{"error":{"message":"the script has no more replies"}}'], status=500)
        following = self._replies.pop(0)
        return self._asked(following, request) if callable(following) else following

    def _asked(self, answering: Answering, request: Request) -> Reply:
        try:
            return answering(request)
        except Exception as failed:  # noqa: BLE001 - it is the test's, and raised at its end
            self.failures.append(failed)
            return Reply([b'{"error":{"message":"the script failed"}}'], status=500)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        made = self._loop.create_server(lambda: _Connection(self), HOST, 0)
        server = self._loop.run_until_complete(made)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        for connection in list(self.open_connections):
            connection.transport.abort()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*list(self.tasks), return_exceptions=True)
        await asyncio.sleep(0)  # transports tell their connections


class _Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, each answered by the script."""

    transport: asyncio.Transport

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.received = b""
        self.waiting: asyncio.Queue[Request] = asyncio.Queue()
        self.current: Request | None = None
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.task: asyncio.Task[None] | None = None
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections += 1
        self.number = self.server.connections
        self.server.open_connections.add(self)
        self.task = asyncio.get_running_loop().create_task(self._answer_all())
        self.server.tasks.add(self.task)
        self.task.add_done_callback(self.server.tasks.discard)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (request := self._next_request()) is not None:
            self.waiting.put_nowait(request)

    def eof_received(self) -> None:
        self._left()

    def connection_lost(self, exc: Exception | None) -> None:
        self._left()
        self.writable.set()
        self.server.open_connections.discard(self)
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _left(self) -> None:
        self.gone.set()
        if self.current is not None and self.current.client_left is None:
            self.current.client_left = time.monotonic()

    def _next_request(self) -> Request | None:
        head, blank, rest = self.received.partition(b"\r\n\r\n")
        if not blank:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        self.received = rest[length:]
        return Request(method, path, headers, rest[:length], self.number)

    async def _answer_all(self) -> None:
        while True:
            request = self.current = await self.waiting.get()
            with suppress(_EndedError):
                reply = self.server.reply_to(request)
                if reply.before is not None:
                    await self._say(reply.before, chunked=False)
                self.transport.write(reply.head())
                for part in reply.parts:
                    await self._say(part, chunked=reply.chunked and not reply.closing)
                    request.parts_sent += 1
                if reply.chunked and not reply.closing:
                    self.transport.write(b"0\r\n\r\n")
                request.answered = time.monotonic()
                self.current = None
                if reply.closing:
                    self.transport.close()

    async def _say(self, part: Part, *, chunked: bool) -> None:
        match part:
            case bytes():
                await self._write(part, chunked=chunked)
            case Pause(seconds):
                await self._quiet(seconds)
            case Until(event):
                while not event.is_set():
                    await self._quiet(0.002)
            case Cut(reset):
                self._cut(reset=reset)
            case Forever(again, every_s):
                while True:
                    await self._write(again, chunked=chunked)
                    await self._quiet(every_s)

    async def _write(self, data: bytes, *, chunked: bool) -> None:
        if self.gone.is_set():
            raise _EndedError
        if data:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if chunked else data
            self.transport.write(framed)
        await self.writable.wait()

    async def _quiet(self, seconds: float) -> None:
        """Wait, unless the client goes away before."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), seconds)
            raise _EndedError

    def _cut(self, *, reset: bool) -> None:
        self.current = None  # it is we who leave
        if reset:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
        raise _EndedError


class _EndedError(Exception):
    """Nothing more is said on this connection."""


def whole(status: int, body: bytes, **headers: str) -> Reply:
    """A reply in one piece, with its length; `retry_after` is the header `retry-after`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([body], status, {"content-type": "application/json", **named}, chunked=False)


def events(*parts: Part) -> Reply:
    """A stream of server-sent events whose parts are these."""
    return Reply(parts, 200, {"content-type": "text/event-stream; charset=utf-8"})


def in_pieces(data: bytes, size: int, pause_s: float = 0.001) -> list[Part]:
    """The bytes in writes of that size, apart in time so that a reader sees each by itself."""
    pieces: list[Part] = []
    for start in range(0, len(data), size):
        pieces += [data[start : start + size], Pause(pause_s)]
    return pieces


def split_at(data: bytes, *places: int, pause_s: float = 0.02) -> list[Part]:
    """The bytes in writes that end at those places, apart in time likewise."""
    pieces: list[Part] = []
    edges = [0, *places, len(data)]
    for start, end in itertools.pairwise(edges):
        pieces += [data[start:end], Pause(pause_s)]
    return pieces


def compact(value: object) -> bytes:
    """JSON as the two services write it: UTF-8, no blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def http_date(in_s: float) -> str:
    """The moment in so many seconds, as `retry-after` may have it; whole seconds."""
    return formatdate(time.time() + in_s, usegmt=True)


def html_error(status: int = 502) -> Reply:
    """What a proxy before the service says when the service does not."""
    page = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>\r\n</html>"
    return whole(status, page, content_type="text/html")


def listing(names: Sequence[str]) -> Reply:
    """`/v1/models`, with the fields of either protocol."""
    data = [
        {
            "id": name,
            "object": "model",
            "type": "model",
            "created": 1700000000,
            "created_at": "2023-11-14T22:13:20Z",
            "display_name": name,
            "owned_by": "tests",
        }
        for name in names
    ]
    ends = {"first_id": names[0], "last_id": names[-1]} if names else {}
    return whole(200, compact({"object": "list", "data": data, "has_more": False, **ends}))


@contextmanager
def refusing() -> Iterator[str]:
    """A base URL whose port refuses connections, and is nobody else's until the block ends."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield f"http://{HOST}:{held.getsockname()[1]}/v1"
