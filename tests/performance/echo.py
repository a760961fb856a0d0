"""The reference for every call: a grpc.aio server in a process of its own that answers with bytes.

It does nothing, so its time is what gRPC in Python costs on this machine, in this run.
"""

from __future__ import annotations

import asyncio
import sys

import grpc


async def _serve(address: str, answer_bytes: int) -> None:
    answer = bytes(answer_bytes)

    async def echo(request: bytes, context: object) -> bytes:
        del request, context
        return answer

    handler = grpc.method_handlers_generic_handler(
        "Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
