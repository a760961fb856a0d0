"""Points and results of hooks: what each point is reached by, and what each result does.

One run a point tries all results, one after the other, and reports what came of each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.integration.hook_harness import HARNESS, NOTICE_HARNESS

RESULTS = (
    "continue", "modified", "cancel", "redirect", "replace", "retry", "fork", "cache", "skipped",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How one point is reached, and what is seen with each result."""

    point: str
    phase: str
    lua: str
    normal: object = None
    modified: object = None
    redirected: object = None
    replaced: object = None
    failed: str = ""
    """Reason of a call that fails there."""
    cached: object = None
    """What the second call sees where the first one's answer was kept."""
    retried: object = None
    """What is seen after three attempts."""
    redirect_reason: str = ""
    """Where the other target cannot help either."""
    limits: dict = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The script."""
        harness = NOTICE_HARNESS if self.phase == "notice" else HARNESS
        return harness % {"case": self.lua}


_SESSION = """
local ids = {aside = Session.create{name = "aside"}, twin = Session.create{name = "twin"}}
local function id_of(n)
  ids[n] = ids[n] or Session.create{name = n}
  return ids[n]
end
for _, name in ipairs{"aside", "twin"} do
  State.save("session:" .. ids[name], "x", 1)
end
P.target = ids.aside
State.load("hx-signal", "twin=" .. ids.twin)
function P.data(c) local d = c.data d.session_id = ids.twin return d end
function P.reset(n) id_of(n) id_of("cache2") end
"""

_TOOL = """
        P.target, P.answer = "no-such-tool", {success = true, result = {output = "r"}}
        function P.go(n)
          local input = {operation = "encode", input = n:upper():rep(3)}
          return Tool.execute("base64-encoder", input).result.output
        end
        function P.fail() return Tool.execute("no-such-tool", {}) end
        function P.data(c) local d = c.data d.arguments.input = "m" return d end
