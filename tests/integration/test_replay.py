"""Runs that leave a journal: made again, gone on with, listed, kept apart."""

import contextlib
import json
import re
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from llmspell import Client, FailedPrecondition, LLMSpellError, NotFound
from llmspell.types import (
    JournalEntry,
    Modification,
    ReplayReport,
    RunOutput,
    RunResult,
)
from llmspell.v1 import run_pb2

from tests.integration.replay_scripts import SCRIPTS

PROCESSES = ("gateway", "runtime", "vector", "state")
COUNTS = """
local n = State.load("custom:counts", "n") or 0
print("n is", n)
State.save("custom:counts", "n", n + 1)
if n > 40 then
  print(State.load("custom:counts", "other"))
  State.save("custom:counts", "other", 1)
end
return State.load("custom:counts", "n")
"""


@contextlib.contextmanager
def clients(up, *tenants):
    """A client for each tenant."""
    with contextlib.ExitStack() as stack:
        names = [up.tenant(tenant) for tenant in tenants]
        yield [stack.enter_context(Client(up.address, up.keys[name])) for name in names]


def run(client, source, **how):
    """Run a script; its id, what it printed, its result or its failure."""
    run_id, printed, ended = "", bytearray(), None
    try:
        for event in client.run(source, **how):
            run_id = run_id or event.run_id
            if isinstance(event, RunOutput):
                printed += event.data
            elif isinstance(event, RunResult):
                ended = event.value
    except LLMSpellError as error:
        ended = error
    return run_id, bytes(printed), ended


def replay(client, run_id, **how):
    """Make a run again; what it printed, and the report."""
    *events, report = client.replay_run(run_id, **how)
    assert isinstance(report, ReplayReport)
    return b"".join(each.data for each in events if isinstance(each, RunOutput)), report


def forged(client, run_id, new_id, change):
    """The journal of a run once more, under another id and changed."""
    client.get_run(run_id)
    entries = [change(entry) for entry in client.read_journal(run_id)]
    kept = [entry for entry in entries if entry is not None]
    numbered = [replace(entry, sequence=at) for at, entry in enumerate(kept, start=1)]
    client.append_journal(new_id, numbered)
    return new_id


def killed_and_back(up):
    """End all four processes, and wait until they serve again."""
    pids = {name: up.pid(name) for name in PROCESSES}
    for name in PROCESSES:
        up.kill(name)
    deadline = time.monotonic() + 60
    with Client(up.address, up.operator_key) as operator:
        while True:
            with contextlib.suppress(LLMSpellError, OSError, KeyError, ValueError):
                new = {name: up.pid(name) for name in PROCESSES}
                serving = [each.name for each in operator.processes() if each.status == "SERVING"]
                if not set(new.values()) & set(pids.values()) and len(serving) == len(PROCESSES):
                    return
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_fifty_scripts_come_out_the_same_after_a_restart(deployment):
    """Every script is made again byte for byte once all four processes are new ones."""
    assert len(SCRIPTS) >= 50
    with clients(deployment, "replayed") as (client,):
        session = client.create_session("fifty").session_id
        made, unexpected = {}, {}
        for name, source in SCRIPTS.items():
            named = {"scope": f"custom:{name}", "b": "1", "a": "2", "z": "3"}
            how = {"named": named, "args": ["one", "two"], "session": session}
            made[name] = run(client, source, name=f"{name}.lua", **how)
            failed = isinstance(made[name][2], LLMSpellError)
            unexpected |= {name: made[name]} if failed != name.endswith("_fails") else {}
        assert unexpected == {}
        for run_id, _, _ in made.values():  # it answers once the run's end is on disk
            assert client.get_run(run_id).status in {"succeeded", "failed"}
        killed_and_back(deployment)
        different = {}
        for name, (run_id, printed, _) in made.items():
            again, report = replay(client, run_id)
            if again != printed or not report.identical:
                different[name] = report
        assert different == {}
        reports = client.replay_session(session)
        assert [each.run_id for each in reports] == [run_id for run_id, _, _ in made.values()]
        assert all(each.identical for each in reports)


