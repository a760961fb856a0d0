"""ImportVectors over the real door: what is answered, when, and what an error leaves."""

import asyncio

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from llmspell.v1 import vector_pb2

from services.common.clock import FakeClock
from services.vector.engines.memory import MemoryVectorStorage
from services.vector.servicers.importing import AT_ONCE
from tests.servers import settled
from tests.unit.vector.serving import packed, read_to_refusal, row, serving


class Slow(MemoryVectorStorage):
    """Writes when it is told to, and counts those that wait."""

    def __init__(self):
        super().__init__(FakeClock())
        self.begun = 0
        self.waiting = 0
        self.most = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def upsert(self, *place, **options):
        """As the oracle, a little later."""
        self.begun += 1
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.go_on.wait()
            await asyncio.sleep(0.001 if self.begun % 2 else 0)
            return await super().upsert(*place, **options)
        finally:
            self.waiting -= 1


@pytest.fixture
async def storage():
    return Slow()


@pytest.fixture
async def callers(storage):
    """Two tenants, each with a collection `c`."""
    async with serving(storage) as both:
        for caller in both:
            await caller("CreateCollection", collection_id="c", dimension=2)
        yield both


def records(*rows):
    """A message of records."""
    return ParseDict({"collection_id": "c", "records": rows}, vector_pb2.ImportVectorsRequest())


def columns(vectors, *record_ids):
    """A message of columns."""
    return vector_pb2.ImportVectorsRequest(
        collection_id="c",
        columns=vector_pb2.RecordColumns(record_ids=record_ids, f32=packed(*vectors)),
    )


async def test_who_waits_for_each_answer_gets_it(callers):
    """An answer needs no later message; then the records are found, by their own tenant only."""
    acme, globex = callers
    call = acme.importing()
    revisions = []
    for number in (1, 2, 3):
        await call.write(records(row(f"{number}a", 1, 0), row(f"{number}b", 0, 1)))
        async with asyncio.timeout(5):
            answer = await call.read()
        assert (answer.sequence, answer.record_count) == (number, 2 * number)
        revisions.append(answer.revision)
        assert f"{number}b" in await acme.ids()
    assert revisions == sorted(set(revisions))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await globex.ids() == []


async def test_columns_are_records(callers):
    """Ids and vectors as columns; where there are no ids, they are made."""
    acme, globex = callers
    call = acme.importing()
    await call.write(columns([(3, 4), (0, 1)], "a", "b"))
    await call.write(columns([(1, 0)] * 3))
    await call.done_writing()
    assert [answer.record_count async for answer in call] == [2, 5]
    got = await acme("GetVectors", collection_id="c", record_ids=["a"], mask={"vector": True})
    assert got.records[0].vector.f32 == packed((3, 4))
    assert len(set(await acme.ids())) == 5
    assert await globex.ids() == []


BAD = {
    "no collection": (vector_pb2.ImportVectorsRequest(), "FIELD_REQUIRED"),
    "shadow": (vector_pb2.ImportVectorsRequest(collection_id="~c"), "FIELD_INVALID"),
    "unknown": (vector_pb2.ImportVectorsRequest(collection_id="x"), "COLLECTION_NOT_FOUND"),
    "scope": (vector_pb2.ImportVectorsRequest(collection_id="c", scope="**"), "SCOPE_INVALID"),
    "dimension": (records(row("r", 1)), "DIMENSION_MISMATCH"),
    "zero": (records(row("r", 1, 0), row("s", 0, 0)), "VECTOR_ZERO"),
    "too many": (records(*[row("r", 1, 0)] * 1001), "LIMIT_EXCEEDED"),
    "half a vector": (columns([(1, 0, 1)], "r"), "DIMENSION_MISMATCH"),
    "an id too few": (columns([(1, 0), (0, 1)], "r"), "FIELD_INVALID"),
    "no vectors": (columns([], "r"), "FIELD_REQUIRED"),
    "not finite": (columns([(1, float("nan"))], "r"), "VECTOR_NOT_FINITE"),
    "too many columns": (columns([(1, 0)] * 1001), "LIMIT_EXCEEDED"),
}


