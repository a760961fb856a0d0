"""What a run writes of its steps, and when; and what is told of one that is too large."""

import asyncio
import os

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.workflows import kept as module
from services.runtime.workflows.kept import RunJournal, RunLostError
from services.runtime.workflows.leases import start_ticks
from services.runtime.workflows.messages import OUTPUT_BYTES_MAX, output_message
from services.runtime.workflows.records import EndRecord, RecordSeal, RunRecord
from services.runtime.workflows.results import Status, StepResult, WorkflowResult
from services.runtime.workflows.shelf import Shelf

RECORD = RunRecord("e", b"", {}, 5, "key", ())


class Writes(Shelf):
    """Keeps batches instead of writing them; fails as a test wants."""

    def __init__(self):
        super().__init__(None, RecordSeal(b"k" * 32))
        self.batches = []
        self.failures = []

    async def write(self, tenant, entries, *, checks=(), request_id=""):
        await asyncio.sleep(0)
        if self.failures:
            raise ServiceError(self.failures.pop(0), "no")
        assert [(check.key, check.precondition.revision) for check in checks] == [("lease", 3)]
        self.batches.append([(entry.key, entry.record) for entry in entries])
        return 1

    @property
    def keys(self):
        return [[key for key, _ in batch] for batch in self.batches]


def journal(shelf, **more):
    return RunJournal(shelf, "acme", RECORD, lease_revision=3, **more)


def step(path, status=Status.COMPLETED, **more):
    return StepResult(path, path, "tool", status, attempts=1, **more)


async def test_before_an_effect_all_is_written_in_one_batch():
    """What was harmless waits for company; the begin of a step takes it along."""
    shelf = Writes()
    one = journal(shelf)
    one.keep(step("a"))
    one.keep(step("b"))
    await one.begin(step("c", Status.RUNNING))
    assert shelf.keys == [["step:a", "step:b", "step:c"]]
    one.keep(step("c"))
    await asyncio.sleep(0.1)
    assert shelf.keys[1:] == [["step:c"]]
    await one.close()


async def test_steps_beside_each_other_share_a_write():
    """Eight that begin at once are not eight batches."""
    shelf = Writes()
    one = journal(shelf)
    await asyncio.gather(*(one.begin(step(f"s{n}", Status.RUNNING)) for n in range(8)))
    assert sorted(key for batch in shelf.keys for key in batch) == [f"step:s{n}" for n in range(8)]
    assert len(shelf.batches) <= 2


async def test_what_was_kept_is_known_and_what_had_begun_too():
    """As another process left it."""
    one = journal(Writes(), steps=[step("a"), step("b", Status.RUNNING, start_ns=7)])
    assert one.ended("a").success
    assert one.ended("b") is None
    assert (one.begun("b").start_ns, one.begun("a")) == (7, None)


async def test_a_receipt_is_needless_once_what_came_of_it_is_kept():
    """Not before; that of an earlier try goes as well."""
    shelf, gone = Writes(), []
    one = journal(shelf, on_needless=gone.extend)
    await one.begin(step("a", Status.RUNNING, receipt="m.1"))
    assert gone == []
    await one.begin(step("a", Status.RUNNING, receipt="m.2"))
    assert gone == ["m.1"]
    one.keep(step("a"))
    assert gone == ["m.1"]
    await one.flush()
    assert gone == ["m.1", "m.2"]
    await one.close()


async def test_a_try_that_was_lost_is_gone_on_with_once():
    """What is begun here is this process's own, even before it has ended."""
    lost = step("a", Status.RUNNING, receipt="m.1", start_ns=7)
    one = journal(Writes(), steps=[lost])
    assert one.begun("a") == lost
    await one.begin(step("a", Status.RUNNING, receipt="m.1"))
    assert one.begun("a") is None


