"""Journals through the four processes: in order, apart."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from llmspell import Client, Conflict
from llmspell.types import JournalEntry

START = datetime(2026, 1, 2, tzinfo=UTC)


def call(sequence, **fields):
    """A call that took a second."""
    at = START + timedelta(minutes=sequence)
    values = {"method": "m", "request": b"ask", "start_time": at, "correlation_id": "c"} | fields
    return JournalEntry(sequence=sequence, end_time=at + timedelta(seconds=1), **values)


def test_a_journal_is_read_as_it_was_written(deployment):
    """Calls come back whole and in order; another tenant has none under the same session."""
    calls = [call(1, answer=b"x" * 700_000), call(2, failure_reason="ITEM_NOT_FOUND")]
    calls += [call(number, answer=b"x" * 700_000) for number in range(3, 7)]
    with (
        Client(deployment.address, deployment.keys["acme"]) as acme,
        Client(deployment.address, deployment.keys["globex"]) as globex,
    ):
        assert acme.append_journal("replayed", calls[:4]) == 4
        assert acme.append_journal("replayed", calls[2:]) == 6
        assert list(acme.read_journal("replayed")) == calls
        assert list(acme.read_journal("replayed", first_sequence=5)) == calls[4:]
        journal = acme.get_journal("replayed")
        assert (journal.call_count, journal.total_duration_s, journal.can_replay) == (6, 6.0, True)
        assert (journal.first_time, journal.last_time) == (calls[0].start_time, calls[5].start_time)
        assert journal in list(acme.list_journals())
        with pytest.raises(Conflict):
            acme.append_journal("replayed", [call(8, answer=b"")])
        assert list(globex.read_journal("replayed")) == []
        assert not globex.get_journal("replayed").can_replay
        assert globex.delete_journal("replayed") == 0
        assert acme.delete_journal("replayed") == 6


SCRIPT = """
local id = ARGS.session
assert(Session.can_replay(id) and not Session:can_replay("nobody"))
local known = Session.get_replay_metadata(id)
assert(known.total_hooks == 1203 and known.total_calls == 1203 and known.session_id == id)
assert(known.correlation_id == "c" and known.can_replay and known.total_duration == 1203)
assert(known.last_hook_timestamp - known.first_hook_timestamp == 1202 * 60)
assert(Session.get_replay_metadata("nobody").total_hooks == 0)
local ids = Session.list_replayable()
assert(#ids == 1 and ids[1] == id)

local calls = Session.journal(id)
assert(#calls == 1203 and calls[1203].sequence == 1203 and calls[1].request == nil)
assert(calls[1].ok and calls[1].size_bytes == 6 and calls[1].method == "m")
assert(not calls[2].ok and calls[2].reason == "ITEM_NOT_FOUND" and calls[2].message == "No.")
assert(calls[3].ended_at - calls[3].started_at == 1 and calls[3].correlation_id == "c")
local some = Session:journal(id, {first = 1200, limit = 3, content = true})
assert(#some == 3 and some[1].sequence == 1200)
assert(some[3].request == "ask" and some[3].answer == "yes")
assert(#Session.journal(id, {first = 1203}) == 1 and #Session.journal(id, {first = 1204}) == 0)
assert(#Session.journal("nobody") == 0)
for _, wrong in ipairs{{fist = 1}, {first = 0}, {content = 1}} do
  local ok, failure = pcall(Session.journal, id, wrong)
  assert(not ok and failure.reason == "FIELD_INVALID")
end
assert(Session.replay(id, {mode = "exact"}).runs_replayed == 0 and #Session.runs(id) == 0)
return "done"
"""


def test_scripts_and_the_command_line_read_a_journal(deployment):
    """Lua and `llmspell session journal` tell of all calls in order; another tenant has none."""
    calls = [call(number, answer=b"yes") for number in range(1, 1204)]
    calls[1] = call(2, failure_reason="ITEM_NOT_FOUND", failure_message="No.")
    mine, theirs = deployment.tenant("journals"), deployment.tenant("no-journals")
    with Client(deployment.address, deployment.keys[mine]) as client:
        for begin in (0, 1000):
            client.append_journal("told", calls[begin : begin + 1000])
        listed = list(client.list_journal_entries("told", first_sequence=1201))
        assert [(each, each.size_bytes) for each in listed] == [(each, 6) for each in calls[1200:]]
        (bare,) = client.list_journal_entries("told", first_sequence=1203, content=False)
        assert (bare.request, bare.answer, bare.size_bytes) == (b"", b"", 6)
        assert list(client.run(SCRIPT, named={"session": "told"}))[-1].value == "done"
    with Client(deployment.address, deployment.keys[theirs]) as client:
        assert list(client.list_journal_entries("told")) == []
        assert list(client.run("return #Session.list_replayable()"))[-1].value == 0

    def lines(*words, tenant=mine):
        done = deployment.cli("session", *words, tenant=tenant)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    told = [json.loads(line) for line in lines("journal", "told", "--json", "--from", "2")]
    assert [each["sequence"] for each in told] == list(range(2, 1204))
    assert (told[0]["failure_reason"], told[1]["size_bytes"]) == ("ITEM_NOT_FOUND", 6)
    (whole,) = lines("journal", "told", "--json", "--content", "--limit", "1")
    assert json.loads(whole)["request"] == {"base64": "YXNr"}
    shown = lines("journal", "told", "--limit", "3")
    assert [line.split()[2] for line in shown] == ["outcome", "done", "ITEM_NOT_FOUND", "done"]
    assert [line.split()[:2] for line in lines("journals")[1:]] == [["told", "1203"]]
    assert lines("journals", tenant=theirs) == lines("journal", "told", tenant=theirs) == []
