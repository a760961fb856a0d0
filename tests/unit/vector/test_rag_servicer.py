"""RagService over a real channel: streams of documents, and what a restricted key may do."""

from __future__ import annotations

import asyncio
import base64

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from llmspell.v1 import rag_pb2, rag_pb2_grpc, types_pb2

from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.common.paging import PageTokens
from services.vector.retrieval import Retriever
from services.vector.servicers.rag import RagServicer
from tests.unit.vector.documents import ENGINES, library


class Doors(grpc.aio.ServerInterceptor):
    """Stands in for the door: tenant and row filter are in metadata, a refusal shows its reason."""

    async def intercept_service(self, continuation, details):
        """Set the context, and turn a ServiceError into a status."""
        handler = await continuation(details)
        told = dict(details.invocation_metadata)

        def enter():
            row_filter = told.get("filter-bin", b"")
            set_context(
                CallContext(
                    tenant=told["tenant"], principal="k", permissions=("*",), row_filter=row_filter
                )
            )

        async def one(request, context):
            enter()
            try:
                return await handler.unary_unary(request, context)
            except ServiceError as error:
                await context.abort(grpc.StatusCode.UNKNOWN, Reason.Name(error.reason))

        async def many(requests, context):
            enter()
            try:
                async for answer in handler.stream_stream(requests, context):
                    yield answer
            except ServiceError as error:
                await context.abort(grpc.StatusCode.UNKNOWN, Reason.Name(error.reason))

        made = (handler.request_deserializer, handler.response_serializer)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(many, *made)
        return grpc.unary_unary_rpc_method_handler(one, *made)


