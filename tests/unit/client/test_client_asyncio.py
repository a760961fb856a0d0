"""The asyncio client: the same answers, awaited."""

import asyncio

import pytest
from llmspell import (
    AsyncClient,
    Document,
    FailedPrecondition,
    Record,
    RunOutput,
    RunResult,
    RunStarted,
    SetItem,
)

from tests.fake_deployment import KEY


async def test_state_and_pages(async_client, deployment):
    """Items are set, got, deleted, and listed page by page."""
    for key in "cab":
        await async_client.set_state(key, {"is": key})
    assert (await async_client.get_state("a")).value == {"is": "a"}
    assert await async_client.get_state("z") is None
    assert [item.key async for item in async_client.list_state()] == ["a", "b", "c"]
    assert deployment.calls["ListState"] == 2
    assert await async_client.delete_state("a") is True
    assert await async_client.increment_state("n", 2) == 2
    assert (await async_client.batch([SetItem("b", 1)])).deleted_count == 0


async def test_tenants_do_not_meet(async_client):
    """The tenant travels with the call, and options share the connection."""
    await async_client.set_state("a", 1)
    other = async_client.with_options(tenant="globex")
    assert await other.get_state("a") is None
    assert (await other.who_am_i()).tenant_id == "globex"
    assert (await async_client.who_am_i()).tenant_id == "acme"


async def test_vectors_and_documents(async_client):
    """Records, searches and documents as in the blocking client."""
    assert (await async_client.create_collection("c", 2)).dimension == 2
    assert await async_client.upsert("c", [Record("a", [1, 2])]) == ["a"]
    assert (await async_client.get_vectors("c", ["a"]))[0].record_id == "a"
    assert len([one async for one in async_client.list_vectors("c")]) == 3
    assert len([one async for one in async_client.list_collections()]) == 3
    assert (await async_client.search("c", [1, 2]))[0].record_id == "r1"
    assert len(await async_client.batch_search("c", [[1], [2]])) == 2
    assert await async_client.delete_vectors("c", ["a"]) == 1
    assert (await async_client.get_collection("c")).metric == "dot"
    assert await async_client.delete_collection("c") == 7
    assert await async_client.delete_scope("user:anna") == 8
    assert (await async_client.stats()).collection_count == 3
    assert (await async_client.ingest([Document("kettle", "d")])).chunk_count == 1
    assert (await async_client.retrieve("kettle"))[0].document_id == "d"
    assert await async_client.delete_documents(["d"]) == 1
    assert (await async_client.embedding_providers())[0].default


async def test_run(async_client):
    """A run's events as they happen, its failure after them."""
    events = [event async for event in async_client.run("print(1)")]
    assert events == [RunStarted("run-1"), RunOutput(b"print(1)"), RunResult(None, 1.5, 2, 0)]
    with pytest.raises(FailedPrecondition):
        [event async for event in async_client.run("fail")]
    await async_client.check("return 1")


async def test_run_can_be_left(async_client):
    """Closing the generator cancels the call."""
    events = async_client.run("print(1)")
    await anext(events)
    await events.aclose()
    assert [event async for event in events] == []


async def test_tenants_keys_and_processes(async_client):
    """The operator's calls."""
    await async_client.create_tenant("a")
    assert (await async_client.get_tenant("a")).tenant_id == "a"
    created = await async_client.create_key("a")
    assert created.api_key.roles == ("writer",)
    assert [key.key_id async for key in async_client.list_keys("a")] == ["k0"]
    assert await async_client.revoke_key("k0") is True
    assert [tenant.tenant_id async for tenant in async_client.list_tenants()] == ["a"]
    assert (await async_client.delete_tenant("a")).record_count == 4
    assert len(await async_client.processes()) == 4
    assert await async_client.health() == "SERVING"
    assert await async_client.health("nothing") == "SERVICE_UNKNOWN"


def test_client_may_be_made_before_its_loop(address):
    """A client made outside a loop belongs to the loop that first uses it."""
    client = AsyncClient(address, KEY)

    async def use():
        async with client:
            return await client.who_am_i()

    assert asyncio.run(use()).principal == "test"


async def test_closing_an_unused_client(address):
    """A client that was never used closes without a word."""
    await AsyncClient(address, KEY).close()


async def test_calls_run_side_by_side(async_client):
    """Many calls share the connection."""
    await asyncio.gather(*(async_client.set_state(f"k{n}", n) for n in range(20)))
    items = await asyncio.gather(*(async_client.get_state(f"k{n}") for n in range(20)))
    assert [item.value for item in items] == list(range(20))
