"""What is kept of a run's calls, and what is on disk before a write is made."""

import msgspec
import pytest
from llmspell.v1 import journal_pb2

from services.common import limits
from services.common.clock import FakeClock
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.run_entries import RUN_BEGIN, RUN_CUT, RUN_END
from services.runtime import book as book_module
from services.runtime.book import Book
from services.runtime.journal import Journaled, care_of, packed_request
from services.runtime.past import Past
from services.runtime.run_desk import new_run_id
from services.runtime.runs import Call, Reply, pack_reply

CALLER = CallContext(tenant="acme", principal="k", permissions=("script.run",), request_id="r")
READ, WRITE = "llmspell.v1.StateService/GetState", "llmspell.v1.StateService/SetState"
DELETE = "llmspell.v1.MigrationService/DeleteSchema"
MAKE = "llmspell.v1.VectorService/CreateCollection"


class World:
    """A state process that keeps journals, and a host that answers; both note what happens."""

    def __init__(self):
        self.happened = []
        self.entries = []
        self.failures = []
        self.answer = Reply(ok=True, tree={"revision": 1})
        self.permissions = set()

    async def call(self, method, request, context, *, timeout_s):
        """AppendJournal."""
        self.permissions.add(context.permissions)
        if self.failures:
            raise self.failures.pop(0)
        append = journal_pb2.AppendJournalRequest.FromString(request)
        self.entries += append.entries
        self.happened.append([entry.method.rpartition("/")[2] for entry in append.entries])
        return b""

    async def handle(self, call):
        """A call of the script."""
        self.happened.append((call.method.rpartition("/")[2], call.args.get("request_id")))
        return self.answer


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(book_module, "_PAUSE_S", 0)
    return World()


def journaled(world, past=None, clock=None):
    """A run that has begun."""
    clock = clock or FakeClock()
    book = Book(world, CALLER, "run-1", clock)
    book.note(RUN_BEGIN, b"")
    return Journaled(world.handle, lambda _: 7, book, clock, run_id="run-1", past=past), book


def asks(method, **args):
    return Call(method, None, args)


async def test_what_could_not_be_had_again_is_on_disk_before_a_write(world):
    """Reads, time and how it began; the answer of a write is not waited for."""
    run, book = journaled(world)
    await run(asks(READ, key="k"))
    await run(asks(WRITE, key="k"))
    await run(asks(WRITE, key="k"))
    run.read(b"t")
    await run(asks(WRITE, key="k"))
    await run(asks(READ, key="k"))
    book.stop()
    assert world.happened == [
        ("GetState", None),
        ["run.begin", "GetState"],
        ("SetState", "run-1.2"),
        ("SetState", "run-1.3"),
        ["SetState", "SetState", "run.readings"],
        ("SetState", "run-1.4"),
        ("GetState", None),
    ]
    assert world.permissions == {("journal.write",)}
    assert [entry.sequence for entry in world.entries] == [1, 2, 3, 4, 5]


async def test_a_write_that_failed_is_on_disk_before_the_next(world):
    """Made again it might not fail."""
    run, book = journaled(world)
    world.answer = Reply(ok=False, tree={"reason": "SERVICE_UNAVAILABLE"})
    await run(asks(WRITE, key="k"))
    await run(asks(WRITE, key="k"))
    book.stop()
    assert world.happened[2] == ["SetState"]


async def test_where_an_execution_was_is_on_disk_before_the_next_write(world):
    """Asked for again it is elsewhere, and the script would make other writes by the same ids."""
    run, book = journaled(world)
    await run(asks("llmspell.v1.WorkflowService/ExecuteWorkflow", name="w"))
    await run(asks(WRITE, key="k"))
    book.stop()
    assert world.happened[2:] == [["ExecuteWorkflow"], ("SetState", "run-1.2")]


async def test_a_scripts_own_request_id_is_kept(world):
    """It names the same write in every run."""
    run, book = journaled(world)
    await run(asks(WRITE, key="k", request_id="mine"))
    book.stop()
    assert world.happened[-1] == ("SetState", "mine")


async def test_a_call_that_must_not_be_made_twice_is_noted_before(world):
    """What takes no request id and is not idempotent leaves a word first; what is does not."""
    run, book = journaled(world)
    await run(asks(DELETE, name="n"))
    await run(asks(MAKE, collection_id="c"))
    book.stop()
    assert world.happened == [
        ["run.begin"],
        ("DeleteSchema", None),
        ["DeleteSchema", "CreateCollection"],
        ("CreateCollection", None),
    ]
    assert world.entries[-1].method.startswith("run.intent ")
    assert msgspec.msgpack.decode(world.entries[-1].request) == 2


