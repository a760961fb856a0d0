-- `Replay`: how a run or a session is made again. What is built here is given to `Session.replay`.

local kit = ...

local json, options, schedules = kit.json, kit.options, kit.schedules
local error, setmetatable, type = error, setmetatable, type
local find = string.find

local Replay = {}
kit.env.Replay = Replay

local TIMEOUT_S, MODIFICATIONS_MAX = 300, 100

-- Modes ----------------------------------------------------------------------------------------

local Mode = {__name = "mode", __metatable = false}
Mode.__index = Mode
local names = setmetatable({}, {__mode = "k"})

-- mode:name() → exact, modified, simulate or debug.
function Mode:name() return names[self] end
function Mode:__tostring() return names[self] end
function Mode.__concat(a, b) return kit.tostring(a) .. kit.tostring(b) end

local modes = {}
for _, name in kit.pairs({"exact", "modified", "simulate", "debug"}) do
  modes[name] = setmetatable({}, Mode)
  names[modes[name]] = name
end

--| `Replay.modes`
--- `exact` (answers come from the journal), `modified` (chosen answers are replaced), `simulate`
--- (nothing is written), `debug` (it stops at a call). Each has `:name()`.
Replay.modes = {
  exact = modes.exact, modified = modes.modified, simulate = modes.simulate, debug = modes.debug,
}

local function mode_of(mode)
  local name = type(mode) == "table" and names[mode] or mode
  if type(name) ~= "string" or not modes[name] then
    kit.invalid("mode", "must be one of exact, modified, simulate, debug")
  end
  return modes[name]
end

-- Modifications --------------------------------------------------------------------------------

local Modification = {__name = "modification", __metatable = false}
Modification.__index = Modification
local changes = setmetatable({}, {__mode = "k"})

local function change_of(modification)
  local change = type(modification) == "table" and changes[modification]
  if not change then error("call it with a colon on a modification", 3) end
  return change
end

function Modification:get_path() return change_of(self).path end
function Modification:get_value() return change_of(self).value end
function Modification:is_enabled() return change_of(self).enabled end
function Modification:set_enabled(on) change_of(self).enabled = options.flag(on, "enabled") end

local function modification(path, value, enabled)
  if type(path) ~= "string" or path == "" then kit.invalid("path", "must be text") end
  if enabled == nil then enabled = true end
  local ok, text, cycle = json.encode(value, "value")
  if not ok then kit.unfit("value", text, cycle) end
  local made = setmetatable({}, Modification)
  changes[made] = {path = path, value = value, enabled = options.flag(enabled, "enabled")}
  return made
end

--| `Replay.create_modification(path, value, enabled)`
--- An answer that is replaced: `:get_path()`, `:get_value()`, `:is_enabled()`, `:set_enabled(on)`.
Replay.create_modification = kit.either_way(Replay, modification)

-- Configurations -------------------------------------------------------------------------------

local Config = {__name = "replay config", __metatable = false}
Config.__index = Config
local configs = setmetatable({}, {__mode = "k"})

local function config_of(config)
  local state = type(config) == "table" and configs[config]
  if not state then error("call it with a colon on a replay config", 3) end
  return state
end

function Config:get_mode() return config_of(self).mode end
function Config:should_compare_results() return config_of(self).compare_results end
function Config:get_timeout_seconds() return config_of(self).timeout_seconds end
function Config:should_stop_on_error() return config_of(self).stop_on_error end

function Config:get_modifications()
  local found = {}
  for i, one in kit.pairs(config_of(self).modifications) do found[i] = one end
  return kit.list(found)
end

