"""Attacks of our own against the real runtime, while a neighbour goes about its work."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest
from llmspell.v1 import script_pb2

from tests.integration.attacks import HELD, Caller, Outcome, corpus

AT_ONCE = 12
SECRET = "the-neighbour-s-own-secret-7f3a"
PLANT = f"""
State.set("secret", "{SECRET}")
local session, artifact = Session.create("private"), Artifact.store("", "note", "n", "{SECRET}")
return {{
  session = type(session) == "table" and session.id or session,
  artifact = artifact.content_hash,
}}
"""
NEIGHBOUR = f"""
State.set("count", (State.get("count") or 0) + 1)
assert(State.get("secret") == "{SECRET}")
assert(RESIDUE == nil and string.residue == nil and State.residue == nil)
assert(getmetatable(_G) == nil and getmetatable(string) == nil)
return "well"
"""
LOOK_FOR_RESIDUE = """
local names = {}
for _, t in ipairs{_G, string, table, math, os, State} do
  for name in pairs(t) do
    if tostring(name):lower():find("residue") then names[#names + 1] = name end
  end
  if getmetatable(t) then names[#names + 1] = "a metatable" end
end
return {names, math.random(1 << 60)}
"""
ATTACKS = corpus()
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclasses.dataclass
class Storm:
    """What came of everything."""

    outcomes: dict[str, Outcome]
    neighbour: list[Outcome]
    after: list[Outcome]
    before_mib: dict[int, float]
    after_mib: dict[int, float]
    descriptors: tuple[int, int]
    children: list[str]


SPIN = "while true do end"
FILL = "local t = {} for i = 1, 1e12 do t[i] = {} end"
CRASH = "while true do State.get('k') end"
"""Its process is killed from outside, as the kernel would."""
WAITS_MAX = 40
"""Of any script here that does not call without end."""
SCRIPTS = int(os.environ.get("LLMSPELL_ATTACK_SCRIPTS", "200"))


@pytest.fixture(scope="module")
def storm(deployment):
    """Every attack, many at once, beside a neighbour; then two plain runs in the same second."""
    for tenant in ("mallory", "victim"):
        deployment.tenant(tenant)
    return asyncio.run(_storm(deployment))


async def _storm(deployment):
    runtime = deployment.pid("runtime")
    mallory = Caller(deployment.address, deployment.keys["mallory"])
    victim = Caller(deployment.address, deployment.keys["victim"])
    try:
        planted = json.loads((await victim.run(PLANT)).reason)
        await mallory.run("State.get('k')")  # so that all that is made once is there
        before_mib, descriptors = _memory(runtime), _descriptors(runtime)
        neighbour, done = [], asyncio.Event()
        working = asyncio.create_task(_neighbour(victim, neighbour, done))
        outcomes = await _attack_all(mallory, planted)
        done.set()
        await working
        after = await asyncio.gather(*(mallory.run(LOOK_FOR_RESIDUE) for _ in range(2)))
        return Storm(
            outcomes,
            neighbour,
            list(after),
            before_mib,
            _memory(runtime),
            (descriptors, await _settled(runtime, descriptors)),
            await _zombies(runtime),
        )
    finally:
        await mallory.close()
        await victim.close()


async def _attack_all(mallory, arguments):
    places = asyncio.Semaphore(AT_ONCE)
    outcomes = {}

    async def one(attack):
        async with places:
            outcomes[attack.name] = await mallory.attack(attack, arguments)

    await asyncio.gather(*(one(attack) for attack in ATTACKS))
    return outcomes


async def _neighbour(victim, outcomes, done):
    while not done.is_set():
        outcomes.append(await victim.run(NEIGHBOUR))


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _memory(runtime):
    """Of the runtime and its zygotes."""
    return {
        pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MIB
        for pid in (runtime, *_children(runtime))
    }


def _descriptors(runtime):
    return len(list(Path(f"/proc/{runtime}/fd").iterdir()))


async def _settled(runtime, most):
    """How many descriptors there are, once those of the last runs are let go."""
    deadline = time.monotonic() + 10
    while _descriptors(runtime) > most and time.monotonic() < deadline:  # noqa: ASYNC110 - another process's
        await asyncio.sleep(0.1)
    return _descriptors(runtime)


def _workers(runtime):
    """Process id and state of every child of a zygote."""
    for zygote in _children(runtime):
        for pid in _children(zygote):
            with contextlib.suppress(OSError):
                yield pid, Path(f"/proc/{pid}/status").read_text()


async def _zombies(runtime):
    """Dead processes that nobody reaps; one that died this moment is given some time."""
    dead = {pid for pid, status in _workers(runtime) if "\nState:\tZ" in status}
    deadline = time.monotonic() + 10
    while dead and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        dead &= {pid for pid, status in _workers(runtime) if "\nState:\tZ" in status}
    return sorted(dead)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_contained(storm, attack):
    """It ends with its own reason, tells nothing of a neighbour, and prints within its limit."""
    outcome = storm.outcomes[attack.name]
    assert outcome.reason in attack.expects, outcome
    assert attack.message in outcome.message
    assert SECRET not in str(outcome)
    assert len(outcome.output) <= 64 * 1024
    assert len(outcome.message) <= 2048
    if outcome.reason.startswith("RUN_"):
        assert outcome.metadata["limit"]


def test_there_are_enough_of_them():
    """The corpus is not thinned out unseen, and names what it expects."""
    assert len(ATTACKS) >= 120
    known = {"RUN_TIME_LIMIT", "RUN_MEMORY_LIMIT", "RUN_OUTPUT_LIMIT", "RUN_CALL_LIMIT"}
    known |= {"SCRIPT_FAILED", "SCRIPT_SYNTAX", "FIELD_INVALID", HELD, "null"}
    assert {word for attack in ATTACKS for word in attack.expects} == known


def test_the_neighbour_noticed_nothing(storm):
    """Every one of its runs ended well, on its own data."""
    assert len(storm.neighbour) > 20
    assert {outcome.reason for outcome in storm.neighbour} == {"well"}


def test_no_residue_in_the_next_run(storm):
    """Two runs in one second find nothing of what was before them, nor of each other."""
    told = [outcome.reason for outcome in storm.after]
    assert told[0].startswith("[{}, ")
    assert told[0] != told[1]


def test_memory_returns(storm):
    """Neither runtime nor zygote has grown by what the attacks took, or by anything like it."""
    assert set(storm.after_mib) == set(storm.before_mib)  # no zygote was lost
    for pid, before in storm.before_mib.items():
        assert storm.after_mib[pid] < before + 48


def test_nothing_is_left_behind(storm):
    """No descriptor, no dead process that nobody reaped."""
    before, after = storm.descriptors
    assert after <= before
    assert storm.children == []


def test_hundreds_of_bad_scripts_at_once(deployment, storm):
    """A third spin, a third fill memory, a third lose their process; controls are answered."""
    tenants = [deployment.tenant(f"horde-{number}") for number in range(3)]
    kinds, controls, left = asyncio.run(_horde(deployment, tenants))
    assert kinds.keys() == {"RUN_TIME_LIMIT", "RUN_MEMORY_LIMIT", "RUN_WORKER_LOST"}, kinds
    assert controls.keys() == {"well"}, controls
    assert left == []


async def _horde(deployment, tenants):
    runtime = deployment.pid("runtime")
    descriptors = _descriptors(runtime)
    callers = [Caller(deployment.address, deployment.keys[tenant]) for tenant in tenants]
    victim = Caller(deployment.address, deployment.keys["victim"])
    controls, done = [], asyncio.Event()
    working = asyncio.create_task(_neighbour(victim, controls, done))
    killing = asyncio.create_task(_kill_callers(runtime, done))
    limits = script_pb2.RunLimits(memory_bytes=8 * 2**20)
    limits.wall_time.FromMilliseconds(600)
    try:
        jobs = [
            callers[number % 3].run((SPIN, FILL, CRASH)[number // 3 % 3], limits)
            for number in range(SCRIPTS)
        ]
        outcomes = await asyncio.gather(*jobs)
        done.set()
        await asyncio.gather(working, killing)
        assert await _settled(runtime, descriptors) <= descriptors
        assert (await callers[0].run("return 'alive'")).reason == "alive"
    finally:
        for caller in (*callers, victim):
            await caller.close()
    left = await _zombies(runtime)
    assert len(controls) > 5
    return _messages(outcomes), _messages(controls), left


def _messages(outcomes):
    """One message of each reason, to be shown where an unexpected one is among them."""
    return {outcome.reason: outcome.message for outcome in outcomes}


async def _kill_callers(runtime, done):
    """Kill the processes of scripts that call without end: only they have waited that often."""
    while not done.is_set():
        for pid, status in _workers(runtime):
            if int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) > WAITS_MAX:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)
