-- `Utils`: small things on tables and text that scripts else write again and again.

local kit = ...

local rawequal = rawequal
local null = kit.null
local next, rawget, setmetatable, type = next, rawget, setmetatable, type
local find, match, sub = string.find, string.match, string.sub

local Utils = {}
kit.env.Utils = Utils

local function table_of(value, name)
  if type(value) ~= "table" then kit.invalid(name, "must be a table, not a " .. type(value)) end
  return value
end

local function text_of(value, name)
  if type(value) ~= "string" then kit.invalid(name, "must be text, not a " .. type(value)) end
  return value
end

--| `Utils.copy(value)`
--- A deep copy.
Utils.copy = kit.either_way(Utils, function(value)
  local made = {}
  local function copy(one)
    if type(one) ~= "table" or rawequal(one, null) then return one end
    if made[one] then return made[one] end
    local result = {}
    made[one] = result
    for key, inner in next, one do result[copy(key)] = copy(inner) end
    if kit.is_list(one) then kit.list(result) end
    local meta = kit.getmetatable(one)
    if type(meta) == "table" then kit.setmetatable(result, meta) end
    return result
  end
  return copy(value)
end)

--| `Utils.equals(a, b)`
--- Whether they hold the same, however deep.
Utils.equals = kit.either_way(Utils, function(a, b) return kit.compare(a, b).identical end)

--| `Utils.merge(a, b)`
--- What `b` has, and of `a` the rest.
Utils.merge = kit.either_way(Utils, function(a, b)
  local function merge(one, other, depth)
    if depth > kit.limits.depth then kit.invalid("b", "is nested deeper than " .. kit.limits.depth) end
    local result = {}
    for key, value in next, one do result[key] = value end
    for key, value in next, other do
      local old = rawget(result, key)
      local both = type(old) == "table" and type(value) == "table"
      if both and not rawequal(old, null) and not rawequal(value, null) then
        value = merge(old, value, depth + 1)
      end
      result[key] = value
    end
    return result
  end
  return merge(table_of(a, "a"), table_of(b, "b"), 0)
end)

--| `Utils.keys(t)`, `Utils.values(t)`
--- In order.
Utils.keys = kit.either_way(Utils, function(value)
  local found = {}
  for key in kit.pairs(table_of(value, "t")) do found[#found + 1] = key end
  return kit.list(found)
end)

Utils.values = kit.either_way(Utils, function(value)
  local found = {}
  for _, inner in kit.pairs(table_of(value, "t")) do found[#found + 1] = inner end
  return kit.list(found)
end)

--| `Utils.split(text, separator)`, `Utils.trim(text)`
--- Parts of a text; a text without the blanks at its ends.
Utils.split = kit.either_way(Utils, function(text, separator)
  text_of(text, "text")
  separator = separator == nil and "," or text_of(separator, "separator")
  if separator == "" then kit.invalid("separator", "must not be empty") end
  local parts, at = {}, 1
  while true do
    local from, to = find(text, separator, at, true)
    parts[#parts + 1] = sub(text, at, from and from - 1)
    if not from then return kit.list(parts) end
    at = to + 1
  end
end)

-- Utils.trim(text) → without the blanks at both ends.
Utils.trim = kit.either_way(Utils, function(text)
  local inner = match(text_of(text, "text"), "^%s*(.*)")
  local stop = #inner
  while stop > 0 and find(sub(inner, stop, stop), "%s") do stop = stop - 1 end
  return sub(inner, 1, stop)
end)