-- config:add_modification(path, value, enabled), or of one that was made.
function Config:add_modification(path, value, enabled)
  local all = config_of(self).modifications
  if #all >= MODIFICATIONS_MAX then
    kit.invalid("modifications", "must be at most " .. MODIFICATIONS_MAX)
  end
  all[#all + 1] = changes[path] and path or modification(path, value, enabled)
  return self
end

function Config:set_compare_results(on)
  config_of(self).compare_results = options.flag(on, "compare_results")
  return self
end

function Config:set_timeout_seconds(seconds)
  config_of(self).timeout_seconds = options.seconds(seconds, "timeout_seconds")
  return self
end

function Config:set_stop_on_error(on)
  config_of(self).stop_on_error = options.flag(on, "stop_on_error")
  return self
end

local GIVEN = {
  compare_results = options.flag, timeout_seconds = options.seconds, stop_on_error = options.flag,
}

--| `Replay.create_config(mode, options)`
--- `:get_mode()`, `:should_compare_results()`, `:get_timeout_seconds()` (300),
--- `:should_stop_on_error()`, `:get_modifications()`, `:add_modification(path, value, enabled)`,
--- `:set_compare_results(on)`, `:set_timeout_seconds(n)`, `:set_stop_on_error(on)`. Options:
--- `compare_results`, `timeout_seconds`, `stop_on_error`.
Replay.create_config = kit.either_way(Replay, function(mode, given)
  local set = options.read(given, GIVEN)
  local config = setmetatable({}, Config)
  configs[config] = {
    mode = mode_of(mode == nil and "exact" or mode),
    compare_results = set.compare_results ~= false,
    timeout_seconds = set.timeout_seconds or TIMEOUT_S,
    stop_on_error = set.stop_on_error == true, modifications = {},
  }
  return config
end)

-- What Session.replay is given: a configuration, a mode or nothing, as a plain table; any other table
-- as it is.
function kit.replay_options(given)
  if given == nil then return {mode = "exact"} end
  if type(given) == "string" or names[given] then return {mode = names[mode_of(given)]} end
  local state = configs[given]
  if not state then
    if type(given) == "table" and names[given.mode] then
      local plain = {}
      for name, value in kit.pairs(given) do plain[name] = value end
      plain.mode = names[given.mode]
      return plain
    end
    return given
  end
  local list = {}
  for _, one in kit.pairs(state.modifications) do
    local change = changes[one]
    if change.enabled then list[#list + 1] = {path = change.path, value = change.value} end
  end
  return {
    mode = names[state.mode], compare_results = state.compare_results,
    timeout_seconds = state.timeout_seconds, stop_on_error = state.stop_on_error,
    modifications = kit.list(list),
  }
end

-- Schedules and comparison ---------------------------------------------------------------------

-- Replay.schedules.once(seconds), .interval(initial, interval, max?), .cron("min hour day month wday"):
-- when something is due. They tell times; nothing runs by them.
Replay.schedules = {}
--| `Replay.schedules.once(seconds)`, `Replay.schedules.interval(initial, interval, max)`,
--| `Replay.schedules.cron(expr)`
--- When something is due, in UTC: `:type_name()`, `:next(after)`, `:next_times(count, after)`.
--- Nothing runs by them.
Replay.schedules.once = kit.either_way(Replay.schedules, schedules.once)
Replay.schedules.interval = kit.either_way(Replay.schedules, schedules.interval)
Replay.schedules.cron = kit.either_way(Replay.schedules, schedules.cron)

local Comparator = {__name = "comparator", __metatable = false}
Comparator.__index = Comparator

-- JSON text is read; text that is none, and any other value, is taken as it is.
local function value_of(given)
  if type(given) ~= "string" or not find(given, '^%s*[%[{"%dtfn-]') then return given end
  local ok, value = json.decode(given, kit.null)
  if ok then return value end
  return given
end

-- comparator:compare_json(a, b) → {identical, similarity_score, summary, differences = {{path, kind,
-- description}, …}}, of JSON texts or of values.
function Comparator:compare_json(a, b) return kit.compare(value_of(a), value_of(b)) end

--| `Replay.create_comparator()`
--- Its `:compare_json(a, b)` gives `{identical, similarity_score, summary, differences}` of JSON
--- texts or values; a difference has `path`, `kind` (`added`, `removed`, `changed`, `type`) and
--- `description`.
Replay.create_comparator = kit.either_way(Replay, function() return setmetatable({}, Comparator) end)
