-- `Metrics`: counters, gauges and histograms of the run. The script reads them; the caller is told them
-- once, when the run has ended.

local kit = ...

local json, measure, options = kit.json, kit.measure, kit.options
local error, pcall, setmetatable, type = error, pcall, setmetatable, type
local concat, pack, unpack = table.concat, table.pack, table.unpack
local add, new, summary = measure.add, measure.new, measure.summary
local checked_name, entry_of = measure.checked_name, measure.entry_of

local METRICS_BYTES_MAX, NUMBER_MAX = 64 * 1024, 1e290

local counts = {counters = 0, gauges = 0, histograms = 0}

local Metrics = {}
kit.env.Metrics = Metrics

local counters, gauges, histograms = {}, {}, {}

-- So that no sum of them is infinite.
local function number(value, field)
  if type(value) ~= "number" or not (value >= -NUMBER_MAX and value <= NUMBER_MAX) then
    kit.invalid(field, "must be a number between -1e290 and 1e290")
  end
  return value
end

-- A counter or gauge of a name; labels make part of the name: requests{kind=a}.
local function key_of(name, labels)
  checked_name(name)
  if labels == nil then return name end
  options.table(labels, "labels")
  local parts = {}
  for label, value in kit.pairs(labels) do
    local kind = type(value)
    if type(label) ~= "string" or (kind ~= "string" and kind ~= "number" and kind ~= "boolean") then
      kit.invalid("labels", "must be names with text, numbers, true or false")
    end
    parts[#parts + 1] = label .. "=" .. kit.tostring(value)
  end
  if #parts == 0 then return name end
  return checked_name(name .. "{" .. concat(parts, ",") .. "}")
end

local function nothing() return 0 end

-- Metrics.increment(name, by = 1, labels?) → the counter's sum; it only grows.
local function increment(name, by, labels)
  by = by == nil and 1 or number(by, "by")
  if by < 0 then kit.invalid("by", "must not be negative; a gauge goes down") end
  local key = key_of(name, labels)
  entry_of(counters, counts, "counters", key, nothing)
  counters[key] = counters[key] + by
  return counters[key]
end
--| `Metrics.increment(name, by, labels)`, also `Metrics.counter`
--- Adds 1 or `by` to a counter; its sum.
Metrics.increment = kit.either_way(Metrics, increment)
Metrics.counter = Metrics.increment

--| `Metrics.gauge(name, value, labels)`
--- Sets a gauge; without a value reads it.
Metrics.gauge = kit.either_way(Metrics, function(name, value, labels)
  local key = key_of(name, labels)
  if value == nil then return gauges[key] end
  number(value, "value")
  entry_of(gauges, counts, "gauges", key, nothing)
  gauges[key] = value
  return value
end)

local function observe(name, value, labels)
  local key = key_of(name, labels)
  add(entry_of(histograms, counts, "histograms", key, new), number(value, "value"))
end

--| `Metrics.observe(name, value, labels)`, also `Metrics.histogram`
--- Adds a value to a histogram.
Metrics.observe = kit.either_way(Metrics, observe)
Metrics.histogram = Metrics.observe

local Stopwatch = {__name = "stopwatch", __metatable = false}
Stopwatch.__index = Stopwatch
local watches = setmetatable({}, {__mode = "k"})

-- stopwatch:stop() → seconds; they are added to its histogram once.
function Stopwatch:stop()
  local watch = watches[self]
  if not watch then error("stopwatch:stop: call it with a colon on a stopwatch", 2) end
  if watch.seconds then return watch.seconds end
  watch.seconds = kit.elapsed() - watch.began
  observe(watch.name, watch.seconds, watch.labels)
  return watch.seconds
end

--| `Metrics.timer(name, labels)`
--- A stopwatch; its `:stop()` adds the seconds to the histogram.
Metrics.timer = kit.either_way(Metrics, function(name, labels)
  key_of(name, labels)
  local stopwatch = setmetatable({}, Stopwatch)
  watches[stopwatch] = {name = name, labels = labels, began = kit.elapsed()}
  return stopwatch
end)

--| `Metrics.time(name, fn, …)`
--- Calls it; its seconds are added.
Metrics.time = kit.either_way(Metrics, function(name, fn, ...)
  checked_name(name)
  if type(fn) ~= "function" then kit.invalid("fn", "must be a function, not a " .. type(fn)) end
  local began = kit.elapsed()
  local results = pack(pcall(fn, ...))
  observe(name, kit.elapsed() - began)
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, results.n)
end)

local function all()
  local found = {counters = {}, gauges = {}, histograms = {}}
  for name, value in kit.pairs(counters) do found.counters[name] = value end
  for name, value in kit.pairs(gauges) do found.gauges[name] = value end
  for name, samples in kit.pairs(histograms) do found.histograms[name] = summary(samples) end
  return found
end

--| `Metrics.get(name, labels)`
--- A sum, a value, or `{count, sum, mean, min, max, p50, p95, p99}`.
Metrics.get = kit.either_way(Metrics, function(name, labels)
  local key = key_of(name, labels)
  if counters[key] then return counters[key] end
  if gauges[key] then return gauges[key] end
  return histograms[key] and summary(histograms[key]) or nil
end)

--| `Metrics.all()`, `Metrics.reset()`
--- `{counters, gauges, histograms}`; forgets them.
Metrics.all = kit.either_way(Metrics, all)

-- Metrics.reset() forgets all.
Metrics.reset = kit.either_way(Metrics, function()
  counters, gauges, histograms = {}, {}, {}
  counts.counters, counts.gauges, counts.histograms = 0, 0, 0
end)

-- The JSON of all, or nil where the script measured nothing or too much to tell.
function kit.metrics()
  if counts.counters + counts.gauges + counts.histograms == 0 then return nil end
  local ok, text = json.encode(all(), "metrics")
  return ok and #text <= METRICS_BYTES_MAX and text or nil
end
