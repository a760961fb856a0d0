"""Vectors through both clients, with the real servicers and the real door behind them."""

import asyncio
from array import array
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from llmspell import AsyncClient, Client, Record
from llmspell.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from llmspell.types import Columns, Hnsw, Progress

from services.common.clock import FakeClock
from services.common.context import TENANT_KEY, CallContext
from services.vector.engines.memory import MemoryVectorStorage
from tests.unit.vector.serving import listening

KEY = "llms_test_secret"
START = datetime.fromtimestamp(1_700_000_000, UTC)


async def identify(metadata, method):
    """Whoever says a tenant's name is let in as it."""
    tenant = dict(metadata)[TENANT_KEY]
    return CallContext(tenant=tenant, principal="k", permissions=("*",))


@pytest.fixture
async def clock():
    return FakeClock()


@pytest.fixture
async def address(clock):
    async with listening(MemoryVectorStorage(clock), identify) as where:
        yield where


class Threaded:
    """The blocking client, awaited: each call in a thread, what it yields in a list."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        method = getattr(self._client, name)

        async def call(*args, **options):
            return await asyncio.to_thread(lambda: _whole(method(*args, **options)))

        return call


class Awaited:
    """The asyncio client with what it yields in a list."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        method = getattr(self._client, name)

        async def call(*args, **options):
            answer = method(*args, **options)
            return [one async for one in answer] if hasattr(answer, "__aiter__") else await answer

        return call


def _whole(answer):
    return list(answer) if hasattr(answer, "__next__") else answer


@pytest.fixture(params=["blocking", "asyncio"])
async def clients(request, address):
    """Two tenants' clients of one kind, each with a collection `c`."""
    kind, wrap = (Client, Threaded) if request.param == "blocking" else (AsyncClient, Awaited)
    opened = [kind(address, KEY, tenant=tenant) for tenant in ("acme", "globex")]
    both = [wrap(client) for client in opened]
    for client in both:
        await client.create_collection("c", 4, history_s=3600)
    yield both
    for client in both:
        await client.close()


def matrix(rows, seed=1):
    """Random vectors of four numbers."""
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


async def test_settings_travel(clients):
    """What a collection is made with and changed to comes back in the units of the client."""
    acme, globex = clients
    made = await acme.create_collection(
        "s",
        3,
        metric="manhattan",
        hnsw=Hnsw("fast", m=24, quantization="i8"),
        ttl_s=60,
        default_ttl_s=1.5,
        history_s=10,
    )
    assert (made.metric, made.default_ttl_s, made.history_s) == ("manhattan", 1.5, 10.0)
    assert made.expire_time == START + timedelta(seconds=60)
    assert made.hnsw == Hnsw("", m=24, ef_construction=100, ef_search=50, quantization="i8")
    changed = await acme.update_collection("s", default_ttl_s=0, history_s=0, ef_search=99)
    assert (changed.default_ttl_s, changed.history_s, changed.hnsw.ef_search) == (None, 0.0, 99)
    assert changed.expire_time == made.expire_time
    told = await acme.configure_scope("session:x", record_ttl_s=5, ttl_s=60)
    assert (told.scope, told.record_ttl_s) == ("session:x", 5.0)
    assert (await acme.configure_scope("session:x", record_ttl_s=0)).record_ttl_s is None
    with pytest.raises(NotFound):
        await globex.get_collection("s")


async def test_any_number_of_records_is_imported(clients):
    """In messages of a thousand, with progress after each; another tenant has none of them."""
    acme, globex = clients
    rows = matrix(2500)
    records = (Record(f"{n:04}", row, {"n": n}) for n, row in enumerate(rows))
    told = await acme.import_vectors("c", records)
    assert [(each.sequence, each.record_count) for each in told] == [
        (1, 1000),
        (2, 2000),
        (3, 2500),
    ]
    assert isinstance(told[0], Progress)
    assert told[0].revision < told[-1].revision
    got = await acme.get_vectors("c", ["2499"], with_vectors=True)
    assert got[0].vector == array("f", rows[2499])
    assert (await acme.stats()).record_count == 2500
    assert (await globex.stats()).record_count == 0


async def test_large_records_go_in_smaller_messages(clients):
    """A message is bounded by bytes too."""
    acme, _ = clients
    text = "x" * 60_000
    told = await acme.import_vectors(
        "c", (Record(f"{n}", [1, 0, 0, 0], text=text) for n in range(150))
    )
    assert [each.record_count for each in told] == sorted(each.record_count for each in told)
    assert len(told) == 3
    assert told[-1].record_count == 150


