-- The order in which a script meets the keys of a table, and in which a sort asks. Lua orders text by
-- a seed of the process and objects by address, so that a run that is made again would differ.
--
-- Here it is: positive whole numbers, other numbers, text, false, true, and last tables, functions and
-- coroutines, which nothing orders but their address: theirs is the one order that is not promised.

local kit = ...

local env, next, raw_metatable = kit.env, next, debug.getmetatable
local error, rawequal, rawget, setmetatable = error, rawequal, rawget, setmetatable
local select, tonumber, type = select, tonumber, type
local native_sort, format = table.sort, string.format
local math_type, tointeger = math.type, math.tointeger

-- The order of keys ----------------------------------------------------------------------------

local RANKS = {string = 3, boolean = 4}

local function rank(key)
  local kind = type(key)
  if kind == "number" then return math_type(key) == "integer" and key > 0 and 1 or 2 end
  return RANKS[kind] or 5
end

local function address(object) return tonumber((format("%p", object))) end

local function before(a, b)
  local first, second = rank(a), rank(b)
  if first ~= second then return first < second end
  if first <= 3 then return a < b end
  if first == 4 then return not a and b end
  return address(a) < address(b)
end

local function is_nearer(a, b) return address(a) < address(b) end

local function append(all, part)
  local count = #all
  for i = 1, #part do all[count + i] = part[i] end
  return all
end

