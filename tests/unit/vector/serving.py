"""The vector servicers behind the real door, and callers of several tenants."""

from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import (
    types_pb2,
    vector_admin_pb2,
    vector_admin_pb2_grpc,
    vector_pb2,
    vector_pb2_grpc,
)

from services.common.context import CallContext
from services.common.door import Door, SealedContext
from services.common.paging import PageTokens
from services.common.relay import CHANNEL_OPTIONS
from services.common.server import _OPTIONS
from services.common.status import DETAILS_KEY
from services.common.telemetry import Counts
from services.vector.servicers.vector import VectorServicer
from services.vector.servicers.vector_admin import VectorAdminServicer
from tests.servers import SEAL, sealed


class Caller:
    """Calls methods by name, as one tenant, with messages given as JSON."""

    def __init__(self, channel, tenant, row_filter=b""):
        self._channel = channel
        self.context = CallContext(
            tenant=tenant, principal="k", permissions=("*",), row_filter=row_filter
        )

    def seeing(self, row_filter):
        """The same caller with a row filter, given as JSON."""
        message = ParseDict(row_filter, types_pb2.Filter())
        return Caller(self._channel, self.context.tenant, message.SerializeToString())

    async def __call__(self, method, **fields):
        """The answer."""
        return await self.send(method, ParseDict(fields, _message(method)))

    async def send(self, method, request):
        """The answer to a message."""
        return await getattr(self._stub(method), method)(request, metadata=sealed(self.context))

    async def refused(self, method, **fields):
        """The reason and the words of a refusal."""
        return refusal(await _failed(self(method, **fields)))

    def importing(self):
        """A stream of imports that was begun."""
        return self._stub("ImportVectors").ImportVectors(metadata=sealed(self.context))

    async def ids(self, collection_id="c", **fields):
        """Ids of the records that the caller finds in a list."""
        page = await self("ListVectors", collection_id=collection_id, page_size=1000, **fields)
        return [record.record_id for record in page.records]

    def _stub(self, method):
        if hasattr(vector_pb2, f"{method}Request"):
            return vector_pb2_grpc.VectorServiceStub(self._channel)
        return vector_admin_pb2_grpc.VectorAdminServiceStub(self._channel)


def _message(method):
    name = f"{method}Request"
    return getattr(vector_pb2 if hasattr(vector_pb2, name) else vector_admin_pb2, name)()


async def _failed(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value


def refusal(error):
    """The reason and the words of an error."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason, status.message


async def read_to_refusal(call):
    """The answers that still came, and the reason of the end."""
    answers = []

    async def read():
        while (answer := await call.read()) is not grpc.aio.EOF:
            answers.append(answer)

    error = await _failed(read())
    return answers, refusal(error)


@asynccontextmanager
async def listening(storage, identify=None):
    """Both servicers over an engine; where they are."""
    door = Door(identify or SealedContext(SEAL), Counts(), calls_at_once=64)
    server = grpc.aio.server(interceptors=(door,), options=_OPTIONS)
    vectors = VectorServicer(storage, PageTokens(b"k" * 32))
    vector_pb2_grpc.add_VectorServiceServicer_to_server(vectors, server)
    admin = VectorAdminServicer(storage)
    vector_admin_pb2_grpc.add_VectorAdminServiceServicer_to_server(admin, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)
    await storage.close()


@asynccontextmanager
async def serving(storage):
    """Both servicers over an engine; callers of two tenants."""
    async with (
        listening(storage) as address,
        grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
    ):
        yield Caller(channel, "acme"), Caller(channel, "globex")


def row(record_id, *values, **metadata):
    """A record as JSON; metadata of whole numbers and text."""
    kinds = {int: "int_value", str: "string_value"}
    fields = {name: {kinds[type(value)]: value} for name, value in metadata.items()}
    return {"record_id": record_id, "vector": {"values": values}, "metadata": fields}


def packed(*rows):
    """Rows as packed float32."""
    return np.array(rows, "<f4").tobytes()