FORMS = {
    "float32": lambda rows: rows,
    "float64": lambda rows: rows.astype(np.float64),
    "column order": np.asfortranarray,
    "every other row": lambda rows: np.repeat(rows, 2, axis=0)[::2],
    "memoryview": memoryview,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_columns_are_imported_and_searched(clients, form):
    """Whatever numbers the matrix has, and wherever they lie in memory."""
    acme, globex = clients
    rows = matrix(1100)
    names = [f"{n:04}" for n in range(len(rows))]
    told = await acme.import_vectors("c", Columns(names, form(rows)))
    assert [each.record_count for each in told] == [1000, 1100]
    found = await acme.batch_search("c", form(rows[:4]), 3)
    single = await acme.batch_search("c", list(rows[:4]), 3)
    assert [result[0].record_id for result in found] == names[:4]
    assert found == single
    flat = await acme.batch_search("c", form(rows[:4]), 3, columns=True)
    assert [[(hit.record_id, hit.score) for hit in each] for each in flat] == [
        [(hit.record_id, hit.score) for hit in each] for each in found
    ]
    assert await globex.batch_search("c", rows[:1], 3) == [await globex.search("c", rows[0], 3)]


async def test_a_matrix_of_another_width_is_refused(clients):
    """Also where its bytes happen to be whole vectors of the collection."""
    acme, _ = clients
    rows = matrix(10)
    await acme.import_vectors("c", Columns([f"{n}" for n in range(10)], rows))
    for shape in ((2, 3), (2, 2), (5, 8)):
        with pytest.raises(InvalidArgument) as caught:
            await acme.batch_search("c", np.ones(shape, np.float32))
        assert caught.value.reason == "DIMENSION_MISMATCH"
        with pytest.raises(InvalidArgument):
            await acme.import_vectors("c", Columns(["a"] * shape[0], np.ones(shape, np.float32)))
    for wrong in (np.ones((3, 0), np.float32), memoryview(np.ones((2, 4)))):
        with pytest.raises(InvalidArgument, match="vectors must"):
            await acme.batch_search("c", wrong)
    with pytest.raises(InvalidArgument, match="record_ids has 1 ids for 10 vectors"):
        await acme.import_vectors("c", Columns(["a"], rows))
    assert (await acme.stats()).record_count == 10


async def test_an_import_that_fails_says_why_and_keeps_what_it_told(clients):
    """The service's reason, however many records wait to be sent."""
    acme, _ = clients
    rows = matrix(20_000)
    rows[1500] = 0
    for _ in range(3):
        with pytest.raises(InvalidArgument) as caught:
            await acme.import_vectors("c", Columns([f"{n}" for n in range(len(rows))], rows))
        assert caught.value.reason == "VECTOR_ZERO"
    listed = await acme.list_vectors("c")
    assert {str(n) for n in range(1000)} <= {record.record_id for record in listed}


async def test_a_reason_is_kept_while_records_are_sent(clients):
    """However the refusal and the next message meet (grpc's issue 36066)."""
    acme, _ = clients
    columns = Columns([""] * 200_000, np.ones((200_000, 4), np.float32))
    told = []
    for _ in range(40):
        with pytest.raises((NotFound, Internal)) as caught:
            await acme.import_vectors("x", columns)
        told.append(caught.value.reason)
    assert told == ["COLLECTION_NOT_FOUND"] * 40


async def test_a_record_that_cannot_be_sent_is_named(clients):
    """The caller's own mistake is what is raised, not what gRPC makes of it."""
    acme, _ = clients

    def records():
        yield Record("a", [1, 2, 3, 4])
        yield Record("b")

    with pytest.raises(InvalidArgument, match=r"records\[1\]\.vector"):
        await acme.import_vectors("c", records())

    def broken():
        yield Record("a", [1, 2, 3, 4])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await acme.import_vectors("c", broken())


async def test_an_import_into_nothing_is_refused(clients):
    """Also where there is nothing to import; an empty import into something is none."""
    acme, _ = clients
    for records in ([], [Record("a", [1, 2, 3, 4])], Columns(["a"], matrix(1))):
        with pytest.raises(NotFound):
            await acme.import_vectors("x", records)
    told = await acme.import_vectors("c", [])
    assert [each.record_count for each in told] == [0]


async def test_both_clocks_and_how_it_was_found(clients, clock):
    """Spans, the past, a demanded recall; and the answer tells its path and its counts."""
    acme, globex = clients
    day = timedelta(days=1)
    records = [Record(f"{n}", [1, n, 0, 0], {"n": n}, event_time=START + n * day) for n in range(5)]
    await acme.upsert("c", records)
    found = await acme.search("c", [1, 0, 0, 0], event_time=(START + day, START + 3 * day))
    assert [hit.record_id for hit in found] == ["1", "2"]
    assert (found.path, found.match_count, found.complete) == ("matches", 2, True)
    assert (found[0].event_time, found[0].ingest_time) == (START + day, START)
    before = START
    clock.advance(10)
    await acme.delete_vectors("c", filter={"n": {"lt": 4}})
    assert len(await acme.search("c", [1, 0, 0, 0])) == 1
    assert len(await acme.search("c", [1, 0, 0, 0], as_of=before)) == 5
    assert len(await acme.search("c", [1, 0, 0, 0], ingest_time=(START + day, None))) == 0
    whole = await acme.search("c", [1, 0, 0, 0], min_recall=1.0)
    assert (whole.exact, whole.path, whole.candidate_count) == (True, "scan", 1)
    with pytest.raises(FailedPrecondition) as caught:
        await acme.search("c", [1, 0, 0, 0], as_of=START - 400 * day)
    assert caught.value.reason == "HISTORY_UNAVAILABLE"
    assert len(await globex.search("c", [1, 0, 0, 0])) == 0


async def test_metadata_snapshots_and_care(clients):
    """Changed by id and by filter; kept, put back, looked after."""
    acme, globex = clients
    await acme.upsert("c", [Record(f"{n}", [1, n, 0, 0], {"n": n, "m": 1}) for n in range(4)])
    assert await acme.update_metadata("c", ["0", "none"], set={"x": True}) == 1
    assert await acme.update_metadata("c", filter={"n": {"gte": 2}}, remove=["m"]) == 2
    assert len(await acme.list_vectors("c", filter={"m": {"exists": True}})) == 2
    kept = await acme.create_snapshot("c")
    assert (kept.collection_id, kept.record_count, kept.create_time) == ("c", 4, START)
    await acme.delete_vectors("c", ["0"])
    assert [each.snapshot_id for each in await acme.list_snapshots()] == [kept.snapshot_id]
    assert await globex.list_snapshots() == []
    assert await acme.restore_snapshot(kept.snapshot_id, collection="d") == 4
    assert (await acme.get_collection("d")).record_count == 4
    assert await acme.rebuild_index("d") == 4
    assert (await acme.checkpoint_index("d")).record_count == 4
    assert await globex.delete_snapshot(kept.snapshot_id) is False
    assert await acme.delete_snapshot(kept.snapshot_id) is True


async def test_an_import_can_be_left(address):
    """Closing the generator ends the call; the client goes on, and what was told is there."""
    async with AsyncClient(address, KEY, tenant="acme") as client:
        await client.create_collection("c", 4)
        names = [f"{n}" for n in range(50_000)]
        progress = client.import_vectors("c", Columns(names, matrix(50_000)))
        first = await anext(progress)
        await progress.aclose()
        count = (await client.stats()).record_count
        assert first.record_count <= count < 50_000


class StandsStill(MemoryVectorStorage):
    """Writes nothing until it is told to."""

    def __init__(self):
        super().__init__(FakeClock())
        self.go_on = asyncio.Event()

    async def upsert(self, *place, **options):
        """As the oracle, later."""
        await self.go_on.wait()
        return await super().upsert(*place, **options)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_records_are_taken_as_there_is_room(kind):
    """While the store stands still, no more are asked for than the way there holds."""
    storage, number, asked = StandsStill(), 2000, []

    def records():
        for name in range(number):
            asked.append(name)
            yield Record(f"{name}", [1, 0, 0, 0], text="x" * 60_000)

    async with listening(storage, identify) as address:
        client = kind(address, KEY, tenant="acme")
        both = Threaded(client) if kind is Client else Awaited(client)
        await both.create_collection("c", 4)
        importing = asyncio.create_task(both.import_vectors("c", records()))
        before = -1
        while len(asked) != before or not before:
            before = len(asked)
            await asyncio.sleep(0.5)
        assert before < number * 3 // 4
        storage.go_on.set()
        assert (await importing)[-1].record_count == number
        await both.close()