def test_a_replay_writes_nothing_in_any_mode(deployment):
    """Simulated with another answer the script reads what is new, and each write is refused."""
    with clients(deployment, "modes") as (client,):
        run_id, printed, value = run(client, COUNTS, journal=True)
        assert (printed, value) == (b"n is\t0\n", 1)
        more = Modification(call_number=1, answer={"item": {"value": {"json": "41"}}})
        printed, report = replay(client, run_id, mode="modified", modifications=[more])
        assert printed.startswith(b"n is\t41\n")
        assert (report.reason, report.identical) == ("SCRIPT_FAILED", False)
        assert "REPLAY_WRITES_NOTHING" in report.message
        assert (report.difference.what, report.difference.output_offset) == ("output", 5)
        assert (report.asked_count, report.refused_count) == (0, 1)
        caught = COUNTS.replace("State.save(", "pcall(State.save, ")
        run_id, _, _ = run(client, caught, journal=True)
        part = Modification(method="GetState", path="item.value.json", answer="50")
        printed, report = replay(client, run_id, mode="modified", modifications=[part])
        assert printed == b"n is\t50\nnil\n"
        assert (report.value, report.asked_count, report.refused_count) == (50, 1, 2)
        fails = Modification(call_number=1, reason="TENANT_RESTORING")
        _, report = replay(client, run_id, mode="modified", modifications=[fails])
        assert "TENANT_RESTORING" in report.message
        printed, report = replay(client, run_id, mode="simulate")
        assert (printed, report.identical, report.value) == (b"n is\t1\n", True, 2)
        _, report = replay(client, run_id, mode="debug", stop_at_call=3)
        assert report.stopped_call.method == "llmspell.v1.StateService/GetState"
        assert (report.call_count, report.value, report.stopped_call.number) == (2, None, 3)
        assert client.get_state("n", scope="custom:counts").value == 2
        assert [each.key for each in client.list_state(scope="custom:counts")] == ["n"]


WRONG = [
    {"mode": "sideways"},
    {"mode": "debug"},
    {"stop_at_call": 1},
    {"modifications": [Modification(call_number=1, answer={})]},
    {"mode": "modified", "modifications": [Modification(answer={})]},
    {"mode": "modified", "modifications": [Modification(call_number=1, answer=3)]},
    {"mode": "modified", "modifications": [Modification(call_number=1, reason="NO_SUCH")]},
    {"mode": "modified", "modifications": [Modification(call_number=1, path="a..b", answer=3)]},
]


def test_a_replay_that_makes_no_sense_is_refused(deployment):
    """Each wrong way to ask is named, before anything runs."""
    with clients(deployment, "modes") as (client,):
        run_id, _, _ = run(client, "return", journal=True)
        for how in WRONG:
            with pytest.raises(LLMSpellError) as caught:
                replay(client, run_id, **how)
            assert caught.value.metadata.get("field"), how


