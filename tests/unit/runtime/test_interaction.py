"""An interactive run: pieces, questions, interrupts, and its end."""

import asyncio
import contextlib

import pytest
import pytest_asyncio

from services.common import limits
from services.common.errors import ServiceError, reason_name
from services.runtime import interaction
from services.runtime.interaction import Interrupt, Piece, Question, interact
from services.runtime.pool import TurnLimits, WorkerPool
from services.runtime.runs import Output, Result, RunLimits, RunSpec
from services.runtime.told import Answer
from services.runtime.turns import Turns
from tests.unit.runtime.running import Host

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        made.talks = Turns(TurnLimits(100, 100))  # not every test closes its own
        yield made


class Talk:
    """The caller's side of an interactive run."""

    def __init__(self, pool, call=None, **limits):
        self.inputs = asyncio.Queue()
        spec = RunSpec("", "repl", limits=RunLimits(**({"wall_s": 20.0} | limits)))
        self.events = interact(pool, spec, self._inputs(), call or Host())

    async def _inputs(self):
        while (given := await self.inputs.get()) is not None:
            yield given

    async def ask(self, given, meanwhile=None):
        """What was printed, and the answer."""
        if given is not None:
            await self.inputs.put(given)
        task = asyncio.ensure_future(self._answer())
        if meanwhile is not None:
            await asyncio.sleep(0.3)
            await self.inputs.put(meanwhile)
        return await task

    async def _answer(self):
        printed = b""
        async for event in self.events:
            if isinstance(event, Output):
                printed += event.data
            elif isinstance(event, Answer | Result):
                return printed, event
        raise AssertionError("the run ended")

    async def text(self, source):
        """The values that a piece gave."""
        _, answer = await self.ask(Piece(source))
        assert answer.kind == "done", answer
        return answer.text


@pytest_asyncio.fixture(loop_scope="module")
async def talk(pool):
    talk = Talk(pool)
    async with contextlib.aclosing(talk.events):
        yield talk


async def test_what_a_piece_leaves_is_there_for_the_next(talk):
    """Globals, functions and changes of tables; locals are the piece's own."""
    assert await talk.text("x = 5; function double(n) return 2 * n end local y = 1") == ""
    assert await talk.text("double(x)") == "10"
    assert (
        await talk.text("= _ + 1, y, 'a\\n', {x, n = 1}") == '11\tnil\t"a\\n"\t{\n  5,\n  n = 1,\n}'
    )
    printed, answer = await talk.ask(Piece("for i = 1, 2 do print(i) end"))
    assert (printed, answer) == (b"1\n2\n", Answer("done"))


async def test_a_piece_that_is_not_whole_is_told_from_a_wrong_one(talk):
    """The first may be gone on with."""
    for text, kind in (
        ("for i = 1, 2 do", "unfinished"),
        ("x = = 1", "failed"),
        ("x =", "unfinished"),
    ):
        assert (await talk.ask(Piece(text)))[1].kind == kind
    for text, kind in (("f(", "unfinished"), ("f()", "finished"), ("x = = 1", "finished")):
        assert (await talk.ask(Question(text, about_names=False)))[1].kind == kind


async def test_an_error_names_its_line_and_the_run_goes_on(talk):
    """Of the piece, with the functions that were running."""
    _, answer = await talk.ask(Piece("local function f()\n  error('no')\nend\nf()"))
    assert (answer.kind, answer.line, answer.message) == ("failed", 2, "input 1:2: no")
    assert "in local 'f'" in answer.traceback
    _, answer = await talk.ask(Piece("x = = 1"))
    assert (answer.reason, answer.line) == ("SCRIPT_SYNTAX", 1)
    _, answer = await talk.ask(Piece("RAG.search()"))
    assert answer.reason == "FIELD_REQUIRED"
    assert await talk.text("1 + 1") == "2"


async def test_names_are_completed(talk):
    """Globals, fields, methods, and those of what the script has made; no code of it runs."""
    await talk.text(
        "mine = {field = {}, other = 1} stream = Streaming.create({}) s = 'x' "
        "loud = setmetatable({}, {__index = function() error('ran') end})"
    )
    for text, names in (
        ("Stat", ["State"]),
        ("x = mine.", ["field", "other"]),
        ("State.get_m", ["get_migration_status"]),
        ("print(stream:is", ["isDone"]),
        ("s:up", ["upper"]),
        ("loud.x", []),
        ("nothing.here.at", []),
        ("math.ma", ["max", "maxinteger"]),
    ):
        _, answer = await talk.ask(Question(text, about_names=True))
        assert (answer.kind, list(answer.names)) == ("names", names), text