class Caller:
    """Calls methods by name with JSON, as one key of one tenant."""

    def __init__(self, channel, tenant, row_filter=None):
        self.stub = rag_pb2_grpc.RagServiceStub(channel)
        self.metadata = [("tenant", tenant)]
        if row_filter is not None:
            self.metadata.append(("filter-bin", row_filter.SerializeToString()))

    async def __call__(self, method, **fields):
        """The answer, as JSON."""
        request = ParseDict(fields, getattr(rag_pb2, f"{method}Request")())
        answer = await getattr(self.stub, method)(request, metadata=self.metadata)
        return MessageToDict(answer, always_print_fields_with_no_presence=True)

    async def send(self, *messages):
        """All answers of an import."""
        requests = (ParseDict(each, rag_pb2.ImportDocumentsRequest()) for each in messages)
        call = self.stub.ImportDocuments(requests, metadata=self.metadata)
        return [
            MessageToDict(answer, always_print_fields_with_no_presence=True)
            async for answer in call
        ]

    async def refused(self, method, **fields):
        """The reason of a refusal."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self(method, **fields)
        return error.value.details()

    async def ids(self):
        """The documents that it sees."""
        listed = await self("ListDocuments", collection_id="docs", page_size=1000)
        return [each["documentId"] for each in listed["documents"]]


@pytest.fixture(params=ENGINES)
async def channel(request, tmp_path):
    """A server over each engine."""
    async with library(request.param, tmp_path) as shelf:
        server = grpc.aio.server(interceptors=[Doors()])
        rag_pb2_grpc.add_RagServiceServicer_to_server(
            RagServicer(
                shelf.rag,
                Retriever(shelf.storage, shelf.providers, shelf.cache),
                shelf.reembedder,
                shelf.providers,
                PageTokens(b"k" * 32),
            ),
            server,
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as made:
            yield made
        await server.stop(None)


@pytest.fixture
def acme(channel):
    """A key of acme."""
    return Caller(channel, "acme")


@pytest.fixture
def globex(channel):
    """A key of globex."""
    return Caller(channel, "globex")


def team(name):
    """A filter of one team."""
    condition = types_pb2.Filter()
    condition.condition.field = "team"
    condition.condition.equals.string_value = name
    return condition


def documents(*names, **metadata):
    """Documents by name; metadata are text."""
    told = {key: {"stringValue": value} for key, value in metadata.items()}
    return [{"document_id": n, "text": f"text of {n}", "metadata": told} for n in names]


async def test_an_import_tells_how_far_it_is(acme, globex):
    """One answer a message, in order, with sums; settings are those of the first message."""
    told = await acme.send(
        {"collection_id": "docs", "documents": documents("a", "b")},
        {"collection_id": "ignored", "documents": documents("c")},
    )
    counts = [(each["sequence"], each["documentCount"], each["chunkCount"]) for each in told]
    assert counts == [("1", "2", "2"), ("2", "3", "3")]
    assert await acme.ids() == ["a", "b", "c"]
    await globex.send({"collection_id": "docs", "documents": documents("g")})
    assert await globex.ids() == ["g"]
    assert await acme.ids() == ["a", "b", "c"]


async def test_an_import_that_was_cut_off_goes_on(acme):
    """What was answered before the cut is passed over when all is sent again."""
    call = acme.stub.ImportDocuments(metadata=acme.metadata)
    first = {"collection_id": "docs", "documents": documents("a")}
    await call.write(ParseDict(first, rag_pb2.ImportDocumentsRequest()))
    assert (await call.read()).document_count == 1
    call.cancel()
    told = await acme.send(first, {"documents": documents("b")})
    assert [(each["unchangedCount"], each["documentCount"]) for each in told] == [
        ("1", "0"),
        ("1", "1"),
    ]
    assert await acme.ids() == ["a", "b"]


async def test_a_bad_message_ends_an_import_and_leaves_what_was_answered(acme):
    """The messages before it are there, of it and after it nothing."""
    call = acme.stub.ImportDocuments(metadata=acme.metadata)
    good = {"collection_id": "docs", "documents": documents("a")}
    await call.write(ParseDict(good, rag_pb2.ImportDocumentsRequest()))
    assert (await call.read()).sequence == 1
    bad = {"documents": [*documents("b"), {"document_id": "c", "text": " "}]}
    await call.write(ParseDict(bad, rag_pb2.ImportDocumentsRequest()))
    with pytest.raises(grpc.aio.AioRpcError, match="FIELD_REQUIRED"):
        await call.read()
    assert await acme.ids() == ["a"]


async def test_a_restricted_key_sees_and_touches_its_rows_alone(channel, acme):
    """In lists, answers of every mode, deletes, ingests and imports."""
    await acme.send({"collection_id": "docs", "documents": documents("blue", team="blue")})
    red = Caller(channel, "acme", team("red"))
    await red.send({"collection_id": "docs", "documents": documents("red", team="red")})
    assert await red.ids() == ["red"]
    assert await acme.ids() == ["blue", "red"]
    for mode in ("DENSE", "LEXICAL", "HYBRID"):
        found = await red(
            "RetrieveDocuments",
            collection_id="docs",
            text="text of blue",
            mode=f"RETRIEVAL_MODE_{mode}",
        )
        assert [each["documentId"] for each in found["passages"]] == ["red"]
        assert found["matchCount"] == "1"
    deleted = await red("DeleteDocuments", collection_id="docs", document_ids=["blue", "red"])
    assert deleted["deletedCount"] == "1"
    assert await acme.ids() == ["blue"]
    for wrong in (documents("x", team="blue"), documents("blue", team="red")):
        told = await red.refused("IngestDocuments", collection_id="docs", documents=wrong)
        assert told == "PERMISSION_DENIED"
        with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
            await red.send({"collection_id": "docs", "documents": wrong})


async def test_a_restricted_key_changes_nothing_that_is_about_all_rows(channel, acme):
    """It makes no collection, and embeds none anew."""
    await acme.send({"collection_id": "docs", "documents": documents("blue", team="blue")})
    red = Caller(channel, "acme", team("red"))
    for method, rest in [
        ("EnsureDocumentCollection", {}),
        ("ReembedCollection", {"provider": "local"}),
        ("EndReembedding", {}),
    ]:
        assert await red.refused(method, collection_id="docs", **rest) == "PERMISSION_DENIED"


async def test_pages_of_documents_go_on_where_they_ended(acme, globex):
    """All documents, once each; a token is of one tenant and collection."""
    names = [f"d{n}" for n in range(5)]
    await acme.send({"collection_id": "docs", "documents": documents(*names)})
    await globex.send({"collection_id": "docs", "documents": documents("g")})
    found, token = [], ""
    while True:
        page = await acme("ListDocuments", collection_id="docs", page_size=2, page_token=token)
        found += [each["documentId"] for each in page["documents"]]
        if not page["nextPageToken"]:
            break
        token = page["nextPageToken"]
    assert found == names
    told = await globex.refused("ListDocuments", collection_id="docs", page_token=token)
    assert told == "PAGE_TOKEN_INVALID"


async def test_two_imports_at_once_lose_nothing(acme, globex):
    """Of the same tenant into the same collection, and of another beside them."""

    async def fill(caller, head):
        await caller.send(
            *[{"collection_id": "docs", "documents": documents(f"{head}{n}")} for n in range(9)]
        )

    await asyncio.gather(fill(acme, "a"), fill(acme, "b"), fill(globex, "c"))
    assert await acme.ids() == [f"{head}{n}" for head in "ab" for n in range(9)]
    assert await globex.ids() == [f"c{n}" for n in range(9)]


async def test_texts_are_cut_and_nothing_is_stored(acme):
    """ChunkText gives the pieces and where they lie; there is no collection afterwards."""
    text = "One sentence. Another sentence. " * 20
    how = {"unit": "CHUNK_UNIT_SENTENCES", "size": 64, "overlap": 0}
    cut = await acme("ChunkText", text=text, chunking=how)
    assert len(cut["chunks"]) > 5
    for chunk in cut["chunks"]:
        assert text[chunk["start"] : chunk["end"]] == chunk["text"]
        assert len(chunk["text"]) <= 64
    assert (await acme("ChunkText", text="  "))["chunks"] == []
    assert await acme.refused("ListDocuments", collection_id="docs") == "COLLECTION_NOT_FOUND"


async def test_texts_are_embedded(acme, globex):
    """One vector of length 1 a text, known the second time, to its tenant only."""
    made = await acme("EmbedTexts", texts=["cats", "dogs", "cats"])
    again = await acme("EmbedTexts", texts=["dogs"])
    theirs = await globex("EmbedTexts", texts=["dogs"])
    vectors = [np.frombuffer(base64.b64decode(each["f32"]), "<f4") for each in made["vectors"]]
    assert [len(vector) for vector in vectors] == [made["identity"]["dimension"]] * 3
    assert np.allclose([vector @ vector for vector in vectors], 1)
    assert (vectors[0] == vectors[2]).all()
    assert not np.allclose(vectors[0], vectors[1])
    assert again["vectors"] == theirs["vectors"] == [made["vectors"][1]]
    assert (again["cachedCount"], theirs["cachedCount"]) == ("1", "0")


@pytest.mark.parametrize(
    ("method", "fields", "reason"),
    [
        ("ChunkText", {}, "FIELD_REQUIRED"),
        ("ChunkText", {"text": "x " * 5001, "chunking": {"size": 1}}, "LIMIT_EXCEEDED"),
        ("ChunkText", {"text": "x", "chunking": {"size": -1}}, "FIELD_INVALID"),
        ("ChunkText", {"text": "x", "provider": "none"}, "FIELD_INVALID"),
        ("EmbedTexts", {}, "FIELD_REQUIRED"),
        ("EmbedTexts", {"texts": ["x", " "]}, "FIELD_REQUIRED"),
        ("EmbedTexts", {"texts": ["x"] * 257}, "LIMIT_EXCEEDED"),
        ("EmbedTexts", {"texts": ["x" * 70_000]}, "LIMIT_EXCEEDED"),
    ],
)
async def test_texts_that_are_refused(acme, method, fields, reason):
    """None, too many, too long, or by a provider that is not there."""
    assert await acme.refused(method, **fields) == reason