def test_the_first_difference_is_shown(deployment):
    """Other output by its byte, another call by its number, another result: both sides of each."""
    with clients(deployment, "differs") as (client,):
        source = "print('hello') State.save('global', 'k', 1) print('world') return 5"
        run_id, _, _ = run(client, source, journal=True)

        def changed(method, **fields):
            return lambda one: replace(one, **fields) if one.method.startswith(method) else one

        other = forged(client, run_id, "run-f1", changed("run.output", answer=b"hello\nWorld\n"))
        _, report = replay(client, other)
        assert (report.difference.what, report.difference.output_offset) == ("output", 6)
        assert report.difference.recorded.endswith("hello\nWorld\n")
        assert report.difference.replayed.endswith("hello\nworld\n")
        other = forged(client, run_id, "run-f2", changed("run.source", request=b"print('hello')"))
        _, report = replay(client, other)
        assert (report.difference.what, report.difference.output_offset) == ("output", 6)
        source = source.replace("'k'", "'K'").encode()
        other = forged(client, run_id, "run-f3", changed("run.source", request=source))
        _, report = replay(client, other)
        assert (report.difference.what, report.difference.call_number) == ("call", 1)
        assert '"key":"k"' in report.difference.recorded
        assert '"key":"K"' in report.difference.replayed
        source = source.replace(b"'K'", b"'k'").replace(b"return 5", b"return 6")
        other = forged(client, run_id, "run-f4", changed("run.source", request=source))
        _, report = replay(client, other)
        shown = report.difference
        assert (shown.what, shown.recorded, shown.replayed) == ("result", "5", "6")
        source = source.replace(b"return 6", b"error('no')")
        other = forged(client, run_id, "run-f5", changed("run.source", request=source))
        _, report = replay(client, other)
        assert report.difference.what == "end"
        assert report.difference.replayed.startswith("SCRIPT_FAILED: script:1: no")
        told = deployment.cli("run", "replay", other, tenant="differs")
        assert told.returncode != 0
        assert "It differs first in the end." in told.stderr


SPINS = """
State.increment("custom:spins", ARGS.name, 1)
print("spinning")
local from = os.clock()
while os.clock() - from < tonumber(ARGS.seconds) do end
State.increment("custom:spins", ARGS.name, 1)
return State.load("custom:spins", ARGS.name)
"""


def started(client, name, seconds):
    """A run that spins, once it does; the rest of its events."""
    events = client.run(
        SPINS, named={"name": name, "seconds": str(seconds)}, journal=True, name="spins.lua"
    )
    run_id = next(events).run_id
    assert next(events).data == b"spinning\n"
    return run_id, events


def test_a_run_is_cancelled_and_is_over(deployment):
    """CancelRun ends it as cancelled; it is compared up to there, and is not resumed."""
    with clients(deployment, "cancels") as (client,):
        run_id, events = started(client, "c", 20)
        assert client.get_run(run_id).status == "running"
        with pytest.raises(FailedPrecondition):
            client.delete_run(run_id)
        with pytest.raises(FailedPrecondition):
            replay(client, run_id)
        with pytest.raises(FailedPrecondition, match="goes on"):
            list(client.resume_run(run_id))
        assert client.cancel_run(run_id)
        with pytest.raises(LLMSpellError) as caught:
            list(events)
        assert caught.value.reason == "CANCELLED"
        assert client.get_run(run_id).status == "cancelled"
        assert not client.cancel_run(run_id)
        printed, report = replay(client, run_id)
        assert (printed, report.identical) == (b"spinning\n", True)
        with pytest.raises(FailedPrecondition) as caught:
            list(client.resume_run(run_id))
        assert caught.value.reason == "RUN_NOT_RESUMABLE"
        assert client.delete_run(run_id) == 1
        assert client.delete_run(run_id) == 0
        with pytest.raises(NotFound):
            client.get_run(run_id)


