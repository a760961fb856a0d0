-- `require` and `package`. A script is one text and has no files, so there is nothing to search: what
-- can be required are Lua's own libraries, the globals of the API, and what the script itself puts
-- into package.preload.

local kit = ...

local env = kit.env
local error, rawget, type = error, rawget, type

local ALIASES = {json = "JSON", cjson = "JSON", dkjson = "JSON"}

local package = {path = "", cpath = "", config = "/\n;\n?\n!\n-\n", loaded = {}, preload = {}}
env.package = package

for name, library in kit.pairs(env) do
  if type(library) == "table" and name ~= "_G" and name ~= "package" then
    package.loaded[name] = library
  end
end
package.loaded._G = env
-- As in Lua itself: a script that puts other tables in their place changes nothing.
local loaded, preload = package.loaded, package.preload

-- A global that is off cannot be required either.
function kit.unload(name)
  loaded[name] = nil
end

function env.require(name)
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
  end
  local found = rawget(loaded, name)
  if found ~= nil then return found end
  local loader = rawget(preload, name)
  if type(loader) == "function" then
    local made = loader(name, ":preload:")
    if made == nil then made = rawget(loaded, name) end
    if made == nil then made = true end
    loaded[name] = made
    return made, ":preload:"
  end
  local alias = ALIASES[name]
  if alias and rawget(loaded, alias) ~= nil then return rawget(loaded, alias) end
  error(
    "module '" .. name .. "' not found: a script has no files;\n\tno field package.preload['" .. name
      .. "']", 2
  )
end
