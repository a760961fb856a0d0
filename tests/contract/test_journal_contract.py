"""Journals over every engine."""

import os

import pytest
from llmspell.v1 import run_pb2

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.engine import ENGINES, open_engine
from services.state.journal import Journals
from services.state.journal_model import Entry, Journal
from services.state.layout import JOURNAL, JOURNALS
from services.state.step import Keeper


@pytest.fixture(params=sorted(ENGINES))
async def keeper(request, tmp_path):
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    yield Keeper(store, clock=FakeClock())
    store.close()


@pytest.fixture
def journals(keeper):
    return Journals(keeper, slice_size=2)


def call(sequence, answer=b"answer", **fields):
    """A call."""
    values = {
        "method": "llmspell.v1.StateService/GetState",
        "request": b"request",
        "failure_reason": "",
        "failure_message": "",
        "start_ns": sequence * 10,
        "end_ns": sequence * 10 + 3,
        "correlation_id": f"c{sequence}",
    }
    return Entry(sequence=sequence, answer=answer, **(values | fields))


async def refused(awaitable):
    """Why something is refused."""
    with pytest.raises(ServiceError) as info:
        await awaitable
    return info.value


async def test_calls_come_back_in_order(journals):
    """Every call is read as it was written: small, large, random, failed."""
    failed = call(2, None, failure_reason="ITEM_NOT_FOUND", failure_message="No.")
    calls = [call(1), failed, call(3, b"x" * 100_000), call(4, os.urandom(5000))]
    await journals.append("acme", "s", calls[:2])
    journal = await journals.append("acme", "s", calls[2:])
    assert await journals.read("acme", "s", 1, 4) == calls
    assert await journals.read("acme", "s", 3, 3) == calls[2:3]
    size = sum(each.size for each in calls)
    assert journal == Journal("s", 4, size, 10, 40, 12, "c1")
    assert await journals.get("acme", "s") == journal


async def test_a_journal_has_no_gap_and_never_changes(journals):
    """Calls that do not follow are refused, and what stands there is not written over."""
    await journals.append("acme", "s", [call(1), call(2)])
    missing = await refused(journals.append("acme", "s", [call(4)]))
    assert (missing.reason, missing.metadata["revision"]) == (Reason.REVISION_MISMATCH, "3")
    other = await refused(journals.append("acme", "s", [call(2, b"other"), call(3)]))
    assert other.reason == Reason.REVISION_MISMATCH
    assert (await journals.append("acme", "s", [call(1), call(2)])).count == 2
    assert (await journals.append("acme", "s", [call(2), call(3)])).count == 3
    assert await journals.read("acme", "s", 1, 9) == [call(1), call(2), call(3)]


async def test_tenants_and_sessions_are_apart(journals, keeper):
    """Each session of each tenant has its own; a purge takes one tenant's and no other's."""
    for tenant in ("acme", "globex"):
        for session in ("a", "a-b", "b"):
            await journals.append(tenant, session, [call(1, tenant.encode())])
    assert [each.answer for each in await journals.read("globex", "a", 1, 9)] == [b"globex"]
    page = await journals.list("acme", after="", limit=2)
    assert ([each.session for each in page.journals], page.after) == (["a", "a-b"], "a-b")
    rest = await journals.list("acme", after="a-b", limit=2)
    assert ([each.session for each in rest.journals], rest.after) == (["b"], None)
    await journals.purge("acme")
    assert (await journals.list("acme", after="", limit=9)).journals == []
    assert len((await journals.list("globex", after="", limit=9)).journals) == 3
    with keeper.engine.read() as view:
        assert (view.count(JOURNAL), view.count(JOURNALS)) == (3, 3)


async def test_a_deleted_journal_is_gone(journals):
    """Deleting erases all calls, in slices; another session's stay; a new one begins at 1."""
    await journals.append("acme", "s", [call(number) for number in range(1, 6)])
    await journals.append("acme", "s2", [call(1)])
    assert await journals.delete("acme", "s") == 5
    assert await journals.delete("acme", "s") == 0
    assert await journals.get("acme", "s") == Journal("s")
    assert await journals.read("acme", "s", 1, 9) == []
    assert (await journals.append("acme", "s", [call(1)])).count == 1
    assert (await journals.get("acme", "s2")).count == 1


async def test_a_sessions_end_erases_its_journal_only(journals):
    """By the session's scope; another session's calls stay, and another tenant's."""
    for tenant, session in (("acme", "s1"), ("acme", "s2"), ("globex", "s1")):
        await journals.append(tenant, session, [call(1), call(2), call(3)])
    assert await journals.delete_scope("acme", "session:s1") == 3
    assert (await journals.get("acme", "s1")).count == 0
    assert (await journals.get("acme", "s2")).count == 3
    assert (await journals.get("globex", "s1")).count == 3


