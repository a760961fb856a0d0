"""Journals through the four processes: in order, apart."""

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
