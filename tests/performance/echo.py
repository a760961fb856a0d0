"""The reference for every call: a grpc.aio server in a process of its own that answers with bytes.

It does nothing, so its time is what gRPC in Python costs on this machine, in this run. Behind a
door (`door` as the third argument) it is the same kind of server as ours: who is calling and
whether they may is settled, and then nothing is done.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

from services.common.clock import SystemClock
from services.common.context import Seal
from services.common.door import Door, SealedContext
from services.common.limits import CALLS_AT_ONCE
from services.common.telemetry import Counts
from tests.servers import KEY

BARE = "/Echo/Echo"
BEHIND_DOOR = "/llmspell.v1.StateService/GetState"
"""A method of the contract, as the door asks it who may."""


async def _serve(address: str, answer_bytes: int, *, door: bool) -> None:
    answer = bytes(answer_bytes)

    async def echo(request: bytes, context: object) -> bytes:
        del request, context
        return answer

    service, _, method = (BEHIND_DOOR if door else BARE)[1:].partition("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(echo)}
    )
    doors = [_door()] if door else []
    server = grpc.aio.server(interceptors=doors, options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def _door() -> Door:
    identify = SealedContext(Seal(KEY, SystemClock()))
    return Door(identify, Counts(), calls_at_once=CALLS_AT_ONCE)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), door="door" in sys.argv[3:]))
