"""What the client asks of tools, of texts without a collection, and how it reads the answers."""

import pytest
from llmspell import AsyncClient, Client, InvalidArgument, NotFound
from llmspell.types import TextChunk, ToolResult
from llmspell.v1 import rag_pb2

from tests.fake_deployment import KEY


def test_tools_are_listed_page_by_page(client, deployment):
    """All of them, of a category, with a word."""
    assert [tool.name for tool in client.list_tools()] == ["hum", "shout", "sing"]
    assert deployment.calls["ListTools"] == 2
    assert [tool.name for tool in client.list_tools(category="music")] == ["hum", "sing"]
    assert [tool.name for tool in client.list_tools(query="ou")] == ["shout"]


def test_a_tool_tells_of_itself(client):
    """Its schemas are values; an old name finds it, another is an error."""
    tool = client.get_tool("old_shout")
    assert (tool.name, tool.category, tool.level) == ("shout", "voice", "restricted")
    assert tool.parameters["properties"]["times"]["default"] == 1
    assert tool.result["properties"]["text"]["description"] == "It."
    assert (tool.old_names, tool.notes, tool.unavailable) == (("old_shout",), "It is loud.", "")
    with pytest.raises(NotFound, match="'whisper'"):
        client.get_tool("whisper")


def test_arguments_and_results_keep_their_kinds(client, deployment):
    """What goes out comes back: numbers, lists, maps, bytes, nothing."""
    given = {"input": "hi", "n": 1, "x": 1.0, "list": [True, None], "map": {"b": b"\x00"}}
    done = client.execute_tool("shout", given, session_id="s", execution_s=1.5)
    assert isinstance(done, ToolResult)
    assert (done.success, done.operation, done.message) == (True, "shout", "Shouted")
    assert done.metadata == given
    assert isinstance(done.metadata["x"], float)
    assert done.result["rows"] == [{"word": "hi", "length": 2}]
    assert done.elapsed_s == 0.25
    request = deployment.requests[-1]
    assert (request.session_id, request.timeout.ToMilliseconds()) == ("s", 1500)


@pytest.mark.parametrize(("execution_s", "most"), [(None, 300), (20, 25), (1000, 300)])
def test_a_call_waits_as_long_as_the_tool_may_take(client, deployment, execution_s, most):
    """Longer than other calls, for the tool ends by itself."""
    client.execute_tool("shout", {"input": "hi"}, execution_s=execution_s)
    # What is left is told in whole milliseconds by two clocks that need not agree to one.
    assert most - 5 < deployment.seconds_left < most + 2


def test_no_success_is_an_answer(client):
    """A tool that did not do it says why; a call that is unfit is an error."""
    done = client.execute_tool("shout", {"input": "why?"})
    assert (done.success, done.result, done.failure_code) == (False, None, "question")
    assert (done.failure_message, done.failure_details) == ("Questions are not shouted.", {"at": 3})
    with pytest.raises(InvalidArgument) as caught:
        client.execute_tool("shout")
    assert caught.value.metadata["field"] == "input"
    with pytest.raises(InvalidArgument, match=r"arguments\.when"):
        client.execute_tool("shout", {"when": object()})


def test_texts_without_a_collection(client, deployment):
    """Chunks with their places, vectors with what made them."""
    assert client.chunk_text("a bc a", chunk_unit="tokens", chunk_size=9) == [
        TextChunk("a", 0, 1), TextChunk("bc", 2, 4), TextChunk("a", 5, 6),
    ]  # fmt: skip
    chunking = deployment.requests[-1].chunking
    assert (chunking.unit, chunking.size) == (rag_pb2.CHUNK_UNIT_TOKENS, 9)
    with pytest.raises(InvalidArgument, match="chunk_unit"):
        client.chunk_text("a", chunk_unit="words")
    made = client.embed_texts(["a", "bc"], provider="local")
    assert [list(vector) for vector in made.vectors] == [[1, 0], [2, 0]]
    assert (made.embedding.dimension, made.token_count, made.cached_count) == (2, 5, 1)


async def test_the_same_awaited(address):
    """The asyncio client asks the same."""
    async with AsyncClient(address, KEY) as client:
        assert [tool.name async for tool in client.list_tools()] == ["hum", "shout", "sing"]
        assert (await client.get_tool("hum")).level == "safe"
        assert (await client.execute_tool("shout", {"input": "hi"})).result["text"] == "HI"
        assert len(await client.chunk_text("a b")) == 2
        assert len((await client.embed_texts(["a"])).vectors) == 1
    with Client(address, KEY, tenant="globex") as other:
        assert other.get_tool("hum").name == "hum"
