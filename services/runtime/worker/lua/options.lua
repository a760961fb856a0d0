-- Tables of named options: every value is checked by its name, and a name that is nearly a known
-- one is an error that says which. Others are ignored, as scripts of old rely on.

local kit = ...

local integer = kit.integer
local min, next, type = math.min, next, type
local concat, sort = table.concat, table.sort
local byte = string.byte

local options = {}
kit.options = options

-- nearest --------------------------------------------------------------------------------------

-- Edits from one word to another, two letters that changed places counted as one.
local function distance(a, b)
  local before, last, row = nil, nil, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    before, last, row = last, row, {[0] = i}
    for j = 1, #b do
      local same = byte(a, i) == byte(b, j) and 0 or 1
      row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + same)
      local swapped = i > 1 and j > 1 and byte(a, i) == byte(b, j - 1)
        and byte(a, i - 1) == byte(b, j)
      if swapped then row[j] = min(row[j], before[j - 2] + 1) end
    end
  end
  return row[#b]
end

-- The known name that a word was probably meant to be; nil where none is near.
function options.nearest(word, known)
  local best, least = nil, (#word > 4 and 2 or 1) + 1
  if #word > 40 then return nil end
  local names = {}
  for name in next, known do names[#names + 1] = name end
  sort(names)
  for _, name in next, names do
    local edits = distance(word, name)
    if edits < least and edits < #word then best, least = name, edits end
  end
  return best
end

-- checks ---------------------------------------------------------------------------------------

local function is_a(kind, words)
  return function(value, name)
    if type(value) == kind then return value end
    kit.invalid(name, "must be " .. words .. ", not a " .. type(value))
  end
end

options.text = is_a("string", "text")
options.flag = is_a("boolean", "true or false")
options.table = is_a("table", "a table")

function options.anything(value) return value end

function options.count(least, most)
  return function(value, name)
    local count = integer(value)
    if not count or count < least then
      local rule = least == 1 and "above 0" or "of at least " .. least
      kit.invalid(name, "must be a whole number " .. rule)
    end
    if most and count > most then kit.invalid(name, "must be at most " .. most) end
    return count
  end
end

function options.number(value, name)
  if type(value) ~= "number" then kit.invalid(name, "must be a number") end
  return value + 0.0
end

function options.share(value, name)
  if type(value) ~= "number" or not (value >= 0 and value <= 1) then
    kit.invalid(name, "must be a number between 0 and 1")
  end
  return value + 0.0
end

function options.seconds(value, name)
  if type(value) ~= "number" or not (value > 0) then
    kit.invalid(name, "must be a number of seconds above 0")
  end
  return value
end

function options.time(value, name)
  if type(value) == "number" or type(value) == "string" then return value end
  kit.invalid(name, "must be seconds since 1970 or RFC 3339 text")
end

-- {from = time, to = time}, or {time, time}: from the first on, before the second.
function options.span(value, name)
  options.table(value, name)
  local from, to = value.from, value.to
  if from == nil then from = value[1] end
  if to == nil then to = value[2] end
  if from == nil and to == nil then kit.invalid(name, "must have from, to or both") end
  for key in kit.pairs(value) do
    if key ~= "from" and key ~= "to" and key ~= 1 and key ~= 2 then
      kit.invalid(name .. "." .. kit.tostring(key), "is not known; a span has from and to")
    end
  end
  return {
    start_time = from ~= nil and options.time(from, name .. ".from") or nil,
    end_time = to ~= nil and options.time(to, name .. ".to") or nil,
  }
end

function options.one_of(words)
  local names = {}
  for name in next, words do names[#names + 1] = name end
  sort(names)
  return function(value, name)
    local found = type(value) == "string" and words[value]
    if not found then kit.invalid(name, "must be one of " .. concat(names, ", ")) end
    return found
  end
end

-- reading --------------------------------------------------------------------------------------

local function unknown(name, known, field, strict)
  if type(name) ~= "string" then
    kit.invalid(field, "must have names only, not the key " .. kit.tostring(name))
  end
  local meant = options.nearest(name, known)
  local place = field == "options" and name or field .. "." .. name
  if meant then
    kit.refuse(
      "FIELD_INVALID", place, place .. " is not known; did you mean " .. meant .. "?",
      {field = place, nearest = meant}
    )
  elseif strict then
    local names = {}
    for each in next, known do names[#names + 1] = each end
    sort(names)
    kit.invalid(place, "is not known; there are " .. concat(names, ", "))
  end
end

-- A copy of `value` with every known option checked. `strict`: no other name is let pass.
-- `positional`: list entries beside the names are let be.
function options.read(value, known, field, strict, positional)
  field = field or "options"
  if value == nil then return {} end
  if type(value) ~= "table" then kit.invalid(field, "must be a table, not a " .. type(value)) end
  local checked = {}
  for name, given in kit.pairs(value) do
    local check = known[name]
    local place = field == "options" and name or field .. "." .. kit.tostring(name)
    if check then
      checked[name] = check(given, place)
    elseif not (positional and type(name) == "number") then
      unknown(name, known, field, strict)
    end
  end
  return checked
end

-- The first that is set of several names for one thing.
function options.first(values, ...)
  for _, name in next, {...} do
    if values[name] ~= nil then return values[name] end
  end
end
