"""What goes on for a caller: found by its owner only, told once, ended when nobody wants it."""

import asyncio

import pytest
from llmspell.v1 import execution_pb2

from services.common.errors import Reason, ServiceError
from services.common.limits import EXECUTION_EVENTS_BYTES_MAX
from services.common.values import to_value
from services.runtime import executions as module
from services.runtime.execution import FUNCTION, TOOL, Owner
from services.runtime.executions import Executions

ACME = Owner("acme", "key-1")
RIVAL = Owner("rival", "key-2")


@pytest.fixture
async def executions():
    made = Executions()
    yield made
    await made.close()


def says(text):
    async def body(execution):
        del execution
        return execution_pb2.AgentOutput(text=text)

    return body


async def waits(execution):
    del execution
    await asyncio.Event().wait()
    raise AssertionError


def text_event(text, path="a"):
    return execution_pb2.ExecutionEvent(path=path, text=text)


def result(callback_id, value):
    return execution_pb2.CallbackResult(callback_id=callback_id, value=to_value(value))


async def reason_of(awaitable):
    with pytest.raises(ServiceError) as raised:
        await awaitable
    return raised.value.reason


async def test_an_output_is_told_and_told_again(executions):
    """Who asks twice is answered twice, so a lost answer costs nothing."""
    begun = executions.begin(ACME, says("hello"))
    for _ in range(2):
        progress = await executions.progress(begun.execution_id, ACME, wait_s=5)
        assert (progress.done, progress.agent.text) == (True, "hello")


async def test_nobody_else_finds_it(executions):
    """For another tenant, another key or another run it is as if it were not there."""
    begun = executions.begin(ACME, waits)
    for other in (RIVAL, Owner("acme", "key-9"), Owner("acme", "key-1", "run_1")):
        asked = executions.progress(begun.execution_id, other, wait_s=0)
        assert await reason_of(asked) == Reason.EXECUTION_NOT_FOUND
        assert not executions.cancel(begun.execution_id, other)
    assert not begun.is_done


async def test_callbacks_are_answered_in_any_order(executions):
    """Two things are asked at once; each gets its own answer, and is told only once."""

    async def body(execution):
        answers = await asyncio.gather(
            execution.ask(FUNCTION, "double", {"n": 2}, "a"),
            execution.ask(TOOL, "calculator", {"n": 3}, "b"),
        )
        return execution_pb2.AgentOutput(text=repr(answers))

    begun = executions.begin(ACME, body)
    await asyncio.sleep(0)
    first = await executions.progress(begun.execution_id, ACME, wait_s=5)
    assert [(one.name, one.kind, one.path) for one in first.callbacks] == [
        ("double", FUNCTION, "a"),
        ("calculator", TOOL, "b"),
    ]
    ids = {one.name: one.callback_id for one in first.callbacks}
    executions.answer(begun.execution_id, ACME, [result(ids["calculator"], 9)])
    again = await executions.progress(begun.execution_id, ACME, wait_s=0.01)
    assert [one.name for one in again.callbacks] == ["double"]
    executions.answer(begun.execution_id, ACME, [result(ids["double"], 4)])
    last = await executions.progress(begun.execution_id, ACME, wait_s=5)
    assert last.agent.text == "[4, 9]"


async def test_a_callback_that_is_not_there_is_named(executions):
    """An id of no callback is refused, and then none of the results is taken; an old one is not."""

    async def body(execution):
        first = await execution.ask(FUNCTION, "f", {}, "")
        second = await execution.ask(FUNCTION, "f", {}, "")
        return execution_pb2.AgentOutput(text=f"{first}{second}")

    begun = executions.begin(ACME, body)
    await executions.progress(begun.execution_id, ACME, wait_s=5)
    with pytest.raises(ServiceError) as raised:
        executions.answer(begun.execution_id, ACME, [result("c1", "x"), result("c7", "y")])
    assert raised.value.reason == Reason.CALLBACK_NOT_FOUND
    assert raised.value.metadata == {"callback_id": "c7"}
    executions.answer(begun.execution_id, ACME, [result("c1", "p"), result("c1", "twice")])
    await executions.progress(begun.execution_id, ACME, wait_s=5)
    executions.answer(begun.execution_id, ACME, [result("c1", "late"), result("c2", "q")])
    progress = await executions.progress(begun.execution_id, ACME, wait_s=5)
    assert progress.agent.text == "pq"