@pytest.mark.parametrize(("request_", "reason"), BAD.values(), ids=BAD)
async def test_a_bad_message_writes_nothing(callers, request_, reason):
    """Each is refused with its reason, all of it, as the first message and as a later one."""
    acme, _ = callers
    call = acme.importing()
    await call.write(request_)
    answers, (told, _) = await read_to_refusal(call)
    assert (answers, told) == ([], reason)
    assert await acme.ids() == []


async def test_records_beside_columns_are_refused(callers):
    """A message has one form."""
    acme, _ = callers
    both = columns([(1, 0)], "a")
    both.records.extend(records(row("r", 1, 0)).records)
    call = acme.importing()
    await call.write(both)
    _, (reason, told) = await read_to_refusal(call)
    assert (reason, "columns" in told) == ("FIELD_INVALID", True)


async def test_what_was_answered_before_an_error_is_there(callers):
    """The messages before it are answered and stay; of the bad one there is nothing."""
    acme, globex = callers
    call = acme.importing()
    await call.write(records(row("a", 1, 0)))
    await call.write(records(row("b", 1, 0)))
    await call.write(records(row("c", 1, 0), row("d", 0, 0)))
    answers, (reason, told) = await read_to_refusal(call)
    assert [answer.sequence for answer in answers] == [1, 2]
    assert reason == "VECTOR_ZERO"
    assert "records[1].vector" in told
    assert await acme.ids() == ["a", "b"]
    assert await globex.ids() == []


async def test_only_the_first_message_names_the_place(callers):
    """What later ones say of scope and collection is passed over."""
    acme, _ = callers
    call = acme.importing()
    await call.write(records(row("a", 1, 0)))
    later = records(row("b", 1, 0))
    later.collection_id, later.scope = "elsewhere", "user:x"
    await call.write(later)
    await call.done_writing()
    assert len([answer async for answer in call]) == 2
    assert await acme.ids() == ["a", "b"]


async def test_messages_are_written_side_by_side_and_answered_in_order(callers, storage):
    """Up to four at once, so that they share a flush; never more; the last of an id wins."""
    acme, _ = callers
    call = acme.importing()
    storage.go_on.clear()
    for number in range(12):
        await call.write(records(row("same", number + 1, 0), row(f"{number}", 1, 0)))
    await call.done_writing()
    await settled(lambda: storage.waiting == AT_ONCE)
    await asyncio.sleep(0.2)
    assert storage.begun == AT_ONCE
    storage.go_on.set()
    assert [answer.sequence async for answer in call] == list(range(1, 13))
    assert storage.most == AT_ONCE
    assert len(await acme.ids()) == 13


async def test_answers_left_unread_stop_the_reading(callers, storage):
    """A caller who never reads is not written for without end; leaving ends it."""
    acme, globex = callers
    call = acme.importing()
    sent = 0
    storage.go_on.clear()
    for _ in range(40):
        await call.write(columns([(1, 0)] * 100))
        sent += 1
    await settled(lambda: storage.waiting == AT_ONCE)
    call.cancel()
    await settled(lambda: storage.waiting == 0)
    storage.go_on.set()
    await asyncio.sleep(0.05)
    assert storage.begun == AT_ONCE < sent
    assert await globex.ids() == []


async def test_a_row_filter_holds_for_imports(callers):
    """What the caller may not see it cannot write; its stream ends with that."""
    acme, _ = callers
    own = acme.seeing({"condition": {"field": "team", "equals": {"string_value": "red"}}})
    call = own.importing()
    await call.write(records(row("r", 1, 0, team="red")))
    assert (await call.read()).record_count == 1
    await call.write(records(row("b", 1, 0, team="blue")))
    _, (reason, _) = await read_to_refusal(call)
    assert reason == "PERMISSION_DENIED"
    assert await acme.ids() == ["r"]
