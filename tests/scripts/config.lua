-- Config: what limits this run, and what it may.

local all = Config.get()
assert(type(all) == "table" and all.limits and all.security and all.permissions)
assert(Config.get("limits.wall_s") == all.limits.wall_s and Config:get("limits.wall_s") > 0)
assert(Config.get("limits").wall_s == all.limits.wall_s and Config.get("no.such") == nil)
assert(Config.get("limits.wall_s.deeper") == nil and Config.get("tenant") == all.tenant)
assert(Config.getLimits().memory_bytes == all.limits.memory_bytes)
assert(type(Config.getSection("security").allow_process_spawn) == "boolean" and Config.getSection("x") == nil)
assert(Config.getDefaultEngine() == "lua" and type(Config.getTools().enabled) == "boolean")
assert(type(Config.isFileAccessAllowed()) == "boolean")
assert(Config.isNetworkAccessAllowed() == Config.getSecurity().allow_network_access)
assert(Config.getProvider("openai") == nil)
for _, name in ipairs(Config.listProviders()) do
  local provider = Config.getProvider(name)
  assert(provider.name == name and provider.enabled and provider.provider_type)
end

local may = Config.getPermissions()
assert(may.read and not may.modify_security and not may.access_secrets and #may.key > 0)
assert(Config.get("permissions.key.1") == may.key[1])

-- Answers are copies.
all.limits.wall_s = -1
assert(Config.get("limits.wall_s") > 0)

-- What a script may not change is refused by name.
for name, call in pairs{
  setProvider = function() Config.setProvider("x", {}) end,
  setSecurity = function() Config:setSecurity({allow_file_access = true}) end,
  addAllowedPath = function() Config.addAllowedPath("/") end,
} do
  local ok, e = pcall(call)
  assert(not ok and e.reason == "PERMISSION_DENIED" and e.code == "PERMISSION_DENIED")
  assert(e.message:find("Config." .. name, 1, true) and e.metadata["function"] == "Config." .. name)
end
local ok, e = pcall(Config.set, "security.allow_file_access", true)
assert(not ok and e.reason == "PERMISSION_DENIED" and not Config.get("security.x"))

-- Its own settings it may change, and go back.
Config.set("script.batch", 5)
local before = Config.snapshot()
Config.set("script.batch", 7)
Config.set("script.deep.er", {1, 2})
assert(Config.get("script.batch") == 7 and Config.get("script.deep.er.2") == 2)
assert(Config.restoreSnapshot(before) and Config.get("script.batch") == 5)
assert(Config.get("script.deep") == nil)
for _, wrong in ipairs{0, 99, "x"} do
  local fine, why = pcall(Config.restoreSnapshot, wrong)
  assert(not fine and why.reason == "FIELD_INVALID")
end
assert(not pcall(Config.set, "script.f", print))

assert(JSON.parse(Config.toJson()).script.batch == 5)
assert(not Config.toJson():lower():find("llms_"))

return "done"
