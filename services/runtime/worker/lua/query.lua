-- `JSON`: text to values and back, and questions about values.

local kit = ...

local rawequal = rawequal
local json, query, options = kit.json, kit.query, kit.options
local error, type = error, type
local null = kit.null

local INDENT_MAX = 8

--| `JSON.null`
--- Null where nil cannot stand: in lists and maps.
local JSON = {null = null}
kit.env.JSON = JSON

local PARSING = {null = options.anything}

--| `JSON.parse(text, {null})`
--- Text to a value; also `JSON.decode`. An error says line and column. `null` in a list or map is
--- nil, or what is given as `null`.
JSON.parse = kit.either_way(JSON, function(text, given)
  if type(text) ~= "string" then
    error("JSON.parse: the text must be a string, not a " .. type(text), 2)
  end
  local ok, value = json.decode(text, options.read(given, PARSING).null)
  if not ok then error("JSON.parse: " .. value, 2) end
  return value
end)

local WRITING = {pretty = options.flag, indent = options.count(0, INDENT_MAX)}

--| `JSON.stringify(value, {pretty, indent})`
--- A value to text, keys in order; also `JSON.encode`. NaN and infinity become null. `pretty =
--- true` sets it out over lines.
JSON.stringify = kit.either_way(JSON, function(value, given)
  local set = options.read(given, WRITING)
  local ok, text = json.encode(value, "value")
  if not ok then error("JSON.stringify: " .. text, 2) end
  if set.pretty or set.indent then text = json.pretty(text, set.indent or 2) end
  return text
end)

JSON.encode, JSON.decode = JSON.stringify, JSON.parse

local function evaluate(name, value, text)
  if type(text) ~= "string" then
    error("JSON." .. name .. ": the query must be a string, not a " .. type(text), 3)
  end
  local ok, found = query.evaluate(text, value)
  if not ok then error("JSON." .. name .. ": " .. found, 3) end
  return found
end

local function nothing(value)
  if rawequal(value, null) then return nil end
  return value
end

--| `JSON.query(value, query)`
--- The value of a query in a part of jq's language; the list of them where there are several; nil
--- where there is none.
JSON.query = kit.either_way(JSON, function(value, text)
  local found = evaluate("query", value, text)
  if #found > 1 then return found end
  return nothing(found[1])
end)

--| `JSON.query_all(value, query)`
--- The list of all its values.
JSON.query_all = kit.either_way(JSON, function(value, text)
  return evaluate("query_all", value, text)
end)