@pytest.mark.parametrize(
    ("method", "writes", "once", "repeatable"),
    [
        (READ, False, False, True),
        (WRITE, True, True, True),
        (DELETE, True, False, True),
        (MAKE, True, False, False),
        ("llmspell.v1.ToolService/ExecuteTool", True, False, False),
        ("llmspell.runtime.Hooks/Fork", True, False, False),
        ("no.such/Method", False, False, True),
    ],
)
def test_care_is_the_contracts(method, writes, once, repeatable):
    """What a method needs follows from its idempotency level and its request's fields."""
    care = care_of(method)
    assert (care.writes, care.once, care.repeatable) == (writes, once, repeatable)


async def test_a_resumed_run_is_answered_from_its_past(world):
    """Answered calls are not made; what follows is, under the same numbers."""
    first, book = journaled(world)
    await first(asks(READ, key="k"))
    await first(asks(WRITE, key="k"))
    first.read(b"t")
    await book.write()
    book.stop()
    past = Past(None)
    for entry in world.entries[1:]:
        past.add(entry)
    world.happened.clear()
    again, book = journaled(world, past)
    reply = await again(asks(READ, key="k"))
    assert reply.packed == pack_reply(Reply(ok=True, tree={"revision": 1}))
    await again(asks(WRITE, key="k"))
    assert (again.read(b"t"), world.happened) == (7, [])
    await again(asks(WRITE, key="new"))
    book.stop()
    assert world.happened[-1] == ("SetState", "run-1.3")
    other, book = journaled(world, past)
    with pytest.raises(ServiceError) as caught:
        await other(asks(READ, key="other"))
    book.stop()
    assert caught.value.reason == Reason.RUN_DIVERGED
    assert '"key":"k"' in caught.value.metadata["recorded"]
    assert '"key":"other"' in caught.value.metadata["replayed"]


async def test_a_journal_is_tried_again_and_lost_at_last(world):
    """A state process that is away for a moment costs that; one that refuses ends the run."""
    away = ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.")
    world.failures = [away, away]
    run, book = journaled(world)
    await run(asks(WRITE, key="k"))
    assert world.happened[0] == ["run.begin"]
    await run(asks(READ, key="k"))
    world.failures = [ServiceError(Reason.REVISION_MISMATCH, "Others.")]
    with pytest.raises(ServiceError) as caught:
        await run(asks(WRITE, key="k"))
    assert caught.value.reason == Reason.RUN_JOURNAL_LOST
    assert world.happened[-1] == ("GetState", None)
    book.stop()


async def test_beyond_its_limit_a_journal_keeps_the_end_only(world, monkeypatch):
    """The run goes on; it is said that there was more."""
    monkeypatch.setattr(limits, "RUN_JOURNAL_BYTES_MAX", 1000)
    run, book = journaled(world)
    for _ in range(5):
        await run(asks(READ, key="k" * 400))
    book.note_output(b"x")
    run.read(b"t")
    book.note(RUN_END, b"e")
    await book.write()
    book.stop()
    methods = [entry.method for entry in world.entries]
    assert methods == [RUN_BEGIN, f"run.call {READ}", f"run.call {READ}", RUN_CUT, RUN_END]


def test_ids_of_runs_are_in_order_of_time():
    """So that the newest are found at the end, and none is met twice."""
    ids = [new_run_id(1_795_800_000_000_000_000 + step) for step in (0, 1000, 10**9, 10**18)]
    assert ids == sorted(ids)
    assert len({new_run_id(0) for _ in range(1000)}) == 1000


async def test_an_agents_own_key_is_not_kept(world):
    """A request is kept without the key in it, and is known again by the rest of it."""
    run, book = journaled(world)
    spec = {"inline": {"name": "a", "api_key": "sk-mine"}, "tools": [{"api_key": "sk-mine"}]}
    await run(asks("llmspell.v1.AgentService/ExecuteAgent", **spec))
    await run(asks(READ, key="k"))
    await book.keep_firm()
    assert all(b"sk-mine" not in entry.request for entry in world.entries)
    kept = [entry.request for entry in world.entries if entry.method.endswith("ExecuteAgent")]
    assert kept == [packed_request(asks("llmspell.v1.AgentService/ExecuteAgent", **spec))]
    assert b"REDACTED" in kept[0]
