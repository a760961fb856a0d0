"""Tools that run in the runtime, over real servicers of the processes that they call."""

import math

import pytest
import pytest_asyncio

from services.common.errors import ServiceError, reason_name
from services.runtime.tools.entry import HostCall
from services.runtime.tools.inner.desk import InnerDesk, Surroundings
from services.runtime.tools.inner.environment_reader import BLOCKED
from tests.unit.runtime.neighbours import inner, neighbours
from tests.unit.runtime.tooling import ALL, caller, open_toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEIGHBOURS = ("rag.read", "rag.embed", "rag.write", "vector.read", "state.read", "state.write")
VARIABLES = {
    "LANG": "C.UTF-8",
    "LC_ALL": "de",
    "HOME": "/root",
    "LC_API_KEY": "secret",
    "OPEN_TOKEN": "secret",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory):
    """The toolbox, and the relay behind it."""
    folder = tmp_path_factory.mktemp("inner")
    async with neighbours(folder / "vectors") as relay:
        environment = ("LANG", "LC_*", "OPEN_*", "LATER")
        tools = inner(
            relay, data=str(folder / "to" / "come"), environment=environment, variables=VARIABLES
        )
        async with open_toolbox(folder / "tenants", inner=tools) as toolbox:
            yield toolbox, relay


@pytest.fixture
def execute(place):
    """Execute a tool as a tenant; its outcome."""

    async def execute(name, /, tenant="acme", permissions=ALL + NEIGHBOURS, **arguments):
        return await place[0].execute(name, arguments, caller(tenant, permissions))

    return execute


@pytest.fixture
def refused(execute):
    """The reason and the field of a refusal."""

    async def refused(name, /, **arguments):
        with pytest.raises(ServiceError) as caught:
            await execute(name, **arguments)
        return reason_name(caught.value.reason), caught.value.metadata.get("field")

    return refused


# document-chunker


async def test_a_text_is_cut(execute):
    """Each piece is where it says; old names mean the same."""
    text = "First sentence here. Second sentence here. Third one."
    done = await execute("document-chunker", text=text, method="sentences", size=25, overlap=0)
    chunks = done.result["chunks"]
    assert done.result["chunk_count"] == len(chunks) == 3
    assert [chunk["index"] for chunk in chunks] == [0, 1, 2]
    assert all(text[chunk["start"] : chunk["end"]] == chunk["text"] for chunk in chunks)
    again = await execute("document_chunker", input=text)
    assert [chunk["text"] for chunk in again.result["chunks"]] == [text]


async def test_a_wrong_cut_is_named(refused):
    """By the tool's own parameter, not by the request's field."""
    assert await refused("document-chunker", input=" ") == ("FIELD_INVALID", "input")
    assert await refused("document-chunker") == ("FIELD_REQUIRED", "input")
    wrong = {"input": "x", "chunk_size": 9, "overlap": 9}
    assert await refused("document-chunker", **wrong) == ("FIELD_INVALID", "overlap")
    wrong = {"input": "x", "chunk_size": 9000}
    assert await refused("document-chunker", **wrong) == ("FIELD_INVALID", "chunk_size")
    wrong = {"input": "x", "strategy": "words"}
    assert await refused("document-chunker", **wrong) == ("FIELD_INVALID", "strategy")


# embedding-generator


async def test_texts_have_vectors(execute):
    """One text has `embedding`, a list has one vector each; alike texts are near."""
    one = (await execute("embedding-generator", input="a cat")).result
    assert len(one["embedding"]) == one["dimension"] == 384
    assert (one["provider"], one["count"]) == ("local", 1)
    texts = ["a cat", "a kitten", "a tax return"]
    many = (await execute("embedding-generator", text=texts)).result
    assert "embedding" not in many
    cat, kitten, tax = many["embeddings"]
    assert cat == one["embedding"]
    assert math.dist(cat, kitten) < math.dist(cat, tax)
    assert many["cached_count"] == 1