def test_a_run_whose_caller_went_away_is_resumed(deployment):
    """It goes on with what it had done, by one of two who want to, and counts once."""
    with clients(deployment, "resumes") as (client,):
        run_id, events = started(client, "r", 0.4)
        events.close()
        deadline = time.monotonic() + 10
        while client.get_run(run_id).status == "running":
            assert time.monotonic() < deadline
        assert client.get_run(run_id).status == "interrupted"
        assert [each.run_id for each in client.list_runs(statuses=["interrupted"])] == [run_id]
        ended = []

        def resume():
            try:
                ended.append(list(client.resume_run(run_id)))
            except LLMSpellError as error:
                ended.append(error.reason)

        threads = [threading.Thread(target=resume) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "RUN_NOT_RESUMABLE" in ended
        (events,) = [each for each in ended if isinstance(each, list)]
        assert (
            b"".join(each.data for each in events if isinstance(each, RunOutput)) == b"spinning\n"
        )
        assert events[-1].value == 2
        assert client.get_state("r", scope="custom:spins").value == 2
        _, report = replay(client, run_id)
        assert report.identical
        assert client.get_run(run_id).status == "succeeded"


def test_what_cannot_be_gone_on_with_safely_is_refused(deployment):
    """Too late, another script, a call of which nobody knows whether it was made."""
    with clients(deployment, "unsafe") as (client,):
        source = "State.save('global', 'k', 1) print(State.load('global', 'k')) return 1"
        run_id, _, _ = run(client, source, journal=True)

        def cut(**changes):
            def change(entry):
                if entry.method == "run.end":
                    return None
                return changes.get(entry.method.replace("run.", ""), lambda one: one)(entry)

            return change

        def refused(name, change):
            forged(client, run_id, name, change)
            assert client.get_run(name).status == "interrupted"
            with pytest.raises(LLMSpellError) as caught:
                list(client.resume_run(name))
            assert client.get_run(name).status == "interrupted"
            return caught.value.reason, caught.value.metadata

        old = timedelta(minutes=11)
        ages = lambda one: replace(  # noqa: E731 - said once
            one, start_time=one.start_time - old, end_time=one.end_time - old
        )
        late = dict.fromkeys(("begin", "source", "output", "readings"), ages)
        late |= {f"call llmspell.v1.StateService/{verb}State": ages for verb in ("Get", "Set")}
        assert refused("run-late", cut(**late))[0] == "RUN_NOT_RESUMABLE"
        other = source.replace("'k', 1", "'k', 2").encode()
        reason, metadata = refused("run-other", cut(source=lambda one: replace(one, request=other)))
        assert (reason, metadata["call"]) == ("RUN_DIVERGED", "1")
        assert "SetState" in metadata["recorded"]
        printed = cut(output=lambda one: replace(one, answer=b"2\n"))
        assert refused("run-printed", printed)[0] == "RUN_DIVERGED"
        intent = JournalEntry(
            sequence=1,
            method="run.intent llmspell.v1.ToolService/ExecuteTool",
            request=b"\x02",
            answer=b"",
            start_time=client.get_run(run_id).start_time,
            end_time=client.get_run(run_id).start_time,
        )
        second = lambda one: intent if "GetState" in one.method else one  # noqa: E731
        name = "call llmspell.v1.StateService/GetState"
        reason, metadata = refused("run-intent", cut(**{name: second}))
        assert (reason, metadata["call"]) == ("RUN_OUTCOME_UNKNOWN", "2")
        with pytest.raises(LLMSpellError) as caught:
            list(client.resume_run(run_id))
        assert caught.value.reason == "RUN_NOT_RESUMABLE"


def test_runs_are_their_tenants(deployment):
    """To another tenant each of them is not there, in the words for one that never was."""
    with clients(deployment, "mine", "yours") as (mine, yours):
        session = mine.create_session("kept").session_id
        run_id, _, _ = run(mine, "print('secret')", session=session)
        assert [each.run_id for each in mine.list_runs(session=session)] == [run_id]
        assert list(yours.list_runs()) == list(yours.list_runs(session=session)) == []
        for ask in (
            yours.get_run,
            yours.cancel_run,
            lambda one: list(yours.list_run_calls(one)),
            lambda one: list(yours.replay_run(one)),
            lambda one: list(yours.resume_run(one)),
        ):
            words = []
            for name in (run_id, run_id[:-4] + "0000"):
                with pytest.raises(NotFound) as caught:
                    ask(name)
                words.append(caught.value.message.replace(name, "RUN"))
            assert words[0] == words[1]
        assert yours.delete_run(run_id) == 0
        assert yours.replay_session(session) == []
        mine.delete_session(session)
        with pytest.raises(NotFound):
            mine.get_run(run_id)


def test_what_is_shown_of_a_run_tells_no_secret(deployment):
    """Arguments, requests and answers are without what is sensitive; a replay still has them."""
    with clients(deployment, "secrets") as (client,):
        source = (
            "State.save('global', 'pin', '1234', {sensitive = true}) "
            "return State.load('global', 'pin'), ARGS.api_key"
        )
        named = {"api_key": "hush-hush-hush"}
        run_id, _, value = run(client, source, named=named, journal=True)
        assert value == ["1234", "hush-hush-hush"]
        shown = client.get_run(run_id)
        assert shown.named == {"api_key": "[REDACTED]"}
        calls = list(client.list_run_calls(run_id, content=True))
        assert [each.method.rpartition("/")[2] for each in calls] == ["SetState", "GetState"]
        assert "1234" not in json.dumps([[each.request, each.answer] for each in calls])
        assert [each.number for each in client.list_run_calls(run_id, first_number=2)] == [2]
        _, report = replay(client, run_id)
        assert report.identical
        assert report.value == value


LUA = """
local id = ARGS.session
local runs = Session.runs(id)
assert(#runs == 3 and runs[1].status == "failed" and runs[3].status == "succeeded")
assert(runs[3].call_count == 3 and runs[1].reason == "SCRIPT_FAILED")
assert(Session.can_replay(id) and Session.list_replayable()[1] == id)
local known = Session.get_replay_metadata(id)
assert(known.total_runs == 3 and known.total_hooks == 6 and known.can_replay)
local done = Session.replay(id)
assert(done.runs_replayed == 3 and done.successful_replays == 3 and done.failed_replays == 0)
assert(done.hooks_replayed == 6 and done.runs[1].identical and done.runs[1].run_id == runs[3].id)
local config = Replay.create_config(Replay.modes.modified)
config:add_modification("GetState.item.value.json", "7")
local changed = Session:replay(id, config)
assert(changed.failed_replays == 2 and changed.runs[1].difference.what == "result")
assert(changed.runs[2].difference.what == "output")
local lenient = {mode = "modified", compare_results = false, modifications = {
  {path = "1.item.value.json", value = "7"}}}
assert(Session.replay(id, lenient).failed_replays == 0)
for _, wrong in ipairs{{mode = "debug"}, {mode = "x"}, {nonsense = 1}, {timeout_seconds = -1}} do
  assert(not pcall(Session.replay, id, wrong))
end
return State.load("custom:counts", "n")
"""


def test_a_script_makes_a_session_again(deployment):
    """`Session.replay` and what goes with it tell of all its runs; nothing is counted twice."""
    with clients(deployment, "lua-replay") as (client,):
        session = client.create_session("counted").session_id
        for source in (COUNTS, COUNTS, "error('no')"):
            run(client, source, session=session)
        ran = run(client, LUA, named={"session": session})
        assert ran[2] == 2, ran


def test_the_command_line_lists_shows_and_replays(deployment, tmp_path):
    """Each command says what it did; a file is run as before, and its name may be a command's."""
    with clients(deployment, "run-cli") as (client,):
        session = client.create_session("cli").session_id

    def said(*words, code=0):
        done = deployment.cli("run", *words, tenant="run-cli")
        assert done.returncode == code, done.stderr
        return done

    file = tmp_path / "list"
    file.write_text("print('hi') State.save('global', 'k', 1) return ARGS[1]", "utf-8")
    done = said(str(file), "--session", session, "--", "one")
    assert done.stdout == "hi\none\n"
    run_id = re.search(r"Kept as (run-\w+)\.", done.stderr)[1]
    assert json.loads(said("--json", "--journal", str(file)).stdout)["run_id"] != run_id
    assert "Kept" not in said(str(file)).stderr
    listed = said("list", "--session", session)
    assert run_id in listed.stdout
    assert "1 run." in listed.stderr
    shown = said("show", run_id, "--calls").stdout
    assert re.search(r"status +succeeded", shown)
    assert "1  llmspell.v1.StateService/SetState  done" in shown
    told = json.loads(said("show", run_id, "--json", "--content").stdout)
    assert told["calls"][0]["request"]["key"] == "k"
    assert said("replay", run_id).stdout == "identical: 1 call, 3 bytes of output\n"
    assert said("replay", run_id, "--output").stdout.startswith("hi\n")
    stopped = said("replay", run_id, "--mode", "debug", "--stop-at", "1").stdout
    assert stopped.startswith("stopped before call 1: llmspell.v1.StateService/SetState\n")
    modified = said("replay", run_id, "--mode", "modified", "--modify", "1=STORAGE_FULL").stdout
    assert "SCRIPT_FAILED" in modified
    assert said("resume", run_id, code=8).stdout == ""
    said("cancel", run_id)
    said("delete", run_id)
    assert said("show", run_id, code=5).stdout == ""


def test_a_run_without_a_journal_is_not_kept(deployment):
    """Nothing is written unless there is a session, or somebody asks for it."""
    with clients(deployment, "unkept") as (client,):
        session = client.create_session("unkept").session_id
        run(client, "return 1")
        run(client, "return 1", session=session, journal=False)
        assert list(client.list_runs()) == []
        kept, _, _ = run(client, "return 1", journal=True)
        (known,) = client.list_runs()
        assert (known.run_id, known.session_id, known.value) == (kept, "", 1)
        assert known.expire_time - known.start_time == timedelta(days=7)
        begin = next(iter(client.read_journal(kept)))
        assert run_pb2.RunBegin.FromString(begin.request).run_id == kept


def test_a_journal_of_somebodys_own_making_gives_no_more(deployment):
    """Limits beyond the deployment's are not given; what is no journal of a run is not there."""
    with clients(deployment, "forgers") as (client,):
        source = "local t = {} for i = 1, 1 << 22 do t[i] = {} end return 1"
        run_id, _, ended = run(client, source, journal=True)
        assert ended.reason == "RUN_MEMORY_LIMIT"

        def greedy(entry):
            if entry.method != "run.begin":
                return None if entry.method == "run.end" else entry
            begin = run_pb2.RunBegin.FromString(entry.request)
            begin.limits.memory_bytes, begin.limits.output_bytes = 2**40, 2**40
            begin.limits.wall_time.seconds = begin.limits.cpu_time.seconds = 10**6
            return replace(entry, request=begin.SerializeToString())

        forged(client, run_id, "run-greedy", greedy)
        _, report = replay(client, "run-greedy")
        assert report.reason == "RUN_MEMORY_LIMIT"
        broken = {
            "begin": b"\xff",
            "call x.Y/Z": b"\x81",
            "readings": b"tt",
        }
        source = "os.time() State.load('global', 'k') return 1"
        run_id, _, _ = run(client, source, journal=True)
        for at, (kind, request) in enumerate(broken.items()):

            def spoilt(entry, kind=kind, request=request):
                same = entry.method.split()[0] == f"run.{kind.split()[0]}"
                return replace(entry, request=request) if same else entry

            name = forged(client, run_id, f"run-broken{at}", spoilt)
            with pytest.raises(LLMSpellError) as caught:
                replay(client, name)
            assert caught.value.reason == "RUN_NOT_FOUND", kind


def test_a_key_that_sees_some_records_reads_no_journal_of_a_run(deployment):
    """What other keys were answered is not told past its filter."""
    rows = '{"must": [{"key": "team", "match": {"value": "a"}}]}'
    with clients(deployment, "rows") as (client,):
        run_id, _, _ = run(client, "return 1", journal=True)
        made = deployment.cli_json("key", "create", "--tenant", "rows", "--row-filter", rows)
        client.get_run(run_id)
    with Client(deployment.address, made["key"]) as bound:
        for ask in (
            lambda: list(bound.read_journal(run_id)),
            lambda: list(bound.list_journal_entries(run_id)),
            lambda: list(bound.list_run_calls(run_id)),
            lambda: list(bound.replay_run(run_id)),
            lambda: list(bound.resume_run(run_id)),
        ):
            with pytest.raises(LLMSpellError) as caught:
                ask()
            assert caught.value.reason == "PERMISSION_DENIED"
