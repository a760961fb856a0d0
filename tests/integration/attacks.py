"""The corpus of attacks, tests/scripts/attacks/*.lua, and what becomes of one.

The first lines of a file say what must come of it: `-- expects: REASON, …`, where `held` is a
script that found everything refused and says so; `-- message: TEXT` that the error must have;
`-- limits: wall=SECONDS memory=MIB`; `-- bytes: HEX` in place of the text.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import script_pb2, script_pb2_grpc

ATTACKS = Path(__file__).parents[1] / "scripts" / "attacks"
HELD = "held"
_HEAD = re.compile(r"^-- (expects|message|limits|bytes): (.*)$", re.MULTILINE)
_MIB = 1024 * 1024
_DEADLINE_S = 100.0


@dataclasses.dataclass(frozen=True)
class Attack:
    """A script, what it is allowed, and what must come of it."""

    name: str
    source: str
    expects: frozenset[str]
    message: str
    wall_s: float
    memory_bytes: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    reason: str
    """Of the error; the result's text where there was none."""
    message: str = ""
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    output: bytes = b""
    took_s: float = 0.0


def corpus() -> list[Attack]:
    """Every attack, by name."""
    return [_read(path) for path in sorted(ATTACKS.glob("*.lua"))]


def _read(path: Path) -> Attack:
    text = path.read_text("utf-8")
    head = dict(_HEAD.findall(text))
    expects = frozenset(word.strip() for word in head["expects"].split(","))
    allowed = dict(pair.split("=") for pair in head.get("limits", "").split())
    # Time is short only where it is what must run out.
    wall_s = 0.7 if expects == {"RUN_TIME_LIMIT"} else 60.0
    source = bytes.fromhex(head["bytes"]).decode("latin-1") if "bytes" in head else text
    return Attack(
        path.stem,
        source,
        expects,
        head.get("message", ""),
        float(allowed.get("wall", wall_s)),
        int(allowed.get("memory", 16)) * _MIB,
    )


class Caller:
    """A tenant's program that runs scripts through the gateway."""

    def __init__(self, address: str, key: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = script_pb2_grpc.ScriptServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def attack(self, attack: Attack, arguments: Mapping[str, str]) -> Outcome:
        """Run an attack within its limits."""
        limits = script_pb2.RunLimits(memory_bytes=attack.memory_bytes, output_bytes=64 * 1024)
        limits.wall_time.FromMilliseconds(round(attack.wall_s * 1000))
        return await self.run(attack.source, limits, arguments, name=f"{attack.name}.lua")

    async def run(
        self,
        source: str,
        limits: script_pb2.RunLimits | None = None,
        arguments: Mapping[str, str] | None = None,
        name: str = "script.lua",
    ) -> Outcome:
        """Run a script to its end, whichever it is."""
        request = script_pb2.RunScriptRequest(
            source=source, name=name, limits=limits, named_arguments=arguments
        )
        begin, output = time.monotonic(), b""
        try:
            async for event in self._stub.RunScript(
                request, metadata=self._metadata, timeout=_DEADLINE_S
            ):
                output += event.output.data
                if event.WhichOneof("event") == "result":
                    value = json.loads(event.result.json)
        except grpc.aio.AioRpcError as error:
            info = _info(error)
            took_s = time.monotonic() - begin
            return Outcome(info.reason, error.details(), dict(info.metadata), output, took_s)
        told = value if isinstance(value, str) else json.dumps(value)
        return Outcome(told, output=output, took_s=time.monotonic() - begin)


def _info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    trailers = dict(error.trailing_metadata())
    info = error_details_pb2.ErrorInfo(reason=error.code().name)
    if "grpc-status-details-bin" in trailers:
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        status.details[0].Unpack(info)
    return info