async def test_a_callers_failure_is_raised_where_it_was_asked(executions):
    """With its reason where that is one of ours, else as what a script raised."""
    told = []

    async def body(execution):
        for _ in range(2):
            try:
                await execution.ask(FUNCTION, "f", {}, "")
            except ServiceError as error:
                told.append((error.reason, error.message, error.metadata))
        return execution_pb2.AgentOutput()

    begun = executions.begin(ACME, body)
    failures = [
        execution_pb2.ExecutionFailure(reason="TOOL_FAILED", message="no", metadata={"tool": "x"}),
        execution_pb2.ExecutionFailure(message="attempt to index nil"),
    ]
    for number, failure in enumerate(failures, start=1):
        await executions.progress(begun.execution_id, ACME, wait_s=5)
        answer = execution_pb2.CallbackResult(callback_id=f"c{number}", failure=failure)
        executions.answer(begun.execution_id, ACME, [answer])
    await executions.progress(begun.execution_id, ACME, wait_s=5)
    assert told == [
        (Reason.TOOL_FAILED, "no", {"tool": "x"}),
        (Reason.SCRIPT_FAILED, "attempt to index nil", {}),
    ]


async def test_events_come_in_order_before_the_end(executions):
    """Text that nobody fetched in between is one piece; the output comes after the last event."""

    async def body(execution):
        for piece in ("he", "llo"):
            execution.tell(text_event(piece))
        execution.tell(text_event("other", path="b"))
        return execution_pb2.AgentOutput(text="end")

    begun = executions.begin(ACME, body)
    begun.keeps_events = True
    seen = [one async for one in executions.stream(begun.execution_id, ACME)]
    events = [event for progress in seen for event in progress.events]
    assert [(event.number, event.text) for event in events] == [(1, "hello"), (2, "other")]
    assert [progress.done for progress in seen][-1]
    assert all(event.time.seconds for event in events)


async def test_what_nobody_fetches_is_bounded(executions):
    """An agent that tells for ever fills no memory; a gap in the numbers tells of what went."""
    piece = "x" * 100_000

    async def body(execution):
        for number in range(100):
            execution.tell(text_event(piece, path=str(number)))
        return execution_pb2.AgentOutput()

    begun = executions.begin(ACME, body)
    begun.keeps_events = True
    seen = [one async for one in executions.stream(begun.execution_id, ACME)]
    size = sum(progress.ByteSize() for progress in seen)
    assert 1_000_000 < size < EXECUTION_EVENTS_BYTES_MAX + 10_000
    assert max(progress.ByteSize() for progress in seen) < 400_000


async def test_events_are_not_kept_for_who_wants_none(executions):
    """Without somebody who asks for events there are none."""

    async def body(execution):
        execution.tell(text_event("x"))
        return execution_pb2.AgentOutput()

    begun = executions.begin(ACME, body)
    progress = await executions.progress(begun.execution_id, ACME, wait_s=5)
    assert (progress.done, len(progress.events)) == (True, 0)


async def test_a_failure_is_raised_to_who_asks_and_again(executions):
    """What the body raises is what the caller is told, each time."""

    async def body(execution):
        del execution
        raise ServiceError(Reason.AGENT_TURN_LIMIT, "Too often.", limit=3)

    begun = executions.begin(ACME, body)
    for _ in range(2):
        asked = executions.progress(begun.execution_id, ACME, wait_s=5)
        assert await reason_of(asked) == Reason.AGENT_TURN_LIMIT