async def test_a_wrong_text_is_named(refused, execute):
    """None, a blank one, an unknown provider; and who may not embed."""
    assert await refused("embedding-generator") == ("FIELD_REQUIRED", "input")
    assert await refused("embedding-generator", input=[]) == ("FIELD_INVALID", "input")
    assert await refused("embedding-generator", input=["a", " "]) == ("FIELD_REQUIRED", "input[1]")
    wrong = {"input": "a", "provider": "none"}
    assert await refused("embedding-generator", **wrong) == ("FIELD_INVALID", "provider")
    with pytest.raises(ServiceError) as caught:
        await execute("embedding-generator", permissions=ALL, input="a")
    assert caught.value.metadata["permission"] == "rag.embed"


# vector-search and semantic-search


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def animals(place):
    """Three documents of acme."""
    _, relay = place
    desk = _desk(relay, "acme")
    documents = [
        {"document_id": "cat", "text": "Cats purr and sleep all day.", "metadata": {"legs": 4}},
        {"document_id": "bird", "text": "Birds sing in the morning.", "metadata": {"legs": 2}},
        {"document_id": "tax", "text": "The tax return is due in May.", "metadata": {"legs": 0}},
    ]
    await desk.ask("RagService/IngestDocuments", {"documents": documents})


def _desk(relay, tenant):
    call = HostCall(context=caller(tenant, ALL + NEIGHBOURS), timeout_s=20, session_id="")
    return InnerDesk(call=call, surroundings=Surroundings(relay=relay))


@pytest.mark.usefixtures("animals")
async def test_passages_are_found_by_meaning(execute):
    """The nearest comes first; filters hold; another tenant has none."""
    found = (await execute("semantic-search", query="a sleeping kitten", k=2)).result
    assert found["results"][0]["document_id"] == "cat"
    assert (found["count"], found["mode"], found["complete"]) == (2, "semantic", True)
    wanted = {"legs": {"gte": 1, "lt": 4}}
    found = (await execute("semantic-search", input="pets", filter=wanted)).result
    assert [each["document_id"] for each in found["results"]] == ["bird"]
    by_words = (await execute("semantic-search", input="tax", mode="lexical")).result
    assert [each["document_id"] for each in by_words["results"]] == ["tax"]
    several = (await execute("semantic-search", input="animals", diverse=True, limit=3)).result
    assert several["count"] == 3
    theirs = await execute("semantic-search", tenant="globex", input="a sleeping kitten")
    assert theirs.result["results"] == []


@pytest.mark.usefixtures("animals")
async def test_records_are_found_by_vector(execute):
    """By a text's vector or by a given one; both give the same."""
    by_text = (await execute("vector-search", input="a sleeping kitten", limit=1)).result
    vector = (await execute("embedding-generator", input="a sleeping kitten")).result["embedding"]
    by_vector = (await execute("vector-search", embedding=vector, top_k=1)).result
    assert by_text["results"][0]["record_id"] == by_vector["results"][0]["record_id"] == "cat#0"
    assert by_vector["results"][0]["metadata"] == {"legs": 4}
    among = {"legs": [0, 2], "exact": True}
    found = await execute(
        "vector-search", vector=vector, exact=among.pop("exact"), filter=among, limit=5
    )
    assert {each["record_id"] for each in found.result["results"]} == {"bird#0", "tax#0"}
    assert found.result["exact"]
    own = {"condition": {"field": "legs", "equals": 0}}
    found = await execute("vector-search", vector=vector, filter=own)
    assert [each["record_id"] for each in found.result["results"]] == ["tax#0"]


@pytest.mark.usefixtures("animals")
async def test_a_wrong_search_is_named(refused, execute):
    """What is missing, what is unknown, and whose collection is not there."""
    assert await refused("semantic-search") == ("FIELD_REQUIRED", "input")
    assert await refused("semantic-search", input="  ") == ("FIELD_INVALID", "input")
    wrong = {"input": "a", "filter": {"legs": {"like": 1}}}
    assert await refused("semantic-search", **wrong) == ("FIELD_INVALID", "filter.legs")
    assert await refused("semantic-search", input="a", limit=0) == ("FIELD_INVALID", "limit")
    assert await refused("vector-search") == ("FIELD_INVALID", "vector")
    assert await refused("vector-search", input="a", vector=[1]) == ("FIELD_INVALID", "vector")
    reason, _ = await refused("vector-search", vector=[1.0, 2.0])
    assert reason == "DIMENSION_MISMATCH"
    reason, _ = await refused("vector-search", vector=[1.0], collection="nowhere")
    assert reason == "COLLECTION_NOT_FOUND"
    with pytest.raises(ServiceError) as caught:
        await execute("vector-search", permissions=ALL, vector=[1.0])
    assert caught.value.metadata["permission"] == "vector.read"


