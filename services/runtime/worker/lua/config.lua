-- `Config`: what this run may and what limits it, as the host said when it gave the run. It holds no
-- secret, because none is sent. A script reads it; its own settings, under `script`, it may write.

local kit = ...

local rawequal = rawequal
local json, null, options = kit.json, kit.null, kit.options
local next, rawget, tonumber, type = next, rawget, tonumber, type
local find, format, gmatch = string.find, string.format, string.gmatch
local sort = table.sort

local Config = {}
kit.env.Config = Config

local SNAPSHOTS_MAX = 100

local facts = {script = {}}
local snapshots, taken = {}, 0

-- A copy, so that what a script does to an answer changes no other answer.
local function copy(value)
  if type(value) ~= "table" or rawequal(value, null) then return value end
  local result = {}
  for key, inner in next, value do result[key] = copy(inner) end
  if next(result) == nil and kit.is_list(value) then kit.list(result) end
  return result
end

function kit.set_facts(given)
  facts = given
  facts.script = {}
  kit.run_id, kit.run_limits = given.run_id, given.limits
end

local function path_of(path, name)
  if type(path) ~= "string" or path == "" then kit.invalid(name, "must be text such as \"a.b\"") end
  return path
end

local function at(path)
  local found = facts
  for key in gmatch(path, "[^.]+") do
    if type(found) ~= "table" then return nil end
    local inner = rawget(found, key)
    if inner == nil then inner = rawget(found, kit.integer(tonumber(key)) or false) end
    found = inner
  end
  return found
end

--| `Config.get(path)`
--- All of it, or what is at a path such as `"limits.wall_s"`; `nil` where there is nothing.
Config.get = kit.either_way(Config, function(path)
  if path == nil then return copy(facts) end
  return copy(at(path_of(path, "path")))
end)

--| `Config.getSection(name)`
--- One part: `limits`, `security`, `permissions`, `tools`, `providers`, `runtime`, `script`.
Config.getSection = kit.either_way(Config, function(name) return copy(at(path_of(name, "name"))) end)

local function section(name)
  return kit.either_way(Config, function() return copy(facts[name] or {}) end)
end

--| `Config.getSecurity()`
--- `allow_file_access`, `allow_network_access` (of the run's tools), `allow_process_spawn`,
--- `max_memory_bytes`, `max_execution_time_ms`.
Config.getSecurity = section("security")
--| `Config.getTools()`, `Config.getDefaultEngine()`
--- `{enabled, levels, off, file_operations, network}`; `"lua"`.
Config.getTools = section("tools")
--| `Config.getPermissions()`
--- `read`, `modify_providers`, `modify_tools`, `modify_runtime`, `modify_security`,
--- `access_secrets`, `allowed_providers`, `allowed_tools`; `key` lists what the key may.
Config.getPermissions = section("permissions")
--| `Config.getLimits()`
--- `wall_s`, `cpu_s`, `memory_bytes`, `output_bytes`, `calls`, `script_bytes`, `value_bytes`,
--- `value_depth`, `value_nodes`.
Config.getLimits = section("limits")

Config.getDefaultEngine = kit.either_way(Config, function() return facts.default_engine or "lua" end)

--| `Config.getProvider(name)`, `Config.listProviders()`
--- `{name, enabled, provider_type, base_url, local}` of a provider that the run can use, or nil;
--- their names. `Provider` tells more.
Config.getProvider = kit.either_way(Config, function(name)
  return copy(rawget(facts.providers or {}, path_of(name, "name")))
end)

-- Config.listProviders() → their names, in order.
Config.listProviders = kit.either_way(Config, function()
  local names = {}
  for name in next, facts.providers or {} do names[#names + 1] = name end
  sort(names)
  return kit.list(names)
end)

local function allowed(name)
  return kit.either_way(Config, function() return (facts.security or {})[name] == true end)
end

--| `Config.isFileAccessAllowed()`, `Config.isNetworkAccessAllowed()`
--- Whether the run's tools may.
Config.isFileAccessAllowed = allowed("allow_file_access")
Config.isNetworkAccessAllowed = allowed("allow_network_access")

--| `Config.toJson()`
--- All of it as JSON.
Config.toJson = kit.either_way(Config, function()
  local ok, text = json.encode(facts, "config")
  if not ok then kit.unfit("config", text) end
  return text
end)

-- Changing -------------------------------------------------------------------------------------

local function refused(name, what)
  return kit.either_way(Config, function()
    kit.denied(
      format("A script may not change %s; the deployment's configuration does (%s).", what, name),
      {["function"] = name}
    )
  end)
end

-- Each raises PERMISSION_DENIED.
--| `Config.setProvider`, `Config.setSecurity`, `Config.addAllowedPath`
--- PERMISSION_DENIED: the deployment's configuration says these.
Config.setProvider = refused("Config.setProvider", "providers")
Config.setSecurity = refused("Config.setSecurity", "what it is allowed")
Config.addAllowedPath = refused("Config.addAllowedPath", "which files it is allowed")

--| `Config.set(path, value)`
--- A setting of the run's own, under `script`; any other is PERMISSION_DENIED.
Config.set = kit.either_way(Config, function(path, value)
  if not find(path_of(path, "path"), "^script%.") then
    kit.denied("A script may only change settings under script, not " .. path .. ".", {path = path})
  end
  local ok, text, cycle = json.encode(value, "value")
  if not ok then kit.unfit("value", text, cycle) end
  local keys = {}
  for key in gmatch(path, "[^.]+") do keys[#keys + 1] = key end
  local place = facts
  for i = 1, #keys - 1 do
    if type(rawget(place, keys[i])) ~= "table" then place[keys[i]] = {} end
    place = rawget(place, keys[i])
  end
  local _, kept = json.decode(text)
  place[keys[#keys]] = kept
  kit.hook_chain.tell("ConfigurationChange", {section = "script", path = path})
end)

--| `Config.snapshot()`, `Config.restoreSnapshot(id)`
--- Remembers the settings under `script`; goes back to them.
Config.snapshot = kit.either_way(Config, function()
  if taken >= SNAPSHOTS_MAX then
    kit.invalid("snapshot", format("has been taken %d times already, which is all", SNAPSHOTS_MAX))
  end
  taken = taken + 1
  snapshots[taken] = copy(facts.script)
  return taken
end)

Config.restoreSnapshot = kit.either_way(Config, function(id)
  local kept = snapshots[options.count(1)(id, "id")]
  if not kept then kit.invalid("id", "is not that of a snapshot") end
  facts.script = copy(kept)
  kit.hook_chain.tell("ConfigurationChange", {section = "script"})
  return true
end)
