-- Values as `JSON.query` sees them: kinds, order, arithmetic. An absent value is kit.null. What a
-- query costs is counted here: each step, and each part of a list or text that is copied.

local kit = ...

local rawequal = rawequal
local query, tree, json = kit.query, kit.tree, kit.json
local error, rawget, setmetatable, type = error, rawget, setmetatable, type
local ceil, floor, fmod, math_type, huge = math.ceil, math.floor, math.fmod, math.type, math.huge
local find, rep, sub = string.find, string.rep, string.sub
local utf8_char, utf8_codes, utf8_len = utf8.char, utf8.codes, utf8.len
local integer, null = kit.integer, kit.null
local fail = query.fail

local STEPS_MAX = 2000000

local value = {}
query.value = value

-- Of the query that runs; a query runs no code of the script, so there is one at a time.
local steps_left, shapes = 0, nil

function value.begin()
  steps_left, shapes = STEPS_MAX, setmetatable({}, {__mode = "k"})
end

function value.finish()
  shapes = nil
end

function value.spend(count)
  steps_left = steps_left - count
  -- Final: a `try` does not catch it.
  if steps_left < 0 then error({tree = "more than " .. STEPS_MAX .. " steps", final = true}, 0) end
end
local spend = value.spend

-- A table's length where it is a list, else its keys in order; looked at once in a query.
local function shape_of(subject)
  local shape = shapes[subject]
  if shape then return shape end
  local length = tree.list_length(subject)
  if length then
    spend(length // 8 + 1)
    shape = {length = length}
  else
    local names, originals = tree.keys(tree.walk("value"), subject)
    spend(#names + 1)
    shape = {names = names, originals = originals}
  end
  shapes[subject] = shape
  return shape
end
value.shape_of = shape_of

function value.list(entries)
  shapes[tree.list(entries)] = {length = #entries}
  return entries
end

function value.kind(subject)
  if rawequal(subject, null) then return "null" end
  local kind = type(subject)
  if kind == "table" then return shape_of(subject).length and "array" or "object" end
  if kind == "boolean" or kind == "number" or kind == "string" then return kind end
  fail("a %s is no JSON value", kind)
end
local kind_of = value.kind

-- Lua has one empty table for lists and maps: where a list is wanted, it is one.
function value.is_empty_map(subject)
  if type(subject) ~= "table" or rawequal(subject, null) then return false end
  local names = shape_of(subject).names
  return names ~= nil and #names == 0
end

function value.is_true(subject) return not rawequal(subject, null) and subject ~= false end

-- The value of an object's key or a list's position (from 0; from the end when negative).
function value.at(subject, key)
  local kind, of = kind_of(subject), kind_of(key)
  if kind == "null" and (of == "string" or of == "number") then return null end
  local found
  if kind == "object" and of == "string" then
    local original = shape_of(subject).originals[key]
    if original ~= nil then found = rawget(subject, original) end
  elseif kind == "array" and of == "number" then
    local position = floor(key)
    if position < 0 then position = position + shape_of(subject).length end
    found = rawget(subject, integer(position) and position + 1 or 0)
  elseif kind ~= "object" or of ~= "number" or not value.is_empty_map(subject) then
    fail("%s has no %s", kind, of == "string" and "key " .. sub(key, 1, 40) or of .. " in it")
  end
  if found == nil then return null end
  return found
end

-- The part of a list or text from `start` until before `stop`, both from 0.
function value.part(subject, start, stop)
  local kind = kind_of(subject)
  if kind == "null" then return null end
  if kind ~= "array" and kind ~= "string" then fail("%s has no parts", kind) end
  local length = kind == "array" and shape_of(subject).length or #subject
  local function place(given, otherwise, round)
    if rawequal(given, null) then return otherwise end
    if type(given) ~= "number" then fail("a part begins and ends at numbers") end
    local at = round(given)
    if at < 0 then at = at + length end
    return at < 0 and 0 or at > length and length or integer(at)
  end
  local first, last = place(start, 0, floor), place(stop, length, ceil)
  if kind == "string" then return sub(subject, first + 1, last) end
  local entries = {}
  for i = first + 1, last do entries[#entries + 1] = rawget(subject, i) end
  spend(#entries)
  return value.list(entries)
end

-- Order ----------------------------------------------------------------------------------------

local RANK = {null = 1, boolean = 2, number = 4, string = 5, array = 6, object = 7}
local compare

local function compare_lists(a, b)
  local x, y = shape_of(a).length, shape_of(b).length
  for i = 1, x < y and x or y do
    local order = compare(rawget(a, i), rawget(b, i))
    if order ~= 0 then return order end
  end
  return x < y and -1 or x > y and 1 or 0
end

-- First by their keys, then by what they hold.
local function compare_maps(a, b)
  local x, y = shape_of(a), shape_of(b)
  for i = 1, #x.names do
    local ours, theirs = x.names[i], y.names[i]
    if theirs == nil then return 1 end
    if ours ~= theirs then return ours < theirs and -1 or 1 end
  end
  if #x.names < #y.names then return -1 end
  for i = 1, #x.names do
    local name = x.names[i]
    local order = compare(rawget(a, x.originals[name]), rawget(b, y.originals[name]))
    if order ~= 0 then return order end
  end
  return 0
end

-- -1, 0 or 1: null, false, true, numbers, text, lists, objects.
function compare(a, b)
  spend(1)
  local kind = type(a)
  if kind == type(b) and (kind == "number" or kind == "string") then
    return a < b and -1 or a > b and 1 or 0
  end
  local x, y = kind_of(a), kind_of(b)
  if x ~= y then return RANK[x] < RANK[y] and -1 or 1 end
  if x == "boolean" then return a == b and 0 or (b and -1 or 1) end
  if x == "null" then return 0 end
  if x == "array" then return a == b and 0 or compare_lists(a, b) end
  if x == "object" then return a == b and 0 or compare_maps(a, b) end
  return a < b and -1 or a > b and 1 or 0
end
value.compare = compare

-- Sorted by the keys that stand beside the entries, equal ones as they were: merged, so that no
-- order, however odd, can break it.
function value.sorted(entries, keys)
  local count, order, spare = #entries, {}, {}
  for i = 1, count do order[i] = i end
  local width = 1
  while width < count do
    for from = 1, count, 2 * width do
      local middle, stop = from + width, from + 2 * width
      if stop > count + 1 then stop = count + 1 end
      if middle > stop then middle = stop end
      local left, right = from, middle
      for at = from, stop - 1 do
        local take_left = left < middle
          and (right >= stop or compare(keys[order[left]], keys[order[right]]) <= 0)
        if take_left then
          spare[at], left = order[left], left + 1
        else
          spare[at], right = order[right], right + 1
        end
      end
    end
    order, spare, width = spare, order, 2 * width
  end
  return order
end

-- Arithmetic -----------------------------------------------------------------------------------

local function sized(text)
  if #text > kit.limits.bytes then fail("text of more than %d bytes", kit.limits.bytes) end
  spend(#text // 64 + 1)
  return text
end
value.sized = sized

function value.copy(subject)
  local shape, result = shape_of(subject), {}
  if shape.length then
    spend(shape.length)
    for i = 1, shape.length do result[i] = rawget(subject, i) end
    return value.list(result)
  end
  spend(#shape.names)
  for i = 1, #shape.names do
    local name = shape.names[i]
    result[name] = rawget(subject, shape.originals[name])
  end
  return result
end

-- A changed copy must be looked at again.
function value.changed(subject)
  shapes[subject] = nil
  return subject
end

local function merge(a, b, deep)
  local result, shape = value.copy(a), shape_of(b)
  for i = 1, #shape.names do
    local name = shape.names[i]
    local given = rawget(b, shape.originals[name])
    local old = result[name]
    if deep and old ~= nil and kind_of(old) == "object" and kind_of(given) == "object" then
      given = merge(old, given, true)
    end
    result[name] = given
  end
  return value.changed(result)
end

local ADD = {
  number = function(a, b) return a + b end,
  string = function(a, b) return sized(a .. b) end,
  object = function(a, b) return merge(a, b, false) end,
  array = function(a, b)
    local result, count = value.copy(a), shape_of(a).length
    local more = shape_of(b).length
    spend(more)
    for i = 1, more do result[count + i] = rawget(b, i) end
    return value.list(result)
  end,
}

local function without(a, b)
  local result, more = {}, shape_of(b).length
  for i = 1, shape_of(a).length do
    local entry, keep = rawget(a, i), true
    for j = 1, more do
      if compare(entry, rawget(b, j)) == 0 then keep = false end
    end
    if keep then result[#result + 1] = entry end
  end
  return value.list(result)
end

local function split(text, separator)
  local parts, at = {}, 1
  if text == "" then return value.list(parts) end
  spend(#text // 16 + 1)
  if separator == "" then
    if not utf8_len(text) then fail("text that is not UTF-8") end
    for _, code in utf8_codes(text) do parts[#parts + 1] = utf8_char(code) end
    return value.list(parts)
  end
  while true do
    local from, to = find(text, separator, at, true)
    parts[#parts + 1] = sub(text, at, from and from - 1)
    if not from then return value.list(parts) end
    at = to + 1
  end
end
value.split = split

local NUMBERS = {
  ["-"] = function(a, b) return a - b end,
  ["*"] = function(a, b) return a * b end,
  ["/"] = function(a, b)
    if b == 0 then fail("division by zero") end
    -- 6 / 3 is 2 and not 2.0, as in JSON.
    return math_type(a) == "integer" and math_type(b) == "integer" and a % b == 0 and a // b or a / b
  end,
  ["%"] = function(a, b)
    if a ~= a or b ~= b or a == huge or a == -huge then fail("a remainder of no number") end
    a, b = integer(a < 0 and -floor(-a) or floor(a)), integer(b < 0 and -floor(-b) or floor(b))
    if not a or not b then fail("a remainder of numbers that are too large") end
    if b == 0 then fail("division by zero") end
    return fmod(a, b)
  end,
}

function value.arithmetic(name, a, b)
  spend(1)
  local x, y = kind_of(a), kind_of(b)
  if name == "+" then
    if x == "null" then return b end
    if y == "null" then return a end
    if x == y and ADD[x] then return ADD[x](a, b) end
    if x == "array" and value.is_empty_map(b) then return a end
    if y == "array" and value.is_empty_map(a) then return b end
  elseif x == "number" and y == "number" then
    return NUMBERS[name](a, b)
  elseif name == "-" and x == "array" and y == "array" then
    return without(a, b)
  elseif name == "/" and x == "string" and y == "string" then
    return split(a, b)
  elseif name == "*" and x == "object" and y == "object" then
    return merge(a, b, true)
  elseif name == "*" and x == "string" and y == "number" then
    if b <= 0 then return null end
    local times = integer(ceil(b))
    if not times or #a * times > kit.limits.bytes then
      fail("text of more than %d bytes", kit.limits.bytes)
    end
    return sized(rep(a, times))
  end
  fail("%s %s %s is not possible", x, name, y)
end

-- A value as text: text as it is, all else as JSON.
function value.text(subject)
  if type(subject) == "string" then return subject end
  local ok, text = json.encode(subject, "value")
  if not ok then fail("%s", text) end
  return sized(text)
end