async def test_a_state_process_that_is_away_is_waited_for(monkeypatch):
    """For a while; then the step that wants to begin fails."""
    monkeypatch.setattr(module, "_PAUSES_S", (0.001, 0.001))
    shelf = Writes()
    one = journal(shelf)
    shelf.failures = [Reason.SERVICE_UNAVAILABLE] * 2
    await one.begin(step("a", Status.RUNNING))
    assert shelf.keys == [["step:a"]]
    shelf.failures = [Reason.SERVICE_UNAVAILABLE] * 3
    with pytest.raises(ServiceError, match="no"):
        await one.begin(step("b", Status.RUNNING))
    await one.begin(step("c", Status.RUNNING))
    assert shelf.keys[1:] == [["step:b", "step:c"]]


async def test_a_run_that_another_process_has_writes_nothing_more():
    """One refusal is enough: every later write is refused here."""
    shelf = Writes()
    one = journal(shelf)
    shelf.failures = [Reason.REVISION_MISMATCH]
    for name in ("a", "b"):
        with pytest.raises(RunLostError):
            await one.begin(step(name, Status.RUNNING))
    with pytest.raises(RunLostError):
        await one.end(EndRecord(Status.COMPLETED, 9))
    assert shelf.batches == []
    assert one.is_lost


async def test_an_end_that_is_too_large_is_kept_without_its_parts():
    """Shared data first, then the outputs; how it ended always."""
    shelf = Writes()
    one = journal(shelf)
    big = "x" * 600_000
    end = EndRecord(Status.COMPLETED, 9, output=1, outputs={"a": big}, shared_data={"b": big})
    await one.end(end)
    (written,) = shelf.batches
    kept = dict(written)["state"]
    assert (kept.left_out, kept.output, kept.outputs) == (("shared_data",), 1, {"a": big})
    assert "final_output" in dict(written)
    await one.end(EndRecord(Status.COMPLETED, 9, output=big + big, outputs={"a": big + big}))
    kept = dict(shelf.batches[1])["state"]
    assert kept.left_out == ("shared_data", "outputs", "output")
    assert "final_output" not in dict(shelf.batches[1])


async def test_a_step_that_is_too_large_with_its_input_is_kept_without():
    """What it gave counts more than what it was given."""
    shelf = Writes()
    one = journal(shelf)
    big = "x" * 600_000
    one.keep(step("a", input=big, output=big))
    await one.flush()
    ((_, kept),) = shelf.batches[0]
    assert kept.input is None
    assert kept.output == big
    await one.close()


async def test_a_batch_is_bounded():
    """A thousand steps are several batches, in order."""
    shelf = Writes()
    one = journal(shelf)
    for number in range(1000):
        one.keep(step(f"s{number}"))
    await one.flush()
    assert all(len(batch) <= 256 for batch in shelf.batches)
    assert [key for batch in shelf.keys for key in batch] == [f"step:s{n}" for n in range(1000)]
    await one.close()


def told(*steps, **more):
    return output_message(
        WorkflowResult("e", "w", "sequential", Status.COMPLETED, steps=steps, **more)
    )


def test_an_output_fits_a_frame_of_a_script():
    """Inputs go first, then what steps gave, then steps; what the whole gave stays."""
    big = "x" * 20_000
    small = told(*(step(f"s{n}", input=big, output="y") for n in range(10)))
    assert small.steps[0].HasField("input")
    large = told(*(step(f"s{n}", input=big, output="y") for n in range(100)), output="z")
    assert not large.steps[0].HasField("input")
    assert large.steps[0].output.string_value == "y"
    larger = told(*(step(f"s{n}", output=big) for n in range(100)), output="z")
    assert not larger.steps[0].HasField("output")
    assert larger.output.string_value == "z"
    many = told(*(step(f"s{n}") for n in range(5000)), step("c?", output=True))
    assert len(many.steps) == 2000
    assert many.facts.fields["steps_left_out"].int_value == 3001
    assert max(one.ByteSize() for one in (small, large, larger, many)) <= OUTPUT_BYTES_MAX


def test_a_process_that_is_gone_began_at_no_time():
    """A living one always began at the same."""
    assert start_ticks(os.getpid()) == start_ticks(os.getpid()) > 0
    assert start_ticks(2**22 + 1) == 0