-- How many of 1, 2, … there are from the start on, and the other keys in order (nil: there are none).
local function keys_of(value)
  local following, positive, numbers, texts, objects, has_false, has_true = 1, nil, nil, nil, nil, nil, nil
  local text_count = 0
  for key in next, value do
    if key == following then
      following = following + 1
    else
      local kind = type(key)
      if kind == "string" then
        texts, text_count = texts or {}, text_count + 1
        texts[text_count] = key
      elseif kind == "number" then
        if key > 0 and math_type(key) == "integer" then
          positive = positive or {}
          positive[#positive + 1] = key
        else
          numbers = numbers or {}
          numbers[#numbers + 1] = key
        end
      elseif kind == "boolean" then
        has_false, has_true = has_false or not key, has_true or key
      else
        objects = objects or {}
        objects[#objects + 1] = key
      end
    end
  end
  -- Numbers and texts are all different, so whatever way they are sorted in gives one order.
  if positive then native_sort(positive) end
  if numbers then native_sort(numbers) end
  if text_count > 1 then native_sort(texts) end
  local keys = positive
  if numbers then keys = keys and append(keys, numbers) or numbers end
  if texts then keys = keys and append(keys, texts) or texts end
  if has_false then keys = append(keys or {}, {false}) end
  if has_true then keys = append(keys or {}, {true}) end
  if objects then
    native_sort(objects, is_nearer)
    keys = keys and append(keys, objects) or objects
  end
  return following - 1, keys
end

-- Going through a table ------------------------------------------------------------------------

-- For the other parts: `for key, value in kit.pairs(value) do`, no metamethod asked.
function kit.pairs(value)
  local prefix, keys = keys_of(value)
  local at, get = 0, raw_metatable(value) and rawget
  -- What was cleared meanwhile is not met.
  return function()
    while at < prefix do
      at = at + 1
      local found
      if get then found = get(value, at) else found = value[at] end
      if found ~= nil then return at, found end
    end
    if not keys then return nil end
    while true do
      at = at + 1
      local key = keys[at - prefix]
      if key == nil then return nil end
      local found
      if get then found = get(value, key) else found = value[key] end
      if found ~= nil then return key, found end
    end
  end
end

local function refuse(name, value, given)
  local got = given and type(value) or "no value"
  error("bad argument #1 to '" .. name .. "' (table expected, got " .. got .. ")", 3)
end

function env.pairs(...)
  local value = ...
  local meta = raw_metatable(value)
  local own = type(value) == "table" and meta and rawget(meta, "__pairs")
  if own then
    local step, state, first = own(value)
    return step, state, first
  end
  if type(value) ~= "table" then refuse("pairs", value, select("#", ...) > 0) end
  return kit.pairs(value), value, nil
end

-- Where a script that uses `next` is in a table. Keys are weak: this keeps no table alive.
local places = setmetatable({}, {__mode = "k"})

local function first_of(value)
  local found = rawget(value, 1)
  if found ~= nil then return 1, found end
  local best = next(value)
  if best == nil then return nil end
  for key in next, value, best do
    if before(key, best) then best = key end
  end
  places[value] = {key = best}
  return best, rawget(value, best)
end

-- The keys behind `key`: it may have been cleared, so it is looked up by its order.
local function place_after(value, key)
  local _, keys = keys_of(value)
  keys = keys or {}
  local low, high = 1, #keys + 1
  while low < high do
    local middle = (low + high) // 2
    if before(key, keys[middle]) then high = middle else low = middle + 1 end
  end
  return {keys = keys, at = low - 1, key = key}
end

function env.next(...)
  local value, key = ...
  if type(value) ~= "table" then refuse("next", value, select("#", ...) > 0) end
  if key == nil then
    places[value] = nil
    return first_of(value)
  end
  if type(key) == "number" then
    key = tointeger(key) or key
    if rank(key) == 1 then
      local found = rawget(value, key + 1)
      if found ~= nil then return key + 1, found end
    end
  end
  local place = places[value]
  local is_known = place and rawequal(place.key, key)
  if not is_known and rawget(value, key) == nil and rank(key) ~= 1 then
    error("invalid key to 'next'", 2)
  end
  if not is_known or not place.keys then
    place = place_after(value, key)
    places[value] = place
  end
  while true do
    place.at = place.at + 1
    local following = place.keys[place.at]
    if following == nil then
      places[value] = nil
      return nil
    end
    local found = rawget(value, following)
    if found ~= nil then
      place.key = following
      return following, found
    end
  end
end

-- Sorting --------------------------------------------------------------------------------------

-- Lua's own sort looks at the clock where a part of more than this falls apart badly.
local SMALL = 100

local function is_less(a, b) return a < b end

-- Whether all are text, or whole numbers: then there is one sorted order, however it is reached.
local function has_one_order(list, count)
  local kind = math_type(list[1]) or type(list[1])
  if kind ~= "string" and kind ~= "integer" then return false end
  for i = 2, count do
    if (math_type(list[i]) or type(list[i])) ~= kind then return false end
  end
  return true
end

local function insert_in_order(from, first, last, less)
  for i = first + 1, last do
    local one, at = from[i], i
    while at > first and less(one, from[at - 1]) do
      from[at] = from[at - 1]
      at = at - 1
    end
    from[at] = one
  end
end

local function merge(from, spare, first, last, less)
  if last - first < 8 then return insert_in_order(from, first, last, less) end
  local middle = (first + last) // 2
  merge(from, spare, first, middle, less)
  merge(from, spare, middle + 1, last, less)
  if not less(from[middle + 1], from[middle]) then return end
  for i = first, middle do spare[i] = from[i] end
  local left, right, at = first, middle + 1, first
  while left <= middle do
    if right <= last and less(from[right], spare[left]) then
      from[at], right = from[right], right + 1
    else
      from[at], left = spare[left], left + 1
    end
    at = at + 1
  end
end

function env.table.sort(...)
  local list, less = ...
  if type(list) ~= "table" then refuse("sort", list, select("#", ...) > 0) end
  if less ~= nil and type(less) ~= "function" then
    error("bad argument #2 to 'sort' (function expected, got " .. type(less) .. ")", 2)
  end
  local count = #list
  if math_type(count) ~= "integer" then error("object length is not an integer", 2) end
  if count >= 0x7FFFFFFF then error("bad argument #1 to 'sort' (array too big)", 2) end
  if count <= SMALL or not less and has_one_order(list, count) then return native_sort(list, less) end
  local copy = {}
  for i = 1, count do copy[i] = list[i] end
  merge(copy, {}, 1, count, less or is_less)
  for i = 1, count do list[i] = copy[i] end
end
