-- Debug: levels, filters, captured lines, timers and profiles, dumps, the stack.

-- Levels. What is too fine is not written, and its message is not even made.
assert(Debug.getLevel() == "info" and Debug.isEnabled())
local made = 0
local function costly() made = made + 1 return "made" end
Debug.debug(costly)
Debug.log("trace", costly)
assert(made == 0)
Debug.info(costly)
assert(made == 1)
assert(Debug.setLevel("trace") and Debug.getLevel() == "trace" and not Debug.setLevel("loud"))
Debug.clearCaptured()
Debug.trace("t") Debug.debug("d") Debug.info("i") Debug.warn("w", "net") Debug.error("e")
Debug:log("info", {a = 1}, "net.http")
Debug.logWithData("warn", "with data", {n = 5, list = {1}}, "net")
local lines = Debug.getCapturedEntries()
assert(#lines == 7 and lines[1].message == "t" and lines[4].module == "net")
assert(lines[6].message == "{ a = 1, }" and lines[7].metadata.n == 5 and lines[7].level == "warn")
assert(lines[1].timestamp > 1e9 and lines[7].timestamp >= lines[1].timestamp)
assert(#Debug.getCapturedEntries(2) == 2 and Debug.getCapturedEntries(1)[1].message == "with data")
Debug.setEnabled(false)
Debug.error(costly)
assert(made == 1 and not Debug.isEnabled() and #Debug.getCapturedEntries() == 7)
Debug.setEnabled(true)
Debug.setLevel("off")
Debug.error(costly)
assert(made == 1)
assert(not pcall(Debug.log, "loud", "x"))

-- The ring keeps the last thousand.
Debug.setLevel("info")
Debug.clearCaptured()
assert(JSON.stringify(Debug.getCapturedEntries()) == "[]")
for i = 1, 1010 do Debug.info(i) end
lines = Debug.getCapturedEntries()
assert(#lines == 1000 and lines[1].message == "11" and lines[1000].message == "1010")

-- Filters: the last that speaks of a module decides.
local function heard(module)
  Debug.clearCaptured()
  Debug.info("x", module)
  return #Debug.getCapturedEntries() == 1
end
Debug.setDefaultFilterEnabled(false)
assert(not heard("net"))
Debug.addModuleFilter("net", true)
Debug.addModuleFilter("db.*", true)
assert(heard("net") and not heard("net.http") and heard("db.pool") and not heard("dbx"))
assert(Debug.addAdvancedFilter("net", "hierarchical", true) and heard("net.http") and not heard("nets"))
assert(Debug.addAdvancedFilter("^c%d+$", "regex") and heard("c42") and not heard("c4x"))
assert(Debug.addAdvancedFilter("net.noisy", "exact", false) and not heard("net.noisy"))
local rules = Debug.getFilterSummary()
assert(rules.total_rules == 5 and not rules.default_enabled and rules.rules[2].type == "wildcard")
assert(Debug.removeModuleFilter("net.noisy") and heard("net.noisy"))
assert(not Debug.removeModuleFilter("absent"))
for _, wrong in ipairs{{"[", "regex"}, {"x", "fuzzy"}, {5, "exact"}} do
  assert(not pcall(Debug.addAdvancedFilter, wrong[1], wrong[2]))
end
Debug.clearModuleFilters()
Debug.setDefaultFilterEnabled(true)
assert(Debug.getFilterSummary().total_rules == 0 and heard("net"))

-- Timers.
local timer = Debug.timer("work")
assert(type(timer.id) == "string" and timer:elapsed() >= 0 and timer:lap("half") and timer:lap("half"))
assert(Debug.recordEvent(timer, "begun", {n = 1}) and Debug.recordEvent("work", "named"))
assert(not Debug.recordEvent("nobody", "x"))
local ms = timer:stop()
assert(ms >= 0 and timer:stop() == nil and not timer:lap("late") and timer:elapsed() == ms)
local outer = Debug.timer("outer")
for _ = 1, 20 do Debug.timer("inner"):stop() end
outer:stop()
assert(Debug.profile("call", function(a, b) return a + b end, 2, 3) == 5)
assert(select(2, pcall(Debug.profile, "fails", error, "no", 0)) == "no")
local report = JSON.parse(Debug.jsonReport())
local inner = report.timers.inner
assert(inner.count == 20 and inner.p50 <= inner.p95 and inner.p95 <= inner.p99 and inner.p99 <= inner.max)
assert(report.timers.work.laps.half.count == 2 and #report.timers.work.events == 2)
assert(report.timers.fails.count == 1 and report.memory.used_bytes > 0)
local text = Debug.performanceReport()
assert(text:find("inner: 20, ", 1, true) and text:find("lap half: 2", 1, true) and text:find("p99"))
assert(Debug.flameGraph():find("\nouter;inner %d+"))
Debug.timer("left running")
local snapshot = Debug.memorySnapshot()
assert(snapshot.active_timers == 1 and snapshot.used_bytes > 0 and snapshot.captured_entries >= 0)
assert(Debug.memoryStats().used_bytes > 0)
Debug.resetTimers()
assert(Debug.flameGraph() == "" and not pcall(Debug.timer, ""))

-- Dumps.
local value = {1, "two\n", {x = true}, name = "v", ["odd key"] = 2.5}
value.me = value
assert(Debug.dump(value) == [[{
  1,
  "two\n",
  {
    x = true,
  },
  me = <cycle: value>,
  name = "v",
  ["odd key"] = 2.5,
}]], Debug.dump(value))
assert(Debug.dumpCompact({1, {2}}, "label") == "label = { 1, { 2, }, }")
assert(Debug.dumpVerbose({1, a = "x"}):find("(table, 2) {", 1, true))
assert(Debug.dumpVerbose({1, a = "x"}):find('a = (string) "x"', 1, true))
assert(Debug.dump(nil) == "nil" and Debug.dump("x") == '"x"' and Debug.dump({}) == "{}")
assert(Debug.dump(print) == "function" and Debug.dump({JSON.null, print}):find("null"))
local how = {max_depth = 1, max_array_elements = 2, max_string_length = 3, compact_mode = true}
assert(Debug.dumpWithOptions({"abcdef", {1, {2}}, 3}, how) == '{ "abc"… (6 bytes), {… 2}, … 1 more, }')
assert(Debug.dumpWithOptions({a = 1, b = 2}, {max_table_pairs = 1, indent_size = 0}) == "{\na = 1,\n… 1 more,\n}")
assert(not pcall(Debug.dumpWithOptions, 1, {max_dept = 1}))
local deep = {}
for _ = 1, 200 do deep = {deep} end
assert(#Debug.dump(deep) < 1000)
local wide = {}
for i = 1, 10000 do wide[i] = ("x"):rep(100) end
local all = {max_array_elements = 10000}
assert(#Debug.dumpWithOptions({wide, wide, wide, wide}, all) < 400000)
local loud = setmetatable({1}, {__index = error, __len = error, __pairs = error, __tostring = error})
assert(Debug.dump(loud):find("1,", 1, true))

-- The stack: the script's own functions, no address.
local function inside() return Debug.stackTrace(), Debug.stackTraceJson({max_depth = 2}) end
local function outside()
  local trace, json = inside()
  return trace, json
end
local trace, json = outside()
assert(trace:find("debug.lua:%d+: in function inside\n") and trace:find("in function outside\n"))
assert(trace:find("in main chunk") and not trace:find("llmspell") and not trace:find("0x"), trace)
local frames = JSON.parse(json)
assert(#frames == 2 and frames[1].name == "inside" and frames[1].line > 0)

return "done"
