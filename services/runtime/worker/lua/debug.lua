-- `Debug`: what a script says of itself while it is made. Lines go to the run's log (log.lua). What is
-- switched off costs a comparison: no text is made and nobody is called.

local kit = ...

local log, json, options = kit.log, kit.json, kit.options
local pcall, type = pcall, type
local find, format, gsub, sub = string.find, string.format, string.gsub, string.sub
local concat, remove, getinfo = table.concat, table.remove, debug.getinfo

local Debug = {}
kit.env.Debug = Debug

local RANKS = log.RANKS
local FILTERS_MAX, PATTERN_BYTES_MAX = 100, 200

local function text_of(value, name)
  if type(value) ~= "string" then kit.invalid(name, "must be text, not a " .. type(value)) end
  return value
end

local function level_of(level)
  local rank = type(level) == "string" and RANKS[level]
  if not rank then kit.invalid("level", "must be one of off, error, warn, info, debug, trace") end
  return rank
end

-- Filters --------------------------------------------------------------------------------------

local filters, default_on = {}, true
-- What the filters say of a module, until they change.
local verdicts = {}

local MATCHES = {
  exact = function(pattern) return function(name) return name == pattern end end,
  hierarchical = function(pattern)
    local below = pattern .. "."
    return function(name) return name == pattern or sub(name, 1, #below) == below end
  end,
  wildcard = function(pattern)
    local made = gsub(gsub(pattern, "[%^%$%(%)%%%.%[%]%+%-]", "%%%0"), "[*?]", {["*"] = ".*", ["?"] = "."})
    return function(name) return find(name, "^" .. made .. "$") ~= nil end
  end,
  -- Lua's own patterns; what they cannot say is refused when the filter is made.
  regex = function(pattern)
    if not pcall(find, "", pattern) then kit.invalid("pattern", "is not a Lua pattern") end
    return function(name) return find(name, pattern) ~= nil end
  end,
}

local function add_filter(pattern, kind, on)
  text_of(pattern, "pattern")
  if #pattern > PATTERN_BYTES_MAX then
    kit.invalid("pattern", "must be at most " .. PATTERN_BYTES_MAX .. " bytes")
  end
  if not MATCHES[kind] then
    kit.invalid("type", "must be one of exact, hierarchical, regex, wildcard")
  end
  if #filters >= FILTERS_MAX then kit.invalid("filters", "must be at most " .. FILTERS_MAX) end
  if on == nil then on = true end
  options.flag(on, "enabled")
  filters[#filters + 1] = {
    pattern = pattern, type = kind, enabled = on, matches = MATCHES[kind](pattern),
  }
  verdicts = {}
  return true
end

-- The filter that was added last decides; where none speaks of the module, the default does.
local function is_wanted(module)
  if module == nil then return default_on or #filters > 0 end
  local verdict = verdicts[module]
  if verdict ~= nil then return verdict end
  verdict = default_on
  for i = 1, #filters do
    if filters[i].matches(module) then verdict = filters[i].enabled end
  end
  verdicts[module] = verdict
  return verdict
end

--| `Debug.addModuleFilter(pattern, on)`
--- Lines of which modules: a name, or with `*` and `?` a wildcard. The last filter that speaks of
--- a module decides.
Debug.addModuleFilter = kit.either_way(Debug, function(pattern, on)
  return add_filter(pattern, find(text_of(pattern, "pattern"), "[*?]") and "wildcard" or "exact", on)
end)

--| `Debug.addAdvancedFilter(pattern, type, on)`
--- `exact`, `wildcard`, `hierarchical` (it and what is below it), or `regex` (a Lua pattern).
Debug.addAdvancedFilter = kit.either_way(Debug, add_filter)

Debug.clearModuleFilters = kit.either_way(Debug, function() filters, verdicts = {}, {} end)

--| `Debug.removeModuleFilter(pattern)`, `Debug.clearModuleFilters()`,
--| `Debug.setDefaultFilterEnabled(on)`
--- What no filter speaks of is decided by the default.
Debug.removeModuleFilter = kit.either_way(Debug, function(pattern)
  local found = false
  for i = #filters, 1, -1 do
    if filters[i].pattern == pattern then
      remove(filters, i)
      found = true
    end
  end
  verdicts = {}
  return found
end)

Debug.setDefaultFilterEnabled = kit.either_way(Debug, function(on)
  default_on, verdicts = options.flag(on, "enabled"), {}
end)

--| `Debug.getFilterSummary()`
--- `{default_enabled, total_rules, rules}`.
Debug.getFilterSummary = kit.either_way(Debug, function()
  local rules = {}
  for i = 1, #filters do
    local one = filters[i]
    rules[i] = {pattern = one.pattern, type = one.type, enabled = one.enabled}
  end
  return {default_enabled = default_on, total_rules = #rules, rules = kit.list(rules)}
end)

-- Lines ----------------------------------------------------------------------------------------

local function line(rank, level, message, module, data)
  if not log.enabled or rank > log.rank or not is_wanted(module) then return end
  if module ~= nil then text_of(module, "module") end
  log.write(level, message, module, data)
end

--| `Debug.log(level, message, module)`
--- A line; `module` says of what part of the script it is.
Debug.log = kit.either_way(Debug, function(level, message, module)
  local rank = level_of(level)
  if rank > 0 then line(rank, level, message, module) end
end)

--| `Debug.logWithData(level, message, data, module)`
--- With any value beside it.
Debug.logWithData = kit.either_way(Debug, function(level, message, data, module)
  local rank = level_of(level)
  if rank > 0 then line(rank, level, message, module, data) end
end)

local function writer(level)
  local rank = RANKS[level]
  return kit.either_way(Debug, function(message, module) line(rank, level, message, module) end)
end
--| `Debug.trace(message, module)`, `Debug.debug`, `Debug.info`, `Debug.warn`, `Debug.error`
--- A line of that level.
Debug.trace, Debug.debug, Debug.info = writer("trace"), writer("debug"), writer("info")
Debug.warn, Debug.error = writer("warn"), writer("error")

--| `Debug.setLevel(level)`, `Debug.getLevel()`
--- `true`, or `false` where there is no such level.
Debug.setLevel = kit.either_way(Debug, function(level)
  if type(level) ~= "string" or not RANKS[level] then return false end
  log.level, log.rank = level, RANKS[level]
  return true
end)

Debug.getLevel = kit.either_way(Debug, function() return log.level end)
--| `Debug.setEnabled(on)`, `Debug.isEnabled()`
--- All of it, `Logger` too.
Debug.setEnabled = kit.either_way(Debug, function(on) log.enabled = options.flag(on, "enabled") end)
Debug.isEnabled = kit.either_way(Debug, function() return log.enabled end)

--| `Debug.getCapturedEntries(limit)`, `Debug.clearCaptured()`
--- The last lines, at most 1000: `{timestamp, level, message, module, metadata}`.
Debug.getCapturedEntries = kit.either_way(Debug, function(limit)
  if limit ~= nil then options.count(0)(limit, "limit") end
  return log.captured(limit)
end)

Debug.clearCaptured = kit.either_way(Debug, function() log.forget() end)

-- Values ---------------------------------------------------------------------------------------

local function dumper(how)
  return kit.either_way(Debug, function(value, label) return kit.dump(value, how, label) end)
end

--| `Debug.dump(value, label)`, `Debug.dumpCompact`, `Debug.dumpVerbose`
--- A value as text, cycles named, no address.
Debug.dump = dumper(nil)
Debug.dumpCompact = dumper(kit.dump_options.compact)
Debug.dumpVerbose = dumper(kit.dump_options.verbose)

--| `Debug.dumpWithOptions(value, options, label)`
--- `max_depth` (10), `indent_size`, `max_string_length`, `max_array_elements`, `max_table_pairs`,
--- `show_types`, `compact_mode`; `show_addresses` is taken and shows none.
Debug.dumpWithOptions = kit.either_way(Debug, function(value, given, label)
  return kit.dump(value, options.read(given, kit.dump_options.known), label)
end)

-- Debug.memoryStats() → bytes of the Lua heap: {used_bytes, allocated_bytes, resident_bytes, collections}.
local function memory_stats()
  local used = kit.integer(kit.memory_bytes() // 1)
  return {used_bytes = used, allocated_bytes = used, resident_bytes = used, collections = 0}
end
--| `Debug.memoryStats()`, `Debug.memorySnapshot()`
--- `{used_bytes, allocated_bytes, resident_bytes, collections}` of the Lua heap; `{timestamp,
--- used_bytes, active_timers, captured_entries}`.
Debug.memoryStats = kit.either_way(Debug, memory_stats)

-- The stack ------------------------------------------------------------------------------------

local FRAMES_MAX = 100
local TRACING = {
  max_depth = options.count(1, FRAMES_MAX), skip = options.count(0), capture_locals = options.flag,
  capture_upvalues = options.flag, include_source = options.flag,
}

-- The frames of the script, the innermost first; those of the API are left out.
local function frames(given)
  local set = options.read(given, TRACING)
  local found, skip, level = {}, set.skip or 0, 2
  while #found < (set.max_depth or FRAMES_MAX) do
    local info = getinfo(level, "Slnt")
    if not info then break end
    level = level + 1
    if info.what ~= "C" and not find(info.source, "=[llmspell ", 1, true) then
      if skip > 0 then
        skip = skip - 1
      else
        found[#found + 1] = {
          source = info.short_src, line = info.currentline, name = info.name,
          what = info.what, is_tail_call = info.istailcall,
        }
      end
    end
  end
  return kit.list(found)
end

--| `Debug.stackTrace(options)`, `Debug.stackTraceJson(options)`
--- The script's functions that are running, the innermost first. Options: `max_depth`, `skip`.
Debug.stackTrace = kit.either_way(Debug, function(given)
  local lines = {"stack trace:"}
  local found = frames(given)
  for i = 1, #found do
    local one = found[i]
    local name = one.what == "main" and "main chunk" or one.name and "function " .. one.name
      or "a function"
    lines[#lines + 1] = format("  %s:%d: in %s", one.source, one.line, name)
  end
  return concat(lines, "\n")
end)

-- Debug.stackTraceJson(options?) → the same as JSON: a list of {source, line, name, what}.
Debug.stackTraceJson = kit.either_way(Debug, function(given)
  local _, text = json.encode(frames(given), "frames")
  return text
end)

-- For the part that follows.
kit.debug = {memory_stats = memory_stats}