@pytest.mark.parametrize(
    "source",
    ["while true do end", "while true do pcall(function() while true do end end) end", "f()"],
)
async def test_an_interrupt_ends_a_piece_and_keeps_the_rest(talk, source):
    """Also one that catches errors in its loop, unless it catches each and all."""
    await talk.text("kept = 7; function f() return f() end")
    _, answer = await talk.ask(Piece(source), meanwhile=Interrupt())
    assert (answer.kind, answer.message) == ("failed", "interrupted")
    assert await talk.text("kept") == "7"


async def test_an_interrupt_ends_a_call(pool):
    """The script is told that it was cancelled."""

    async def slow(call):
        await asyncio.sleep(30)

    talk = Talk(pool, slow)
    async with contextlib.aclosing(talk.events):
        _, answer = await talk.ask(Piece("State.get('k')"), meanwhile=Interrupt())
        assert (answer.kind, answer.reason) == ("failed", "CANCELLED")
        assert await talk.text("1") == "1"


async def test_a_piece_that_heeds_no_interrupt_is_killed(pool, monkeypatch):
    """Its worker with it, so the run is over."""
    monkeypatch.setattr(interaction, "INTERRUPT_SECONDS", 0.3)
    talk = Talk(pool)
    async with contextlib.aclosing(talk.events):
        with pytest.raises(ServiceError) as caught:
            await talk.ask(Piece("('x'):rep(100000):find(('.-'):rep(30) .. 'y')"), Interrupt())
    assert reason_name(caught.value.reason) == "RUN_WORKER_LOST"


async def test_a_piece_that_takes_too_long_is_interrupted(pool):
    """By itself, with the limit named; the next one has its own time."""
    talk = Talk(pool, wall_s=0.3)
    async with contextlib.aclosing(talk.events):
        _, answer = await talk.ask(Piece("while true do end"))
        assert (answer.kind, answer.reason) == ("failed", "RUN_TIME_LIMIT")
        assert "0.3 s" in answer.message
        assert await talk.text("1") == "1"


async def test_each_piece_may_print_and_call_anew(pool):
    """The limits are those of a piece; one that passes them ends the run."""
    talk = Talk(pool, output_bytes=100, calls_max=2)
    async with contextlib.aclosing(talk.events):
        for _ in range(3):
            await talk.text("io.write(('x'):rep(90)) State.get('a') State.get('b')")
        with pytest.raises(ServiceError) as caught:
            await talk.text("io.write(('x'):rep(101))")
    assert reason_name(caught.value.reason) == "RUN_OUTPUT_LIMIT"


async def test_the_script_and_the_caller_may_end_it(pool):
    """os.exit gives a result; no more inputs just end it."""
    talk = Talk(pool)
    async with contextlib.aclosing(talk.events):
        assert isinstance((await talk.ask(Piece("os.exit()")))[1], Result)
    talk = Talk(pool)
    await talk.inputs.put(Piece("1"))
    await talk.inputs.put(None)
    assert [event.kind async for event in talk.events] == ["done"]


async def test_it_ends_when_nobody_asks(pool, monkeypatch):
    """A place among the runs is not held for ever."""
    monkeypatch.setattr(limits, "INTERACT_IDLE_SECONDS", 0.2)
    talk = Talk(pool)
    with pytest.raises(ServiceError, match=r"Nothing was asked of the run for 0\.2 s"):
        async for _ in talk.events:
            pass


async def test_a_full_memory_ends_the_piece_only(pool):
    """What it had made is collected."""
    talk = Talk(pool, memory_bytes=8 << 20)
    async with contextlib.aclosing(talk.events):
        _, answer = await talk.ask(
            Piece("local t = {} while true do t[#t + 1] = ('x'):rep(1000) end")
        )
        assert answer.message == "not enough memory"
        assert await talk.text("1") == "1"


async def test_a_prompt_that_waits_for_people_holds_no_run_s_place():
    """Its own places are few, refused at once where they are taken; runs have all of theirs."""
    async with WorkerPool() as pool:
        talks = [Talk(pool) for _ in range(limits.TENANT_INTERACT_AT_ONCE)]
        for talk in talks:
            assert await talk.text("return 1") == "1"
        assert pool.turns.running == 0
        with pytest.raises(ServiceError) as caught:
            await Talk(pool).text("return 1")
        assert reason_name(caught.value.reason) == "RUN_QUEUE_FULL"
        assert caught.value.message.startswith("No place is free")
        for talk in talks:
            await talk.events.aclose()