"""

CASES = (
    Case(
        "ToolValidation", "before",
        _TOOL,
        normal="*", modified="bQ==", redirect_reason="TOOL_NOT_FOUND", replaced="r",
        failed="TOOL_NOT_FOUND", cached="Q0FDSEVDQUNIRUNBQ0hF",
    ),
    Case(
        "BeforeToolExecution", "before",
        _TOOL,
        normal="*", modified="bQ==", redirect_reason="TOOL_NOT_FOUND", replaced="r",
        failed="TOOL_NOT_FOUND", cached="Q0FDSEVDQUNIRUNBQ0hF",
    ),
    Case(
        "AfterToolExecution", "after",
        _TOOL + """
        P.fail = P.go
        function P.data(c) local d = c.data d.result.output = "m" return d end
        """,
        normal="*", modified="m", redirect_reason="TOOL_NOT_FOUND", replaced="r",
        retried="UkVUUllSRVRSWVJFVFJZ",
    ),
    Case(
        "ToolError", "error",
        """
        P.target, P.answer = "base64-encoder", {success = true, result = {output = "r"}}
        function P.go()
          return Tool.execute("no-such-tool", {operation = "encode", input = "x"}).result.output
        end
        P.fail = P.go
        function P.data() return "reworded" end
        """,
        failed="TOOL_NOT_FOUND", redirected="eA==", replaced="r",
    ),
    Case(
        "BeforeToolDiscovery", "before",
        """
        local schemas = {parameters_schema = "{}", result_schema = "{}"}
        schemas.name, schemas.level = "r", "SAFE"
        P.target, P.answer = "no-such-tool", {tool = schemas}
        local function named(name) return (Tool.get(name) or {name = "none"}).name end
        function P.go(n) return named(n == "cache2" and "no-such-tool" or "base64-encoder") end
        function P.fail() return named("no-such-tool") end
        function P.data(c) local d = c.data d.name = "no-such-tool" return d end
        """,
        normal="base64-encoder", modified="none", redirected="none", replaced="r",
        cached="base64-encoder",
    ),
    Case(
        "AfterToolDiscovery", "after",
        """
        local schemas = {parameters_schema = "{}", result_schema = "{}"}
        schemas.name, schemas.level = "r", "SAFE"
        P.target, P.answer = "no-such-tool", {tool = schemas}
        function P.go() return (Tool.get("base64-encoder") or {name = "none"}).name end
        P.fail = P.go
        function P.data(c) local d = c.data d.tool.name = "m" return d end
        """,
        normal="base64-encoder", modified="m", redirected="none", replaced="r",
        retried="base64-encoder",
    ),
    Case(
        "BeforeStateRead", "before",
        """
        P.target, P.answer = "other", {value = "r"}
        function P.go() return State.load("hx", "k") end
        function P.data(c) local d = c.data d.key = "other" return d end
        function P.fail() return State.load("a b", "k") end
        function P.change() State.save("hx", "k", "changed") end
        """,
        normal="v", modified="w", redirected="w", replaced="r", failed="SCOPE_INVALID", cached="v",
    ),
    Case(
        "AfterStateRead", "after",
        """
        P.target, P.answer = "other", {value = "r"}
        function P.go() return State.load("hx", "k") end
        P.fail = P.go
        function P.data(c) assert(c.data.value == "v") return {value = "m"} end
        """,
        normal="v", modified="m", redirected="w", replaced="r", retried="v",
    ),
    Case(
        "BeforeStateWrite", "before",
        """
        P.target, P.answer = "aside", {revision = 1}
        function P.go(n) State.save("hx", "w-" .. n, n) end
        function P.see(n)
          return {State.load("hx", "w-" .. n) or false, State.load("hx", "aside") or false}
        end
        function P.reset() State.delete("hx", "aside") end
        function P.see_again() return State.load("hx", "w-cache2") or "absent" end
        function P.data(c) local d = c.data d.value = d.value .. "!" return d end
        function P.fail() return State.save("a b", "k", 1) end
        """,
        normal=["{n}", False], modified=["modified!", False], redirected=[False, "redirect"],
        replaced=[False, False], failed="SCOPE_INVALID", cached="absent",
    ),
    Case(
        "AfterStateWrite", "after",
        """
        P.target, P.answer = "c-aside", {int_value = 42}
        function P.go(n) return State.increment("hx", "c-" .. n, 2) end
        function P.reset(n) State.delete("hx", "c-" .. n) State.delete("hx", "c-aside") end
        P.fail = P.go
        function P.data(c) assert(c.data.int_value == 2) return {int_value = 41} end
        """,
        normal=2, modified=41, redirected=2, replaced=42, retried=6,
    ),
    Case(
        "StateConflict", "error",
        """
        P.target, P.answer = "fresh", {revision = 1}
        function P.go() return State.copy("hx", "k", "hx", "other", {if_absent = true}) end
        P.fail = P.go
        function P.see() return State.load("hx", "fresh") or "none" end
        function P.reset() State.delete("hx", "fresh") end
        function P.data(c) assert(c.data.code == "ABORTED") return "reworded" end
        """,
        failed="REVISION_MISMATCH", redirected="v", replaced="none",
    ),
    Case(
        "StateMigration", "before",
        """
        P.target, P.answer = "hy", {migration = {migration_id = "", to_version = "9"}}
        function P.go() return State.migrate("2.0.0", {schema = "hx", dry_run = true}) end
        function P.data(c) local d = c.data d.to_version = "3.0.0" return d end
        function P.fail() return State.migrate("7.7.7", {schema = "hx", dry_run = true}) end
        function P.see(_, value)
          return {value.success, value.from_version or false, value.target_version}
        end
        """,
        normal=[True, "1.0.0", "2.0.0"], modified=[True, "1.0.0", "3.0.0"],
        redirected=[True, "1.5.0", "2.0.0"], replaced=[True, False, "2.0.0"], cached="same",
    ),
    Case(
        "SessionStart", "after",
        """
        P.target, P.answer = "of-a-hook", {session = {session_id = "r"}}
        function P.go(n) return Session.create{name = n} end
        function P.reset() pcall(Session.delete, "of-a-hook") end
        P.fail = P.go
        function P.see(_, id) return {#id > 20, id} end
        function P.data(c) local d = c.data d.session.session_id = "m" return d end
        """,
        normal=[True, "*"], modified=[False, "m"], redirected=[False, "of-a-hook"],
        replaced=[False, "r"], retried=[True, "*"],
    ),
    Case(
        "SessionEnd", "before",
        _SESSION + """
        P.answer = {}
        function P.go(n) return Session.complete(id_of(n)) end
        function P.fail() return Session.complete("absent") end
        local function status(n) return Session.get(id_of(n)).status end
        function P.see(n) return {status(n), status("twin"), status("aside")} end
        function P.see_again() return status("cache2") end
        """,
        normal=["completed", "*", "*"], modified=["active", "completed", "*"],
        redirected=["active", "*", "completed"], replaced=["active", "*", "*"],
        failed="SESSION_NOT_FOUND", cached="active",
    ),
    Case(
        "SessionSave", "before",
        _SESSION + """
        P.answer = {}
        function P.go(n) return Session.save(id_of(n)) end
        function P.fail() return Session.save("absent") end
        local function saved(n) return Session.get(id_of(n)).saved_at ~= nil end
        function P.see(n) return {saved(n), saved("twin"), saved("aside")} end
        function P.see_again() return saved("cache2") end
        """,
        normal=[True, "*", "*"], modified=[False, True, "*"], redirected=[False, "*", True],
        replaced=[False, "*", "*"], failed="SESSION_NOT_FOUND", cached=False,
    ),
    Case(
        "SessionCheckpoint", "before",
        _SESSION + """
        P.answer = {checkpoint = {checkpoint_id = "r"}}
        function P.go(n) return Session.checkpoint(id_of(n), n) end
        function P.fail() return Session.checkpoint("absent") end
        local function count(n) return #Session.checkpoints(id_of(n)) end
        function P.see(n) return {count(n), count("twin"), count("aside")} end
        function P.see_again() return count("cache2") end
        """,
        normal=[1, "*", "*"], modified=[0, 1, "*"], redirected=[0, "*", 1],
        replaced=[0, "*", "*"], failed="SESSION_NOT_FOUND", cached=0,
    ),
    Case(
        "SessionRestore", "after",
        _SESSION + """
        P.answer = {changed_count = 42, changed_artifact_count = 0}
        Session.save(ids.aside)
        for _ , n in ipairs{1, 2, 3} do State.save("session:" .. ids.aside, "new" .. n, n) end
        local plain = Session.create{name = "plain"}
        Session.save(plain)
        function P.go() return (Session.restore(plain)) end
        P.fail = P.go
        function P.data(c) return {changed_count = 41, changed_artifact_count = 0} end
        """,
        normal=0, modified=41, redirected=3, replaced=42, retried=0,
    ),
    Case(
        "BeforeEventEmit", "before",
        """
        P.target, P.answer = "hx.aside", {first_sequence = 1, last_sequence = 1}
        local inbox = Event.subscribe("hx.*")
        function P.go(n) return Event.publish("hx.told", {n = n}) end
        function P.fail() return Event.publish("bad type", 1) end
        function P.data(c) local d = c.data d.events[1].data.n = "m" return d end
        function P.see()
          local event = Event.receive(inbox, 0)
          return event and {event.event_type, event.data.n} or {"none"}
        end
        function P.see_again()
          local event = Event.receive(inbox, 0)
          return event and event.data.n or "none"
        end
        """,
        normal=["hx.told", "{n}"], modified=["hx.told", "m"], redirected=["hx.aside", "redirect"],
        replaced=["none"], failed="FIELD_INVALID", cached="none",
    ),
    Case(
        "AfterEventEmit", "after",
        """
        P.target, P.answer = "hx.later", {first_sequence = 1, last_sequence = 1}
        local inbox = Event.subscribe("hx.*")
        function P.go(n)
          Event.publish("hx.told", {n = n})
          local types = {}
          repeat
            local event = Event.receive(inbox, 0)
            types[#types + 1] = event and event.event_type
          until not event
          return table.concat(types, " ")
        end
        P.fail = P.go
        function P.reset() repeat until not Event.receive(inbox, 0) end
        function P.data(c) assert(c.data.first_sequence > 0) return c.data end
        """,
        normal="hx.told", modified="hx.told", redirected="hx.told hx.later", replaced="hx.told",
        retried="hx.told hx.told hx.told",
    ),
    Case(
        "EventHandlerError", "error",
        """
        P.target, P.answer = "hx.fine", {first_sequence = 1, last_sequence = 1}
        function P.go() return Event.publish("bad type", 1) end
        P.fail = P.go
        function P.data() return {message = "reworded"} end
        """,
        failed="FIELD_INVALID", redirected=True, replaced=True,
    ),
    Case(
        "ConfigurationChange", "after",
        """
        P.target, P.answer = "session:hx-aside", {revision = 1}
        local wanted = {session_id = "hx", vector_ttl = 60}
        function P.go() return RAG.configure_session(wanted).configured end
        P.fail = P.go
        function P.data(c) return c.data end
        """,
        normal=True, modified=True, redirected=True, replaced=True, retried=True,
    ),
    Case(
        "ResourceLimitExceeded", "error",
        """
        P.target, P.answer = "smaller", {revision = 1}
        local large = ("x"):rep(1200 * 1024)
        function P.go() return State.save("hx", "large", large) end
        P.fail = P.go
        function P.see() return "told" end
        function P.data() return "reworded" end
        """,
        failed="LIMIT_EXCEEDED", redirect_reason="LIMIT_EXCEEDED", replaced="told",
    ),
    Case(
        "SecurityViolation", "error",
        """
        P.target, P.answer = "other", {value = "r"}
        function P.go() return State.load("tenant:somebody-else", "k") end
        P.fail = P.go
        function P.data(c) assert(c.data.arguments.key == "k") return "reworded" end
        """,
        failed="PERMISSION_DENIED", redirect_reason="PERMISSION_DENIED", replaced="r",
    ),
    Case(
        "Custom(hx)", "custom",
        """
        P.target, P.answer = "hy", "r"
        Hook.register("Custom(hy)", function(c)
          return {type = "modified", data = "hy got " .. c.data}
        end)
        function P.go(n) return Hook.fire("hx", n) end
        P.fail = P.go
        function P.data(c) return c.data .. "!" end
        """,
        normal="{n}", modified="modified!", redirected="hy got redirect", replaced="r",
        retried="retry", cached="cache",
    ),
    Case("PerformanceThresholdExceeded", "notice", "Event.receive(Event.subscribe('x.y'), 1050) "
         "return told()"),
    Case(
        "MemoryUsageHigh", "notice",
        """
        local hold = {}
        repeat
          for i = 1, 4 do hold[#hold + 1] = (tostring(#hold)):rep(250000) end
          State.load("hx", "k")
        until Hook.stats(handles.continue).calls > 0
        hold = nil
        return told()
        """,
    ),
    Case(
        "CpuUsageHigh", "notice",
        """
        repeat
          local n = 0
          for i = 1, 2000000 do n = n + i end
          State.load("hx", "k")
        until Hook.stats(handles.continue).calls > 0
        return told()
        """,
        limits={"cpu_s": 1.5},
    ),
    Case("SystemStartup", "notice", "return told()"),
    Case(
        "SystemShutdown", "notice",
        "Hook.register(POINT, function() print(JSON.stringify(told())) end, 'lowest')",
    ),
    Case("ConfigurationChange", "notice", "Config.set('script.a', 1) return told()"),
    Case(
        "EventHandlerError", "notice",
        "Hook.register('Custom(x)', function() error('boom') end) Hook.fire('x') return told()",
    ),
)  # fmt: skip


def _argument(name, value):
    return lambda data: data | {name: value(data[name]) if callable(value) else value}


def _input(data):
    return data | {"arguments": data["arguments"] | {"input": "m"}}


_SCHEMAS = {"parameters_schema": "{}", "result_schema": "{}"}
_FOUND = {"tool": {"name": "r", "level": "SAFE"} | _SCHEMAS}


def _output(text):
    return {"success": True, "result": {"output": text}}


def _json(value):
    return {"item": {"key": "k", "value": {"json": json.dumps(value)}}}


# What a host's hook puts in place: (data → modified data, data of a replacement), plain trees as
# they travel. `ids` of the sessions are read from the run.
HOST = {
    "ToolValidation": (_input, _output("r")),
    "BeforeToolExecution": (_input, _output("r")),
    "AfterToolExecution": (lambda _: _output("m"), _output("r")),
    "ToolError": (lambda _: "reworded", _output("r")),
    "BeforeToolDiscovery": (_argument("name", "no-such-tool"), _FOUND),
    "AfterToolDiscovery": (
        lambda data: {"tool": data["tool"] | {"name": "m"}}, _FOUND,
    ),
    "BeforeStateRead": (_argument("key", "other"), _json("r")),
    "AfterStateRead": (lambda _: _json("m"), _json("r")),
    "BeforeStateWrite": (_argument("value", {"json": '"modified!"'}), {"revision": 1}),
    "AfterStateWrite": (lambda _: {"int_value": 41}, {"int_value": 42}),
    "StateConflict": (lambda _: "reworded", {"revision": 1}),
    "StateMigration": (
        _argument("to_version", "3.0.0"), {"migration": {"migration_id": "", "to_version": "9"}},
    ),
    "SessionStart": (
        lambda data: {"session": data["session"] | {"session_id": "m"}},
        {"session": {"session_id": "r"}},
    ),
    "SessionEnd": (None, {}),
    "SessionSave": (None, {}),
    "SessionCheckpoint": (None, {"checkpoint": {"checkpoint_id": "r"}}),
    "SessionRestore": (
        lambda _: {"changed_count": 41, "changed_artifact_count": 0},
        {"changed_count": 42, "changed_artifact_count": 0},
    ),
    "BeforeEventEmit": (
        lambda data: {"events": [data["events"][0] | {"json": '{"n": "m"}'}]},
        {"first_sequence": 1, "last_sequence": 1},
    ),
    "AfterEventEmit": (lambda data: data, {"first_sequence": 1, "last_sequence": 1}),
    "EventHandlerError": (
        lambda _: {"message": "reworded"}, {"first_sequence": 1, "last_sequence": 1},
    ),
    "ConfigurationChange": (lambda data: data, {"revision": 1}),
    "ResourceLimitExceeded": (lambda _: "reworded", {"revision": 1}),
    "SecurityViolation": (lambda _: "reworded", _json("r")),
}  # fmt: skip


def fill(expected: object, name: str) -> object:
    """What is expected, for one result."""
    return json.loads(json.dumps(expected).replace("{n}", name))