async def test_of_one_that_has_ended_little_is_kept(executions):
    """Its output's bytes for ten minutes, and not the message nor the task with all it has seen."""
    begun = executions.begin(ACME, says("hello"), request_id="r")
    await executions.progress(begun.execution_id, ACME, wait_s=5)
    assert begun.task is None
    assert isinstance(begun._told, bytes)


async def test_the_same_request_is_the_same_execution(executions):
    """Of the same owner; of another it is another. One that was cancelled is begun anew."""
    first = executions.begin(ACME, says("one"), request_id="r")
    await executions.progress(first.execution_id, ACME, wait_s=5)
    assert executions.begin(ACME, says("two"), request_id="r") is first
    other = executions.begin(RIVAL, waits, request_id="r")
    assert other is not first
    assert executions.cancel(other.execution_id, RIVAL)
    asked = executions.progress(other.execution_id, RIVAL, wait_s=5)
    assert await reason_of(asked) == Reason.CANCELLED
    assert executions.begin(RIVAL, says("anew"), request_id="r") is not other


async def test_a_failure_is_remembered_for_its_request(executions, monkeypatch):
    """Whoever repeats the request is told the same failure, for as long as an output is kept."""
    monkeypatch.setattr(module, "EXECUTION_GRACE_SECONDS", 0.01)

    async def body(execution):
        del execution
        raise ServiceError(Reason.AGENT_TURN_LIMIT, "Too often.")

    first = executions.begin(ACME, body, request_id="r")
    asked = executions.progress(first.execution_id, ACME, wait_s=5, ends_with_caller=True)
    assert await reason_of(asked) == Reason.AGENT_TURN_LIMIT
    await asyncio.sleep(0.05)
    assert executions.begin(ACME, body, request_id="r") is first


@pytest.mark.parametrize("has_begun", [True, False])
async def test_what_found_nobody_is_begun_anew(executions, has_begun):
    """An outage before anything was done is no last word; one afterwards is."""

    async def away(execution):
        execution.has_begun = has_begun
        raise ServiceError(Reason.SERVICE_UNAVAILABLE, "No state process serves at the moment.")

    first = executions.begin(ACME, away, request_id="r")
    asked = executions.progress(first.execution_id, ACME, wait_s=5)
    assert await reason_of(asked) == Reason.SERVICE_UNAVAILABLE
    assert (executions.begin(ACME, says("well"), request_id="r") is first) == has_begun


async def test_what_is_kept_elsewhere_is_begun_anew_where_it_failed(executions):
    """A workflow that could not begin since state was away must not be refused for ten minutes."""

    async def away(execution):
        del execution
        raise ServiceError(Reason.SERVICE_UNAVAILABLE, "No state process serves at the moment.")

    how = {"request_id": "r", "execution_id": "wf_1", "stays": True}
    first = executions.begin(ACME, away, **how)
    asked = executions.progress(first.execution_id, ACME, wait_s=5)
    assert await reason_of(asked) == Reason.SERVICE_UNAVAILABLE
    again = executions.begin(ACME, says("well"), **how)
    progress = await executions.progress(again.execution_id, ACME, wait_s=5)
    assert (progress.done, progress.agent.text) == (True, "well")
    assert executions.begin(ACME, away, **how) is again


