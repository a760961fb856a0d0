"""A web server on the loopback that answers as a test says, and a network that leads there."""

import asyncio
import contextlib
import inspect
import json
from dataclasses import dataclass, field

import jsonschema_rs

from services.runtime.tools.addresses import AddressPolicy, parse_rules
from services.runtime.tools.network import Network
from tests.unit.runtime.tooling import caller


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: dict
    body: bytes


@dataclass
class Web:
    """A running server; `answers`: path → what to say."""

    port: int = 0
    answers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def url(self, path="/", host="web.test", scheme="http"):
        """An address here."""
        return f"{scheme}://{host}:{self.port}{path}"


def answer(body=b"", status=200, **headers):
    """The bytes of an answer; names of headers are written with underscores."""
    if not isinstance(body, bytes | str):
        body, headers = json.dumps(body), {"content_type": "application/json", **headers}
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Answer", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def moved(to, status=302):
    """A redirect."""
    return answer(b"", status, location=to)


@contextlib.asynccontextmanager
async def serve(answers, ssl=None):
    """Serve; an answer may be bytes, or a function of the request, also a coroutine's."""
    web = Web(answers=answers)

    async def handle(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await _asked(reader)
            web.asked.append(asked)
            said = web.answers.get(asked.target, answer(b"nothing here", 404))
            if callable(said):
                said = (
                    said(asked, writer)
                    if len(inspect.signature(said).parameters) == 2
                    else said(asked)
                )
            if inspect.isawaitable(said):
                said = await said
            writer.write(said or b"")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=ssl)
    async with server:
        web.port = server.sockets[0].getsockname()[1]
        yield web
        await asyncio.sleep(0)


async def _asked(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, target, headers, body)


async def execute(toolbox, tool, arguments, tenant="acme"):
    """An execution whose result must be as the tool's own schema says."""
    done = await toolbox.execute(tool, arguments, caller(tenant))
    schema = (await toolbox.find(tool)).result
    jsonschema_rs.validator_for(dict(schema)).validate(_as_text(done.result))
    return done


def _as_text(value):
    """JSON has no bytes."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _as_text(inner) for name, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list) else value


def leading_here():
    """Names that end in `.test` lead to the loopback and are allowed; nothing else of it is."""
    return Network(
        AddressPolicy(allowed=parse_rules("*.test")),
        resolver=lambda host: ["127.0.0.1"] if host.endswith(".test") else ["10.0.0.1"],
    )