# similarity-calculator


@pytest.mark.parametrize(
    ("metric", "similarity", "distance"),
    [
        ("cosine", 0.6, None),
        ("dot", 15.0, None),
        ("euclidean", 1 / (1 + math.sqrt(20)), math.sqrt(20)),
        ("manhattan", 1 / 7, 6.0),
    ],
)
async def test_vectors_are_measured(execute, metric, similarity, distance):
    """Each metric is what its name says."""
    done = await execute(
        "similarity-calculator", input=[5.0, 0.0], target=[3.0, 4.0], metric=metric
    )
    assert done.result["similarity"] == pytest.approx(similarity)
    assert done.result.get("distance") == (distance and pytest.approx(distance))


async def test_several_are_ranked(execute):
    """The most alike first, with its place in the list."""
    done = await execute(
        "similarity-calculator", a=[1, 0], targets=[[0, 1], [1, 0.1], [-1, 0]], metric="euclidean"
    )
    assert [each["index"] for each in done.result["results"]] == [1, 0, 2]
    assert (await execute("similarity-calculator", a=[0, 0], b=[1, 0])).result["similarity"] == 0


async def test_texts_are_measured_by_meaning(execute):
    """A kitten is nearer to a cat than a tax return is."""
    done = await execute(
        "similarity-calculator", text1="cat", candidates=["tax return", "kitten", "cat"]
    )
    assert [each["text"] for each in done.result["results"]] == ["cat", "kitten", "tax return"]
    assert done.result["results"][0]["similarity"] == pytest.approx(1)


async def test_what_cannot_be_measured_is_named(refused):
    """Two kinds, two lengths, nothing to compare, numbers too large."""
    tool = "similarity-calculator"
    assert await refused(tool, input=[1], target="a") == ("FIELD_INVALID", "target")
    assert await refused(tool, input=[1], target=[1, 2]) == ("FIELD_INVALID", "target")
    assert await refused(tool, input=[1], targets=[[1], [1, 2]]) == ("FIELD_INVALID", "targets[1]")
    assert await refused(tool, input=[1]) == ("FIELD_INVALID", "target")
    assert await refused(tool, target=[1]) == ("FIELD_REQUIRED", "input")
    huge = {"input": [1e308, 1e308], "target": [1e308, 1e308], "metric": "dot"}
    assert await refused(tool, **huge) == ("FIELD_INVALID", "input")


# tool-state


async def test_values_are_kept_for_a_tool(execute):
    """Written, read, listed and deleted, of one tenant and one tool alone."""
    tool = {"tool": "demo"}
    kept = {"n": 1, "list": [1.5, None, "x"]}
    done = await execute("tool-state", **tool, operation="set", key="a", input=kept)
    assert done.result["revision"] > 0
    await execute("tool-state", **tool, operation="set", key="ab", value=None)
    found = (await execute("tool-state", **tool, key="a")).result
    assert (found["value"], found["found"]) == (kept, True)
    listed = (await execute("tool-state", **tool, operation="list", prefix="a")).result
    assert (listed["keys"], listed["count"], listed["complete"]) == (["a", "ab"], 2, True)
    other = (await execute("tool-state", tool_name="other", key="a")).result
    theirs = (await execute("tool-state", tenant="globex", tool_name="demo", key="a")).result
    assert (other["found"], theirs["found"]) == (False, False)
    assert (await execute("tool-state", **tool, operation="delete", key="a")).result["deleted"]
    assert not (await execute("tool-state", **tool, operation="delete", key="a")).result["deleted"]