async def test_a_caller_who_goes_away_ends_it(executions):
    """The task is cancelled with the call that waits for it, unless that only polls."""
    ended = asyncio.Event()

    async def body(execution):
        del execution
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    begun = executions.begin(ACME, body)
    await asyncio.sleep(0)
    polling = asyncio.create_task(executions.progress(begun.execution_id, ACME, wait_s=60))
    await asyncio.sleep(0)
    polling.cancel()
    await asyncio.sleep(0.01)
    assert not ended.is_set()
    waiting = asyncio.create_task(
        executions.progress(begun.execution_id, ACME, wait_s=60, ends_with_caller=True)
    )
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_run_that_ends_takes_its_own_with_it(executions):
    """And no other run's, nor what the same key began outside of a run."""
    mine = executions.begin(Owner("acme", "key-1", "run_1"), waits)
    others = [executions.begin(ACME, waits), executions.begin(Owner("acme", "k", "run_2"), waits)]
    executions.end_run("run_1")
    await asyncio.sleep(0.01)
    assert mine.is_done
    assert not any(other.is_done for other in others)


async def test_a_tenant_that_is_emptied_has_nothing_that_goes_on(executions):
    """What goes on is ended, what is kept is forgotten; another tenant's is not."""
    goes_on = executions.begin(ACME, waits)
    ended = executions.begin(ACME, says("kept"), request_id="r")
    theirs = executions.begin(RIVAL, waits)
    await executions.progress(ended.execution_id, ACME, wait_s=5)
    executions.end_tenant("acme")
    await asyncio.sleep(0.01)
    assert (goes_on.is_done, theirs.is_done) == (True, False)
    asked = executions.progress(ended.execution_id, ACME, wait_s=0)
    assert await reason_of(asked) == Reason.EXECUTION_NOT_FOUND


async def test_what_nobody_asks_for_is_let_go():
    """An execution that is left alone is cancelled, and then forgotten."""
    executions = Executions(idle_s=0.05)
    begun = executions.begin(ACME, waits)
    await asyncio.sleep(0.1)
    assert begun.is_done
    await asyncio.sleep(0.1)
    asked = executions.progress(begun.execution_id, ACME, wait_s=0)
    assert await reason_of(asked) == Reason.EXECUTION_NOT_FOUND
    await executions.close()


async def test_an_execution_of_a_script_is_there_as_long_as_its_run():
    """A function of the script may take its time; the run's end is the execution's."""
    executions = Executions(idle_s=0.05)
    begun = executions.begin(Owner("acme", "key-1", "run_1"), waits)
    await asyncio.sleep(0.15)
    assert not begun.is_done
    executions.end_run("run_1")
    await asyncio.sleep(0.01)
    assert begun.is_done
    await executions.close()


async def test_one_tenants_waiting_calls_leave_room(executions, monkeypatch):
    """One more than it may have is refused; another tenant's is not."""
    monkeypatch.setattr(module, "EXECUTIONS_HEARD_PER_TENANT_MAX", 1)
    mine = executions.begin(ACME, waits)
    theirs = executions.begin(RIVAL, waits)
    waiting = asyncio.create_task(executions.progress(mine.execution_id, ACME, wait_s=60))
    await asyncio.sleep(0)
    asked = executions.progress(mine.execution_id, ACME, wait_s=0)
    assert await reason_of(asked) == Reason.TENANT_LIMIT_REACHED
    assert not (await executions.progress(theirs.execution_id, RIVAL, wait_s=0.01)).done
    third = executions.begin(ACME, waits)
    asked = executions.progress(third.execution_id, ACME, wait_s=9, ends_with_caller=True)
    assert await reason_of(asked) == Reason.TENANT_LIMIT_REACHED
    await asyncio.sleep(0.01)
    assert third.is_done
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not (await executions.progress(mine.execution_id, ACME, wait_s=0.01)).done


async def test_events_are_gathered_until_there_is_something_to_do(executions):
    """Many pieces come in one answer; a callback, or the end, is told at once."""

    async def body(execution):
        for piece in "abc":
            execution.tell(text_event(piece))
            execution.tell(text_event(piece, "other"))
            await asyncio.sleep(0.02)
        await execution.ask(FUNCTION, "f", {}, "a")
        return execution_pb2.AgentOutput(text="done")

    begun = executions.begin(ACME, body)
    begun.keeps_events = True
    ask = {"wait_s": 5, "with_events": True, "gather_s": 5}
    began = asyncio.get_running_loop().time()
    progress = await executions.progress(begun.execution_id, ACME, **ask)
    assert asyncio.get_running_loop().time() - began < 4.5
    assert "".join(event.text for event in progress.events) == "aabbcc"
    assert [each.name for each in progress.callbacks] == ["f"]
    executions.answer(begun.execution_id, ACME, [result("c1", 1)])
    assert (await executions.progress(begun.execution_id, ACME, **ask)).done


