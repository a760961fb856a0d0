"""The vector and the state process's own servicers behind one relay, without processes."""

import asyncio
import contextlib

from google.protobuf import message_factory

from services.common.clock import FakeClock
from services.common.context import set_context
from services.common.paging import PageTokens
from services.runtime.tools.inner.catalogue import inner_entries
from services.runtime.tools.inner.desk import Surroundings
from services.state.servicers.state import StateParts, StateServicer
from services.vector.retrieval import Retriever
from services.vector.servicers.rag import RagServicer
from services.vector.servicers.vector import VectorServicer
from tests.state_engines import memory_keeper
from tests.unit.vector.documents import library


class Neighbours:
    """Stands where the relay stands; requests and answers cross as bytes, as on the wire."""

    def __init__(self, servicers):
        self.servicers = servicers
        self.asked = []

    async def call(self, method, request, context, *, timeout_s):
        """What the servicer answers."""
        assert timeout_s > 0
        self.asked.append((method.descriptor.name, context.tenant))
        kind = message_factory.GetMessageClass(method.descriptor.input_type)
        handler = getattr(self.servicers[method.service], method.descriptor.name)

        async def serve():
            set_context(context)
            return await handler(kind.FromString(request), None)

        return (await asyncio.create_task(serve())).SerializeToString()


@contextlib.asynccontextmanager
async def neighbours(folder):
    """A relay to both."""
    tokens = PageTokens(bytes(32))
    async with library("memory", folder, default="local") as shelf:
        retriever = Retriever(shelf.storage, shelf.providers, shelf.cache)
        rag = RagServicer(shelf.rag, retriever, shelf.reembedder, shelf.providers, tokens)
        yield Neighbours(
            {
                "llmspell.v1.RagService": rag,
                "llmspell.v1.VectorService": VectorServicer(shelf.storage, tokens),
                "llmspell.v1.StateService": StateServicer(
                    StateParts.over(memory_keeper(FakeClock())), tokens
                ),
            }
        )


def inner(relay, **more):
    """The tools that run in the runtime."""
    return inner_entries(Surroundings(relay=relay, **more))