async def test_a_wrong_value_is_named(refused, execute):
    """What is missing, what has no meaning, and who may not write."""
    assert await refused("tool-state", key="a") == ("FIELD_REQUIRED", "tool_name")
    assert await refused("tool-state", tool_name="t") == ("FIELD_REQUIRED", "key")
    wrong = {"tool_name": "t", "key": "a", "operation": "set"}
    assert await refused("tool-state", **wrong) == ("FIELD_REQUIRED", "value")
    assert await refused("tool-state", **wrong, value=[b"\xff"]) == ("FIELD_INVALID", "value")
    wrong = {"tool_name": "t", "key": "a", "operation": "list"}
    assert await refused("tool-state", **wrong) == ("FIELD_INVALID", "key")
    assert await refused("tool-state", tool_name="\x00", key="a") == ("FIELD_INVALID", "tool_name")
    wrong = {"tool_name": "t", "key": "k" * 300, "operation": "set", "value": 1}
    assert (await refused("tool-state", **wrong))[0] == "LIMIT_EXCEEDED"
    with pytest.raises(ServiceError) as caught:
        await execute(
            "tool-state", permissions=(*ALL, "state.read"), tool="t", operation="delete", key="a"
        )
    assert caught.value.metadata["permission"] == "state.write"


# environment-reader


async def test_allowed_variables_are_read(execute):
    """One, all, or those of a pattern; what is not set is not found."""
    tool = "environment-reader"
    read = (await execute(tool, name="LANG")).result
    assert read == {"variable_name": "LANG", "value": "C.UTF-8", "found": True}
    assert not (await execute(tool, variable_name="LATER")).result["found"]
    assert (await execute(tool, operation="list")).result == {"LANG": "C.UTF-8", "LC_ALL": "de"}
    assert (await execute(tool, operation="pattern", pattern="LC_?LL")).result == {"LC_ALL": "de"}


@pytest.mark.parametrize("name", ["HOME", "LC_API_KEY", "OPEN_TOKEN", "lang", "PATH"])
async def test_other_variables_are_refused(execute, name):
    """Whether set or not; what looks like a credential even where it is allowed."""
    with pytest.raises(ServiceError) as caught:
        await execute("environment-reader", variable_name=name)
    assert reason_name(caught.value.reason) == "PERMISSION_DENIED"
    assert caught.value.metadata["variable"] == name


async def test_no_variable_is_set(execute, refused):
    """`set` is refused by name; a name or a pattern must be given to read."""
    with pytest.raises(ServiceError, match="`set` is switched off"):
        await execute("environment-reader", operation="set", name="LANG", value="x")
    assert await refused("environment-reader") == ("FIELD_REQUIRED", "variable_name")
    wrong = await refused("environment-reader", operation="pattern")
    assert wrong == ("FIELD_REQUIRED", "pattern")
    assert len(BLOCKED) == 13


# system-monitor


async def test_the_machine_is_told_of(execute):
    """Each part by itself, and all of them."""
    cpu = (await execute("system-monitor", operation="cpu")).result
    assert 0 <= cpu["cpu_usage_percent"] <= 100
    assert cpu["cpu_count"] >= 1
    assert len(cpu["load_average"]) == 3
    memory = (await execute("system_monitor", operation="memory")).result
    assert 0 < memory["available_memory_bytes"] <= memory["total_memory_bytes"]
    assert memory["total_memory_formatted"].endswith("B")
    disk = (await execute("system-monitor", operation="disk")).result["disk_usage"]
    assert disk.keys() == {"data"}
    assert disk["data"]["used_bytes"] <= disk["data"]["total_bytes"]
    everything = (await execute("system-monitor")).result
    assert {*cpu, *memory, "disk_usage", "uptime_seconds", "formatted"} <= everything.keys()
    assert everything["process_count"] > 0


async def test_a_wrong_part_is_named(refused):
    """Only what is known can be asked."""
    wrong = await refused("system-monitor", operation="processes")
    assert wrong == ("FIELD_INVALID", "operation")
