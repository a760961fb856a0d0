"""Workflows while the runtime is killed under them: they go on by themselves, and are looked at."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

from tests.integration.workflow_door import Door, Refused

AT_ONCE = 4
TOOLS, AGENT, NETWORK = 0, 1, 3
"""Which of those at once has steps with files, with an agent, with the network."""
GIVEN = ("g0", "g1", "g2")
"""Effects of the agent's tools."""
BACK_S = 120.0
STEPS = 5
ORDERLY_SHARE = 0.1
"""Of ends of the runtime that it is asked for: it stops, and leaves what goes on."""
FLAWS = {
    "ids_by_chance": "actions.HostActions.request_id = lambda self, path: secrets.token_hex(8)",
    "begins_not_kept": "kept.RunJournal.begin = nothing",
    "receipts_not_asked_for": "receipts.Receipts.meet = always_anew",
    "agents_begun_anew": "memos.StepMemo.answer = memos.StepMemo.called = lambda *_: None",
}
"""Builds that lose what the test is about, as a patch of the runtime."""
SEEN_AT_ONCE = ("ids_by_chance", "begins_not_kept")
"""Of these, those that are seen within a few rounds."""

PATCH = """
import sys
if sys.orig_argv[1:3] == ["-m", "services.runtime"]:
    import secrets
    from dataclasses import replace
    from services.runtime.tools import receipts
    from services.runtime.workflows import actions, kept, memos
    async def nothing(self, result): pass
    meet = receipts.Receipts.meet
    async def always_anew(self, tenant, claim, **more):
        anew = replace(claim, receipt=self.new_name(), begun_ns=None)
        return await meet(self, tenant, anew, **more)
    {flaw}
"""


def counted(name, run):
    """A step that adds one to an item of its own, found by its name."""
    arguments = {"scope": f"custom:{run}", "key": name, "int_delta": 1}
    return {"name": name, "call": {"method": "StateService/IncrementState", "arguments": arguments}}


def written(name, run):
    """A step whose tool adds a line to a file: done twice, it is there twice."""
    arguments = {"operation": "append", "path": f"{run}.txt", "content": f"{name}\n"}
    return {"name": name, "tool": {"tool": "file-operations", "arguments": arguments}}


class Site:
    """A slow server that counts what is posted to it."""

    def __init__(self):
        self.posts = Counter()
        posts = self.posts

        class Posted(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                posts[self.path] += 1
                time.sleep(0.03)
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Posted)
        self.port = self._server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def posted(name, run, port):
    """A step whose tool posts to a server: done twice, it is counted twice there."""
    arguments = {"input": f"http://127.0.0.1:{port}/{run}/{name}", "method": "POST", "body": "x"}
    return {"name": name, "tool": {"tool": "http-requester", "arguments": arguments}}


def append(run, name):
    """Arguments of the tool that adds a line to a file of its own."""
    return {"operation": "append", "path": f"{run}-{name}.txt", "content": f"{name}\n"}


def asked(run):
    """A step whose agent calls tools, two at once and then another; each adds a line."""
    calls = [{"name": "file-operations", "arguments": append(run, name)} for name in GIVEN]
    replies = [
        {"tools": calls[:2], "wait_s": 0.05},
        {"tools": calls[2:], "wait_s": 0.05},
        {"text": "Done.", "wait_s": 0.05},
    ]
    spec = {
        "name": "clerk",
        "model": "scripted/inline",
        "base_url": "data:application/json," + quote(json.dumps({"replies": replies})),
        "tools": ["file-operations"],
    }
    return {"name": "given", "agent": {"agent": {"spec": spec}, "input": "Write."}}


def thought(name):
    """A step that only computes."""
    return {"name": name, "tool": {"tool": "calculator", "arguments": {"input": "6 * 7"}}}


def story(run, kind, port):
    """A workflow with effects in a row, in a loop, and side by side."""
    effects = {TOOLS: written, NETWORK: partial(posted, port=port)}
    effect = effects.get(kind, counted)
    rows = [asked(run)] if kind == AGENT else []
    rows += [
        step
        for number in range(STEPS)
        for step in (effect(f"a{number}", run), thought(f"t{number}"))
    ]
    body = {"scope": f"custom:{run}", "key": "b{{loop_value}}", "int_delta": 1}
    loop = {
        "collection": [0, 1, 2],
        "body": [
            {"name": "b", "call": {"method": "StateService/IncrementState", "arguments": body}}
        ],
    }
    sides = [{"name": f"s{n}", "steps": [counted(f"c{n}", run)]} for n in range(3)]
    return {
        "name": run,
        "sequential": {
            "steps": [
                *rows,
                {"name": "each", "workflow": {"definition": {"name": "each", "loop": loop}}},
                {
                    "name": "both",
                    "workflow": {"definition": {"name": "both", "parallel": {"branches": sides}}},
                },
                counted("last", run),
            ]
        },
    }