async def test_one_that_waits_for_its_caller_is_given_time():
    """A function may take longer than it may be left alone otherwise."""
    executions = Executions(idle_s=0.05)

    async def body(execution):
        await execution.ask(FUNCTION, "f", {}, "a")
        return execution_pb2.AgentOutput(text="done")

    begun = executions.begin(ACME, body)
    await executions.progress(begun.execution_id, ACME, wait_s=5)
    await asyncio.sleep(0.15)
    executions.answer(begun.execution_id, ACME, [result("c1", 1)])
    assert (await executions.progress(begun.execution_id, ACME, wait_s=5)).done
    await executions.close()


async def test_who_waits_keeps_it_alive():
    """However long: only the time without a caller counts."""
    executions = Executions(idle_s=0.05)
    begun = executions.begin(ACME, waits)
    progress = await executions.progress(begun.execution_id, ACME, wait_s=0.2)
    assert not progress.done
    assert not begun.is_done
    await executions.close()


async def test_kept_outputs_are_bounded(executions, monkeypatch):
    """The oldest output goes when all together take too much."""
    monkeypatch.setattr(module, "EXECUTIONS_KEPT_BYTES_MAX", 10_000)
    begun = [executions.begin(ACME, says("x" * 4000), request_id=str(n)) for n in range(3)]
    await asyncio.sleep(0.01)
    asked = executions.progress(begun[0].execution_id, ACME, wait_s=0)
    assert await reason_of(asked) == Reason.EXECUTION_NOT_FOUND
    assert (await executions.progress(begun[2].execution_id, ACME, wait_s=0)).done


async def test_a_tenant_has_only_so_many(executions, monkeypatch):
    """One more is refused; another tenant's is not."""
    monkeypatch.setattr(module, "EXECUTIONS_PER_TENANT_MAX", 2)
    for _ in range(2):
        executions.begin(ACME, waits)
    with pytest.raises(ServiceError) as raised:
        executions.begin(ACME, waits)
    assert raised.value.reason == Reason.TENANT_LIMIT_REACHED
    executions.begin(RIVAL, waits)


async def test_one_that_is_cancelled_before_it_began_has_ended(executions):
    """However early: whoever asks is told, and its place is free."""
    begun = executions.begin(ACME, waits)
    assert executions.cancel(begun.execution_id, ACME)
    asked = executions.progress(begun.execution_id, ACME, wait_s=5)
    assert await reason_of(asked) == Reason.CANCELLED
    assert not executions.cancel(begun.execution_id, ACME)


async def test_one_that_stays_goes_on_unless_it_waits_for_its_caller():
    """A workflow is not ended since nobody asks; one that needs its caller is."""
    executions = Executions(idle_s=0.05)

    async def asks(execution):
        return await execution.ask(FUNCTION, "f", {}, "a")

    alone = executions.begin(ACME, waits, stays=True, execution_id="wf_1")
    needing = executions.begin(ACME, asks, stays=True)
    leaving = asyncio.create_task(
        executions.progress("wf_1", ACME, wait_s=5, ends_with_caller=True)
    )
    await asyncio.sleep(0.02)
    leaving.cancel()
    await asyncio.sleep(0.3)
    assert not alone.is_done
    assert needing.is_done
    executions.end_run("")
    await asyncio.gather(alone.task, return_exceptions=True)
    assert alone.is_done
    await executions.close()