async def test_unfit_calls_are_refused(journals):
    """Each limit and rule has one clear error, and nothing is written."""
    for entries, reason in [
        ([], Reason.FIELD_REQUIRED),
        ([call(0)], Reason.FIELD_INVALID),
        ([call(1), call(3)], Reason.FIELD_INVALID),
        ([call(1, method="")], Reason.FIELD_REQUIRED),
        ([call(1, method="m" * 257)], Reason.LIMIT_EXCEEDED),
        ([call(1, end_ns=1)], Reason.FIELD_INVALID),
        ([call(1, correlation_id="x" * 257)], Reason.LIMIT_EXCEEDED),
        ([call(1, b"x" * (6 * 2**20 + 1))], Reason.LIMIT_EXCEEDED),
        ([call(number) for number in range(1, 1002)], Reason.LIMIT_EXCEEDED),
    ]:
        assert (await refused(journals.append("acme", "s", entries))).reason == reason
    for session, reason in [("", Reason.FIELD_REQUIRED), ("a b", Reason.FIELD_INVALID)]:
        assert (await refused(journals.append("acme", session, [call(1)]))).reason == reason
    assert (await journals.get("acme", "s")).count == 0


def run_entries(run, *, session="", expire_ns=0, more=()):
    """A run's first entry, and more by their methods."""
    begin = run_pb2.RunBegin(run_id=run, session_id=session)
    if expire_ns:
        begin.expire_time.FromNanoseconds(expire_ns)
    first = call(1, method="run.begin", request=begin.SerializeToString())
    return [first, *(call(at, method=method) for at, method in enumerate(more, start=2))]


async def runs_of(journals, tenant="acme", session="", before="", limit=100):
    """Ids of runs, and where the next page begins."""
    page = await journals.list_runs(tenant, session=session, before=before, limit=limit)
    return [each.session for each in page.journals], page.after


async def test_journals_of_runs_are_apart_from_those_of_sessions(journals):
    """Runs are listed by themselves, the newest first, of one session or all, in pages."""
    await journals.append("acme", "s", [call(1)])
    for number in range(5):
        name, session = f"run-{number}", "s" if number % 2 else ""
        await journals.append("acme", name, run_entries(name, session=session))
    await journals.append("globex", "run-9", run_entries("run-9"))
    assert (await journals.list("acme", after="", limit=10)).journals == [
        await journals.get("acme", "s")
    ]
    assert await runs_of(journals) == ([f"run-{n}" for n in (4, 3, 2, 1, 0)], None)
    assert await runs_of(journals, session="s") == (["run-3", "run-1"], None)
    assert await runs_of(journals, limit=2) == (["run-4", "run-3"], "run-3")
    assert await runs_of(journals, before="run-3", limit=2) == (["run-2", "run-1"], "run-1")
    assert await runs_of(journals, "globex") == (["run-9"], None)


async def test_what_is_known_of_a_run_follows_from_its_entries(journals):
    """How it began stays; how it ended is its last word, and gone once it is resumed."""
    entries = run_entries("run-1", session="s", more=["run.source", "run.end", "run.resume"])
    journal = await journals.append("acme", "run-1", entries[:2])
    assert (journal.run_begin, journal.run_end, journal.owner) == (entries[0].request, b"", "s")
    journal = await journals.append("acme", "run-1", entries[2:3])
    assert journal.run_end == b"request"
    journal = await journals.append("acme", "run-1", entries[3:])
    assert (journal.run_end, journal.owner, journal.count) == (b"", "s", 4)


async def test_a_sessions_runs_go_with_it(journals):
    """Those of no session, and of others, stay."""
    for name, session in (("run-1", "s"), ("run-2", "t"), ("run-3", ""), ("run-4", "s")):
        more = ["run.source", "run.output", "run.end"]
        await journals.append("acme", name, run_entries(name, session=session, more=more))
    await journals.append("acme", "s", [call(1)])
    assert await journals.delete_scope("acme", "session:s") == 9
    assert await runs_of(journals) == (["run-3", "run-2"], None)


async def test_runs_are_let_go_when_their_time_is_over(keeper, journals):
    """They are not listed from then on, and swept; so are those whose session is long gone."""
    clock = keeper.time
    now_ns = clock.now_ns()
    second = 10**9
    await journals.append("acme", "s", [call(1)])
    await journals.append("acme", "run-1", run_entries("run-1", expire_ns=now_ns + 5 * second))
    await journals.append("acme", "run-2", run_entries("run-2", expire_ns=now_ns + 9 * second))
    await journals.append("acme", "run-3", run_entries("run-3"))
    keeper.time._clock.advance(6)
    assert await runs_of(journals) == (["run-3", "run-2"], None)
    for _ in range(3):
        await journals.sweep(limit=2)
    assert not (await journals.get("acme", "run-1")).count
    assert (await journals.get("acme", "run-2")).count == 1
    await journals.append("acme", "run-4", run_entries("run-4", session="gone"))
    keeper.time._clock.advance(601)
    for _ in range(4):
        await journals.sweep(limit=2)
    assert await runs_of(journals) == (["run-3"], None)
    assert (await journals.get("acme", "s")).count == 1
