"""Runs that write while the runtime is killed under them, are resumed, and are looked at."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from dataclasses import dataclass

from llmspell import Client, LLMSpellError
from llmspell.types import ReplayReport, RunResult, RunStarted

STEPS = 12
AT_ONCE = 3
BACK_S = 60.0
FLAWS = {
    "no_request_ids": "journal.Journaled._known = lambda self, call, care: call",
    "reads_not_kept": "book.Book.keep_firm = lambda self: asyncio.sleep(0)",
}
"""Builds that lose what the test is about, as a patch of the runtime."""

SCRIPT = """
local session = Session.get_current()
local scope = "custom:" .. ARGS.run
for i = 1, tonumber(ARGS.steps) do
  local seen = State.load(scope, "log") or {}
  seen[#seen + 1] = i
  State.save(scope, "log", seen)
  State.increment(scope, "count", 1)
  State.save(scope, "x" .. i, math.random(1000000) + os.time() % 7)
  if i % 4 == 0 then Event.publish("crash." .. ARGS.run, {i = i}) end
  if i % 5 == 0 then
    Artifact.store(session, "tool_result", ARGS.run .. "-" .. i, "x" .. i .. os.clock())
  end
  if i % 6 == 0 then Session.create{name = ARGS.run, tags = {"made"}} end
  State.increment(scope, "count", 1)
  print(i, State.load(scope, "x" .. i))
end
return State.load(scope, "count")
"""

PATCH = """
import sys
if sys.orig_argv[1:3] == ["-m", "services.runtime"]:
    import asyncio
    from services.runtime import book, journal
    {flaw}
"""


@dataclass
class Started:
    """A run that was begun, and what its caller heard."""

    name: str
    run_id: str = ""
    value: object = None
    error: LLMSpellError | None = None


class Rounds:
    """Kills the runtime under runs, round after round."""

    def __init__(self, up, tenant: str, seed: int) -> None:
        self._up = up
        self._random = random.Random(seed)
        self._seed = seed
        self.client = Client(up.address, up.keys[up.tenant(tenant)], timeout_s=60)
        self.session = self.client.create_session("crash", timeout_s=0).session_id
        self.number = self.resumed = self.untouched = self.ended = self.writes = 0

    def run(self, times: int) -> None:
        """So many rounds; each looks at what was written."""
        for self.number in range(1, times + 1):
            started = [Started(f"{self._seed}-{self.number}-{at}") for at in range(AT_ONCE)]
            threads = [threading.Thread(target=self._start, args=(each,)) for each in started]
            for thread in threads:
                thread.start()
            self._kill(self._random.uniform(0.02, 0.9))
            for thread in threads:
                thread.join(BACK_S)
            for each in started:
                self._finish(each)

    def _kill(self, after_s: float) -> None:
        time.sleep(after_s)
        before = self._up.pid("runtime")
        self._up.kill("runtime")
        deadline = time.monotonic() + BACK_S
        while self._up.pid("runtime") == before or not self._serves():
            assert time.monotonic() < deadline, "the runtime does not come back"
            time.sleep(0.02)

    def _serves(self) -> bool:
        with contextlib.suppress(LLMSpellError):
            self.client.check("return")
            return True
        return False

    def _start(self, started: Started) -> None:
        named = {"run": started.name, "steps": str(STEPS)}
        self._follow(
            started, self.client.run(SCRIPT, name="crash.lua", named=named, session=self.session)
        )

    def _follow(self, started: Started, events) -> None:
        try:
            for event in events:
                if isinstance(event, RunStarted):
                    started.run_id = event.run_id
                elif isinstance(event, RunResult):
                    started.value = event.value
        except LLMSpellError as error:
            started.error = error

    def _finish(self, started: Started) -> None:
        """Resume the run until it ends, and look at all that it wrote."""
        status = self._status(started)
        while status == "interrupted":
            again = Started(started.name, started.run_id)
            if self._random.random() < 0.25:  # some resumed runs are lost too
                events = self.client.resume_run(started.run_id)
                thread = threading.Thread(target=self._follow, args=(again, events))
                thread.start()
                self._kill(self._random.uniform(0.0, 0.3))
                thread.join(BACK_S)
            else:
                self._follow(again, self.client.resume_run(started.run_id))
                assert again.error is None, f"{started.name}: {again.error}"
            started.value, self.resumed = again.value or started.value, self.resumed + 1
            status = self._status(started)
        self._look(started, status)

    def _status(self, started: Started) -> str:
        if not started.run_id:
            return "absent"
        try:
            return self.client.get_run(started.run_id).status
        except LLMSpellError as error:
            if error.reason != "RUN_NOT_FOUND":
                raise
            return "absent"

    def _look(self, started: Started, status: str) -> None:
        name, client = started.name, self.client
        items = {each.key: each.value for each in client.list_state(scope=f"custom:{name}")}
        made = list(client.list_sessions(name_contains=name, tags=["made"]))
        scope = f"session:{self.session}"
        kept = [each.name for each in client.list_artifacts(scope=scope, name_pattern=f"{name}-*")]
        events = [each.data["i"] for each in client.list_events(f"crash.{name}")]
        if status == "absent":
            self.untouched += 1
            assert (items, made, kept, events) == ({}, [], [], []), f"{name} wrote, and is unknown"
            return
        assert status == "succeeded", f"{name} is {status}"
        numbers = list(range(1, STEPS + 1))
        assert items.pop("log") == numbers, f"{name}: a step was made twice or not"
        assert items.pop("count") == 2 * STEPS, f"{name}: an increment was made twice or not"
        assert sorted(items) == sorted(f"x{i}" for i in numbers), f"{name}: not the items it made"
        assert len(made) == STEPS // 6, f"{name}: a session was made twice or not"
        assert sorted(kept) == sorted(f"{name}-{i}" for i in numbers if i % 5 == 0), (
            f"{name}: an artifact was made twice or not"
        )
        assert events == [i for i in numbers if i % 4 == 0], f"{name}: an event came twice or not"
        assert started.value in {None, 2 * STEPS}, started.value
        self.ended += 1
        self.writes += 3 * STEPS + len(made) + len(kept) + len(events) + STEPS
        *_, report = client.replay_run(started.run_id)
        assert isinstance(report, ReplayReport)
        assert report.identical, f"{name}: {report}"