@dataclass
class Started:
    """A workflow that was begun."""

    name: str
    kind: int
    workflow: dict = field(default_factory=dict)
    output: dict | None = None


class Rounds:
    """Kills the runtime under workflows, round after round."""

    def __init__(self, up, door: Door, seed: int, site: Site) -> None:
        self._up = up
        self._door = door
        self._site = site
        self._random = random.Random(seed)
        self._seed = seed
        self.number = self.completed = self.resumed = self.untouched = 0

    def run(self, times: int) -> None:
        """So many rounds; each looks at what was done."""
        for self.number in range(1, times + 1):
            started = [self._new(at) for at in range(AT_ONCE)]
            threads = [threading.Thread(target=self._start, args=(each,)) for each in started]
            for thread in threads:
                thread.start()
            for _ in range(self._random.choice((1, 1, 2))):  # some are lost twice
                self._kill(self._random.uniform(0.02, 0.5))
            for thread in threads:
                thread.join(BACK_S)
            for each in started:
                self._look(each)

    def _new(self, at: int) -> Started:
        name = f"w{self._seed}-{self.number}-{at}"
        return Started(name, at, story(name, at, self._site.port))

    def _start(self, started: Started) -> None:
        with contextlib.suppress(Refused):
            started.output = self._door.execute(started.workflow, request_id=started.name)

    def _kill(self, after_s: float) -> None:
        time.sleep(after_s)
        before = self._up.pid("runtime")
        if self._random.random() < ORDERLY_SHARE:
            os.kill(before, signal.SIGTERM)
        else:
            self._up.kill("runtime")
        deadline = time.monotonic() + BACK_S
        while self._up.pid("runtime") == before or not self._serves():
            assert time.monotonic() < deadline, "the runtime does not come back"
            time.sleep(0.02)

    def _serves(self) -> bool:
        with contextlib.suppress(Refused):
            self._door.call("ScriptService/CheckScript", source="return")
            return True
        return False

    def _look(self, started: Started) -> None:
        """Wait until it has ended, by itself where it had begun, and look at what it did."""
        runs = self._door.call("WorkflowService/ListWorkflowRuns", name=started.name)["runs"]
        if not runs:
            assert not self._effects(started), f"{started.name} has no run, but effects"
            self.untouched += 1
            output = self._door.execute(started.workflow, request_id=started.name)
            run = self._door.run(output["execution_id"])
        else:
            run = self._door.run_that_ends(runs[0]["execution_id"], timeout_s=BACK_S)
        self.resumed += run["resumed_count"] > 0
        effects, status = self._effects(started), run["status"]
        twice = {name: count for name, count in effects.items() if count != 1}
        assert not twice, f"{started.name} is {status} and did twice: {twice}"
        done = {step["path"] for step in run["output"]["steps"] if step["status"] == "COMPLETED"}
        for name in effects_of(done):
            assert effects.get(name) == 1, f"{started.name}: {name} is kept as done, but is not"
        again = self._door.execute(started.workflow, request_id=started.name)
        assert again["execution_id"] == run["execution_id"]
        assert self._effects(started) == effects, f"{started.name} was done again"
        assert status == "COMPLETED", f"{started.name} is {status}: {run['output'].get('failure')}"
        count = STEPS + 7 + (len(GIVEN) if started.kind == AGENT else 0)
        assert len(effects) == count, f"{started.name} misses some of its effects"
        self.completed += 1

    def _effects(self, started: Started) -> dict[str, int]:
        """How often each effect is there, by name."""
        found: dict[str, int] = {}
        scope = f"custom:{started.name}"
        for item in self._door.call("StateService/ListState", scope=scope)["items"]:
            found[item["key"]] = int(json.loads(item["value"]["json"]))
        files = {TOOLS: [""], AGENT: [f"-{name}" for name in GIVEN]}.get(started.kind, [])
        for line in (line for end in files for line in self._lines(started.name + end)):
            found[line] = found.get(line, 0) + 1
        at = f"/{started.name}/"
        posts = {path: n for path, n in self._site.posts.items() if path.startswith(at)}
        return found | {path.removeprefix(at): count for path, count in posts.items()}

    def _lines(self, name: str) -> list[str]:
        arguments = {"operation": "read", "path": f"{name}.txt"}
        try:
            told = self._door.call(
                "ToolService/ExecuteTool", name="file-operations", arguments=arguments
            )
        except Refused as error:
            if "There is no" not in error.message:
                raise
            return []
        return told["result"]["input"].split()


def effects_of(paths: set[str]) -> set[str]:
    """Names of the effects of steps that were done."""
    names = set()
    for path in paths:
        if path.startswith("each#"):
            names.add(f"b{int(path.removeprefix('each#').partition('/')[0]) - 1}")
        elif path.rpartition("/")[2][0] in "ac" or path == "last":
            names.add(path.rpartition("/")[2])
    return names
