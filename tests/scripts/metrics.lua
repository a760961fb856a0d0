-- Metrics: counters, gauges and histograms of the run.

assert(Metrics.increment("jobs") == 1 and Metrics.increment("jobs", 4) == 5 and Metrics:increment("jobs", 0) == 5)
assert(Metrics.counter("jobs", 0.5) == 5.5 and Metrics.get("jobs") == 5.5)
Metrics.increment("calls", 1, {kind = "a", ok = true})
assert(Metrics.get("calls", {ok = true, kind = "a"}) == 1 and Metrics.get("calls") == nil)
assert(Metrics.get("calls{kind=a,ok=true}") == 1)

assert(Metrics.gauge("depth", 7) == 7 and Metrics.gauge("depth") == 7 and Metrics.gauge("depth", -2) == -2)
assert(Metrics.gauge("absent") == nil)

for i = 1, 100 do Metrics.observe("size", i) end
Metrics.histogram("size", 101)
local size = Metrics.get("size")
assert(size.count == 101 and size.sum == 5151 and size.min == 1 and size.max == 101 and size.mean == 51)
assert(size.p50 == 51 and size.p95 == 96 and size.p99 == 100)

local stopwatch = Metrics.timer("wait", {step = 1})
local seconds = stopwatch:stop()
assert(seconds >= 0 and stopwatch:stop() == seconds and Metrics.get("wait", {step = 1}).count == 1)
assert(Metrics.time("sum", function(a, b) return a + b end, 1, 2) == 3 and Metrics.get("sum").count == 1)
assert(select(2, pcall(Metrics.time, "fails", error, "no", 0)) == "no" and Metrics.get("fails").count == 1)

local all = Metrics.all()
assert(all.counters.jobs == 5.5 and all.gauges.depth == -2 and all.histograms.size.count == 101)

for _, wrong in ipairs{
  function() Metrics.increment("") end, function() Metrics.increment("x", -1) end,
  function() Metrics.increment("x", 0 / 0) end, function() Metrics.gauge("x", 1e300) end,
  function() Metrics.observe("x", "5") end, function() Metrics.increment("x", 1, {a = {}}) end,
  function() Metrics.increment("\255") end, function() Metrics.time("x", 5) end,
} do
  local ok, e = pcall(wrong)
  assert(not ok and e.reason == "FIELD_INVALID", tostring(e))
end

-- There is an end to names.
Metrics.reset()
assert(Metrics.get("jobs") == nil)
for i = 1, 500 do Metrics.increment("n" .. i) end
local ok, e = pcall(Metrics.increment, "one more")
assert(not ok and e.reason == "LIMIT_EXCEEDED" and e.metadata.limit == 500)
assert(Metrics.increment("n1") == 2)
Metrics.reset()
Metrics.increment("kept", 3)

return "done"
