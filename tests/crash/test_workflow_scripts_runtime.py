"""The runtime is killed under scripts whose workflows call functions; each is called once (T1)."""

import contextlib
import random
import threading
import time

import pytest
from llmspell import Client, LLMSpellError
from llmspell.types import RunResult, RunStarted

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.integration.deployment import deployed

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]
BACK_S = 60.0
STEPS = 25
SCRIPT = """
local scope, steps = "custom:" .. ARGS.name, {}
for i = 1, tonumber(ARGS.steps) do
  steps[#steps + 1] = {name = "f" .. i, type = "function", input = {n = i}, fn = function(given)
    State.increment(scope, "f" .. i, 1)
    return given.n * 2
  end}
  steps[#steps + 1] = {
    name = "c" .. i, type = "call", method = "StateService/IncrementState",
    input = {scope = scope, key = "c" .. i, int_delta = 1},
  }
end
local flow = Workflow.sequential{name = "crash", steps = steps}
local result = flow:execute()
return {result.outputs["f" .. ARGS.steps], State.load(scope, "c" .. ARGS.steps)}
"""


class Rounds:
    """Kills the runtime under scripts, and resumes them."""

    def __init__(self, up, client, seed):
        self._up, self._client, self._random = up, client, random.Random(seed)
        self._seed = seed
        self._session = client.create_session("crash", timeout_s=0).session_id
        self.number = self.resumed = self.untouched = 0

    def run(self, times):
        """So many rounds; each looks at what was done."""
        for self.number in range(1, times + 1):
            name, heard = f"s{self._seed}-{self.number}", {}
            how = {"named": {"name": name, "steps": str(STEPS)}, "session": self._session}
            events = self._client.run(SCRIPT, name="crash.lua", **how)
            thread = threading.Thread(target=_follow, args=(events, heard))
            thread.start()
            time.sleep(self._random.uniform(0.05, 0.6))
            self._kill()
            thread.join(BACK_S)
            self._look(name, heard)

    def _kill(self):
        before = self._up.pid("runtime")
        self._up.kill("runtime")
        deadline = time.monotonic() + BACK_S
        while self._up.pid("runtime") == before or not self._serves():
            assert time.monotonic() < deadline, "the runtime does not come back"
            time.sleep(0.02)

    def _serves(self):
        with contextlib.suppress(LLMSpellError):
            self._client.check("return")
            return True
        return False

    def _look(self, name, heard):
        try:
            status = self._client.get_run(heard.get("run_id", "none")).status
        except LLMSpellError:
            assert "value" not in heard, heard
            self.untouched += 1
            assert not self._items(name)
            return
        if status == "interrupted":
            again = {}
            _follow(self._client.resume_run(heard["run_id"]), again)
            assert "error" not in again, f"{name}: {again['error']}"
            heard, self.resumed = again, self.resumed + 1
        assert heard["value"] == [STEPS * 2, 1], heard
        wanted = {f"{kind}{n}": 1 for kind in "fc" for n in range(1, STEPS + 1)}
        assert self._items(name) == wanted

    def _items(self, name):
        return {item.key: item.value for item in self._client.list_state(scope=f"custom:{name}")}


def _follow(events, heard):
    try:
        for event in events:
            if isinstance(event, RunStarted):
                heard["run_id"] = event.run_id
            elif isinstance(event, RunResult):
                heard["value"] = event.value
    except LLMSpellError as error:
        heard["error"] = error


def test_every_function_is_called_once(tmp_path, reached):
    """A run that is resumed goes on with its workflow: steps of either kind are there once."""
    seed, times = seed_of("LLMSPELL_KILL_SEED"), scale.count(2, 25)
    with deployed(tmp_path) as up:
        key = up.keys[up.tenant("crash")]
        with Client(up.address, key, timeout_s=60) as client:
            rounds = Rounds(up, client, seed)
            try:
                rounds.run(times)
            except BaseException as error:
                error.add_note(f"LLMSPELL_KILL_SEED={seed} repeats this, in {rounds.number}")
                raise
    reached(
        "T1",
        f"runtime: {times} kills -9 under scripts with workflows, resumed",
        "every function and call once",
        f"{rounds.resumed} resumed, {rounds.untouched} had not begun",
        "",
    )
