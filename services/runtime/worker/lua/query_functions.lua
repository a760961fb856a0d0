-- The functions of `JSON.query`, by name and number of arguments.

local kit = ...

local rawequal = rawequal
local query, json = kit.query, kit.json
local value, null = query.value, kit.null
local run, first, each = query.run, query.first, query.each
local fail, spend = query.fail, value.spend
local error, rawget, tonumber, type = error, rawget, tonumber, type
local floor, ceil, abs, sqrt, log, exp = math.floor, math.ceil, math.abs, math.sqrt, math.log, math.exp
local huge, next = math.huge, next
local find, gsub, lower, match, sub, upper = string.find, string.gsub, string.lower, string.match,
  string.sub, string.upper
local byte = string.byte
local utf8_len, utf8_codes, utf8_char = utf8.len, utf8.codes, utf8.char
local concat, reverse = table.concat, string.reverse

local functions = {}
query.functions = functions

-- A function of the input alone: one value in, one out.
local function plain(name, fn)
  functions[name .. "/0"] = function(input, path, _, emit)
    if path then fail("%s gives new values, which have no path", name) end
    emit(fn(input))
  end
end

-- A function of the input and the values of its arguments.
local function with(name, count, fn)
  functions[name .. "/" .. count] = function(input, path, names, emit, arguments)
    if path then fail("%s gives new values, which have no path", name) end
    local given = {}
    local function take(at)
      if at == 0 then return emit(fn(input, given[1], given[2], given[3])) end
      run(arguments[at], input, nil, names, function(one)
        given[at] = one
        take(at - 1)
      end)
    end
    take(count)
  end
end

local function wanted(name, subject, kind)
  local found = value.kind(subject)
  if found ~= kind then fail("%s needs %s %s, not %s", name, kind == "string" and "a" or "an", kind, found) end
  return subject
end

-- An empty table of Lua is a list too, where one is wanted.
local function list_of(name, subject)
  if value.is_empty_map(subject) then return subject, 0 end
  wanted(name, subject, "array")
  return subject, value.shape_of(subject).length
end

local function text_of(name, subject) return wanted(name, subject, "string") end

-- What something is ----------------------------------------------------------------------------

plain("type", value.kind)
plain("not", function(input) return not value.is_true(input) end)

plain("length", function(input)
  local kind = value.kind(input)
  if kind == "null" then return 0 end
  if kind == "number" then return abs(input) end
  if kind == "string" then return utf8_len(input) or #input end
  if kind == "boolean" then fail("boolean has no length") end
  local shape = value.shape_of(input)
  return shape.length or #shape.names
end)

plain("utf8bytelength", function(input) return #text_of("utf8bytelength", input) end)

plain("keys", function(input)
  local kind, found = value.kind(input), {}
  if kind ~= "array" and kind ~= "object" then fail("%s has no keys", kind) end
  local shape = value.shape_of(input)
  for i = 1, shape.length or #shape.names do
    if shape.length then found[i] = i - 1 else found[i] = shape.names[i] end
  end
  spend(#found)
  return value.list(found)
end)
functions["keys_unsorted/0"] = functions["keys/0"]

with("has", 1, function(input, key)
  local kind, of = value.kind(input), value.kind(key)
  if kind == "object" and of == "string" then
    return value.shape_of(input).originals[key] ~= nil
  elseif kind == "array" and of == "number" then
    return key >= 0 and key < value.shape_of(input).length
  end
  fail("%s cannot have a key that is %s", kind, of)
end)

local contains
function contains(a, b)
  spend(1)
  local kind = value.kind(a)
  if kind ~= value.kind(b) then return false end
  if kind == "string" then return find(a, b, 1, true) ~= nil end
  if kind == "object" then
    local shape = value.shape_of(b)
    for i = 1, #shape.names do
      local name = shape.names[i]
      if not contains(value.at(a, name), rawget(b, shape.originals[name])) then return false end
    end
    return true
  elseif kind == "array" then
    for i = 1, value.shape_of(b).length do
      local found = false
      for j = 1, value.shape_of(a).length do
        if contains(rawget(a, j), rawget(b, i)) then found = true end
      end
      if not found then return false end
    end
    return true
  end
  return value.compare(a, b) == 0
end

with("contains", 1, contains)
with("inside", 1, function(input, outer) return contains(outer, input) end)

for name, keep in next, {
  values = function(kind) return kind ~= "null" end,
  nulls = function(kind) return kind == "null" end,
  booleans = function(kind) return kind == "boolean" end,
  numbers = function(kind) return kind == "number" end,
  strings = function(kind) return kind == "string" end,
  arrays = function(kind) return kind == "array" end,
  objects = function(kind) return kind == "object" end,
  iterables = function(kind) return kind == "array" or kind == "object" end,
  scalars = function(kind) return kind ~= "array" and kind ~= "object" end,
} do
  functions[name .. "/0"] = function(input, path, _, emit)
    if keep(value.kind(input)) then emit(input, path) end
  end
end

-- Choosing -------------------------------------------------------------------------------------

functions["empty/0"] = function() end

functions["select/1"] = function(input, path, names, emit, arguments)
  run(arguments[1], input, nil, names, function(one)
    if value.is_true(one) then emit(input, path) end
  end)
end

functions["first/1"] = function(input, path, names, emit, arguments)
  local found, at = first(arguments[1], input, path, names)
  if found ~= nil then emit(found, at) end
end

functions["last/1"] = function(input, path, names, emit, arguments)
  local found, at
  run(arguments[1], input, path, names, function(one, place) found, at = one, place end)
  if found ~= nil then emit(found, at) end
end

functions["first/0"] = function(input, path, _, emit)
  emit(value.at(input, 0), query.longer(path, 0))
end

functions["last/0"] = function(input, path, _, emit)
  emit(value.at(input, -1), query.longer(path, -1))
end

with("nth", 1, value.at)

functions["limit/2"] = function(input, path, names, emit, arguments)
  run(arguments[1], input, nil, names, function(count)
    wanted("limit", count, "number")
    if count <= 0 then return end
    local found, done = {}, {}
    local ok, raised = query.guarded(run, arguments[2], input, path, names, function(one, at)
      found[#found + 1] = {one, at}
      if #found >= count then error(done, 0) end
    end)
    if not ok and raised ~= done then error(raised, 0) end
    for i = 1, #found do emit(found[i][1], found[i][2]) end
  end)
end

local function quantified(name, decides)
  plain(name, function(input)
    local found = not decides
    each(input, nil, function(one) if value.is_true(one) == decides then found = decides end end)
    return found
  end)
  functions[name .. "/1"] = function(input, _, names, emit, arguments)
    local found = not decides
    each(input, nil, function(one)
      run(arguments[1], one, nil, names, function(test)
        if value.is_true(test) == decides then found = decides end
      end)
    end)
    emit(found)
  end
end
quantified("any", true)
quantified("all", false)

-- any(values; test) and all(values; test)
local function quantified_over(name, decides)
  functions[name .. "/2"] = function(input, path, names, emit, arguments)
    if path then fail("%s gives new values, which have no path", name) end
    local found = not decides
    run(arguments[1], input, nil, names, function(one)
      run(arguments[2], one, nil, names, function(test)
        if value.is_true(test) == decides then found = decides end
      end)
    end)
    emit(found)
  end
end
quantified_over("any", true)
quantified_over("all", false)

-- until(test; step): the first value for which the test holds; while(test; step): all before it.
functions["until/2"] = function(input, path, names, emit, arguments)
  if path then fail("until gives new values, which have no path") end
  local current = input
  while true do
    spend(1)
    if value.is_true(first(arguments[1], current, nil, names)) then return emit(current) end
    local after = first(arguments[2], current, nil, names)
    if after == nil then return end
    current = after
  end
end

functions["while/2"] = function(input, path, names, emit, arguments)
  if path then fail("while gives new values, which have no path") end
  local current = input
  while true do
    spend(1)
    local test = first(arguments[1], current, nil, names)
    if test == nil or not value.is_true(test) then return end
    emit(current)
    current = first(arguments[2], current, nil, names)
    if current == nil then return end
  end
end

functions["error/0"] = function(input)
  error({tree = type(input) == "string" and input or value.text(input), value = input}, 0)
end
functions["error/1"] = function(input, _, names, _, arguments)
  run(arguments[1], input, nil, names, function(one) functions["error/0"](one) end)
end

-- Going through --------------------------------------------------------------------------------

functions["map/1"] = function(input, path, names, emit, arguments)
  if path then fail("map gives new values, which have no path") end
  local found = {}
  each(input, nil, function(one)
    run(arguments[1], one, nil, names, function(made) found[#found + 1] = made end)
  end)
  emit(value.list(found))
end

functions["map_values/1"] = function(input, path, names, emit, arguments)
  if path then fail("map_values gives new values, which have no path") end
  local kind, found = value.kind(input), {}
  each(input, {}, function(one, at)
    local made = first(arguments[1], one, nil, names)
    if made ~= nil then
      if kind == "array" then found[#found + 1] = made else found[at[1]] = made end
    end
  end)
  emit(kind == "array" and value.list(found) or found)
end

local function walk(input, names, body, depth)
  if depth > kit.limits.depth then fail("nested deeper than %d", kit.limits.depth) end
  local kind, made = value.kind(input), input
  if kind == "array" then
    made = {}
    each(input, nil, function(one)
      local inner = walk(one, names, body, depth + 1)
      if inner ~= nil then made[#made + 1] = inner end
    end)
    value.list(made)
  elseif kind == "object" then
    made = {}
    each(input, {}, function(one, at) made[at[1]] = walk(one, names, body, depth + 1) end)
  end
  return (first(body, made, nil, names))
end

functions["walk/1"] = function(input, path, names, emit, arguments)
  if path then fail("walk gives new values, which have no path") end
  local made = walk(input, names, arguments[1], 0)
  if made ~= nil then emit(made) end
end

local function recurse(input, path, names, emit, body)
  spend(1)
  emit(input, path)
  run(body, input, path, names, function(one, at) recurse(one, at, names, emit, body) end)
end

local EACH_OR_NONE = {op = "try", body = {op = "each"}}
functions["recurse/0"] = function(input, path, names, emit)
  recurse(input, path, names, emit, EACH_OR_NONE)
end
functions["recurse/1"] = function(input, path, names, emit, arguments)
  recurse(input, path, names, emit, arguments[1])
end

local function range(from, to, by, emit)
  for _, bound in next, {from, to, by} do wanted("range", bound, "number") end
  if by == 0 then fail("range needs steps other than 0") end
  local at = from
  while by > 0 and at < to or by < 0 and at > to do
    spend(1)
    emit(at)
    at = at + by
  end
end

functions["range/1"] = function(input, _, names, emit, arguments)
  run(arguments[1], input, nil, names, function(to) range(0, to, 1, emit) end)
end
functions["range/2"] = function(input, _, names, emit, arguments)
  run(arguments[1], input, nil, names, function(from)
    run(arguments[2], input, nil, names, function(to) range(from, to, 1, emit) end)
  end)
end
functions["range/3"] = function(input, _, names, emit, arguments)
  run(arguments[1], input, nil, names, function(from)
    run(arguments[2], input, nil, names, function(to)
      run(arguments[3], input, nil, names, function(by) range(from, to, by, emit) end)
    end)
  end)
end

plain("add", function(input)
  local sum, texts = null, nil
  each(input, nil, function(one)
    if type(one) == "string" and (texts or rawequal(sum, null)) then
      texts = texts or {}
      texts[#texts + 1] = one
    elseif texts then
      if not rawequal(one, null) then
        sum, texts = value.arithmetic("+", value.sized(concat(texts)), one), nil
      end
    else
      sum = value.arithmetic("+", sum, one)
    end
  end)
  return texts and value.sized(concat(texts)) or sum
end)

functions["add/1"] = function(input, _, names, emit, arguments)
  functions["add/0"](query.all(arguments[1], input, names), nil, names, emit)
end

-- Order ----------------------------------------------------------------------------------------

-- The entries of a list, what they are ordered by, and their positions in that order.
local function ordered(name, input, names, body)
  local entries, count = list_of(name, input)
  local keys, all_single = {}, body ~= nil
  for i = 1, count do
    local entry = rawget(entries, i)
    keys[i] = body and query.all(body, entry, names) or entry
    all_single = all_single and #keys[i] == 1
  end
  -- One key each is compared as it is, which gives the same order sooner.
  if all_single then
    for i = 1, count do keys[i] = keys[i][1] end
  end
  return entries, keys, value.sorted(entries, keys)
end

local function by_key(name, make)
  functions[name .. "/1"] = function(input, path, names, emit, arguments)
    if path then fail("%s gives new values, which have no path", name) end
    emit(make(ordered(name, input, names, arguments[1])))
  end
end

local function sort(entries, _, order)
  local found = {}
  for i = 1, #order do found[i] = rawget(entries, order[i]) end
  return value.list(found)
end

-- Runs of entries whose keys are equal.
local function groups(entries, keys, order)
  local found, last = {}, nil
  for i = 1, #order do
    local at = order[i]
    if i > 1 and value.compare(keys[last], keys[at]) == 0 then
      local group = found[#found]
      group[#group + 1] = rawget(entries, at)
    else
      found[#found + 1] = {rawget(entries, at)}
    end
    last = at
  end
  for i = 1, #found do value.list(found[i]) end
  return value.list(found)
end

local function unique(entries, keys, order)
  local found = groups(entries, keys, order)
  for i = 1, #found do found[i] = found[i][1] end
  return value.list(found)
end

local function least(entries, _, order)
  local found = order[1] and rawget(entries, order[1])
  if found == nil then return null end
  return found
end

local function greatest(entries, _, order)
  local found = order[1] and rawget(entries, order[#order])
  if found == nil then return null end
  return found
end

for name, make in next, {sort = sort, unique = unique, min = least, max = greatest} do
  plain(name, function(input) return make(ordered(name, input)) end)
  by_key(name .. "_by", make)
end
by_key("group_by", groups)

plain("reverse", function(input)
  if rawequal(input, null) then return value.list({}) end
  if type(input) == "string" then
    if utf8_len(input) == #input then return reverse(input) end
    local parts = value.split(input, "")
    for i = 1, #parts // 2 do
      parts[i], parts[#parts + 1 - i] = parts[#parts + 1 - i], parts[i]
    end
    return concat(parts)
  end
  local entries, count = list_of("reverse", input)
  local found = {}
  for i = 1, count do found[i] = rawget(entries, count + 1 - i) end
  spend(count)
  return value.list(found)
end)

local function flatten(into, entries, levels)
  for i = 1, value.shape_of(entries).length do
    local entry = rawget(entries, i)
    spend(1)
    if levels > 0 and value.kind(entry) == "array" then
      flatten(into, entry, levels - 1)
    else
      into[#into + 1] = entry
    end
  end
  return into
end

plain("flatten", function(input)
  list_of("flatten", input)
  return value.list(flatten({}, input, kit.limits.depth))
end)
with("flatten", 1, function(input, levels)
  list_of("flatten", input)
  wanted("flatten", levels, "number")
  return value.list(flatten({}, input, levels))
end)

plain("transpose", function(input)
  local rows, count = list_of("transpose", input)
  local columns, widest = {}, 0
  for i = 1, count do
    local _, width = list_of("transpose", rawget(rows, i))
    if width > widest then widest = width end
  end
  spend(widest * count)
  for j = 1, widest do
    local column = {}
    for i = 1, count do
      local one = rawget(rawget(rows, i), j)
      column[i] = one == nil and null or one
    end
    columns[j] = value.list(column)
  end
  return value.list(columns)
end)

local function positions(input, sought)
  local found = {}
  if type(input) == "string" then
    text_of("indices", sought)
    local at = sought ~= "" and find(input, sought, 1, true)
    while at do
      spend(1)
      found[#found + 1] = at - 1
      at = find(input, sought, at + 1, true)
    end
  elseif not rawequal(input, null) then
    local entries, count = list_of("indices", input)
    for i = 1, count do
      if value.compare(rawget(entries, i), sought) == 0 then found[#found + 1] = i - 1 end
    end
  end
  return value.list(found)
end

with("indices", 1, positions)
with("index", 1, function(input, sought) return positions(input, sought)[1] or null end)
with("rindex", 1, function(input, sought)
  local found = positions(input, sought)
  return found[#found] or null
end)

-- Objects --------------------------------------------------------------------------------------

local function to_entries(input)
  wanted("to_entries", input, "object")
  local found = {}
  each(input, {}, function(one, at) found[#found + 1] = {key = at[1], value = one} end)
  return value.list(found)
end

local function from_entries(input)
  local entries, count = list_of("from_entries", input)
  local found = {}
  for i = 1, count do
    local entry = rawget(entries, i)
    local key, given = null, nil
    for _, name in next, {"key", "k", "name", "Name", "Key", "K"} do
      if rawequal(key, null) then key = value.at(entry, name) end
    end
    for _, name in next, {"value", "v", "Value", "V"} do
      if given == nil and value.shape_of(entry).originals[name] ~= nil then
        given = value.at(entry, name)
      end
    end
    if type(key) == "number" or type(key) == "boolean" then key = value.text(key) end
    if rawequal(key, null) then key = "null" end
    if type(key) ~= "string" then fail("a key must be text, not %s", value.kind(key)) end
    found[key] = given == nil and null or given
  end
  spend(count)
  return found
end

plain("to_entries", to_entries)
plain("from_entries", from_entries)
functions["with_entries/1"] = function(input, path, names, emit, arguments)
  functions["map/1"](to_entries(input), path, names, function(entries)
    emit(from_entries(entries))
  end, arguments)
end

functions["path/1"] = function(input, _, names, emit, arguments)
  local found = query.paths(arguments[1], input, names)
  for i = 1, #found do emit(value.list(found[i])) end
end

functions["paths/0"] = function(input, _, names, emit)
  functions["recurse/0"](input, {}, names, function(_, at)
    if #at > 0 then emit(value.list(at)) end
  end)
end

functions["paths/1"] = function(input, _, names, emit, arguments)
  functions["recurse/0"](input, {}, names, function(one, at)
    run(arguments[1], one, nil, names, function(test)
      if #at > 0 and value.is_true(test) then emit(value.list(at)) end
    end)
  end)
end

functions["leaf_paths/0"] = function(input, _, names, emit)
  functions["recurse/0"](input, {}, names, function(one, at)
    local kind = value.kind(one)
    if #at > 0 and kind ~= "array" and kind ~= "object" then emit(value.list(at)) end
  end)
end

with("getpath", 1, function(input, path)
  local keys, count = list_of("getpath", path)
  for i = 1, count do input = value.at(input, rawget(keys, i)) end
  return input
end)

with("setpath", 2, function(input, path, given)
  list_of("setpath", path)
  return query.set(input, path, function() return given end)
end)

functions["del/1"] = function(input, path, names, emit, arguments)
  if path then fail("del gives new values, which have no path") end
  local places = query.paths(arguments[1], input, names)
  local keys = {}
  for i = 1, #places do keys[i] = value.list(places[i]) end
  local order = value.sorted(places, keys)
  -- The last first, so that positions before it stay what they are.
  for i = #order, 1, -1 do input = query.drop(input, places[order[i]]) end
  emit(input)
end

-- Numbers --------------------------------------------------------------------------------------

local function whole(fn)
  return function(input)
    wanted("a whole number", input, "number")
    return kit.integer(fn(input)) or fn(input)
  end
end
plain("floor", whole(floor))
plain("ceil", whole(ceil))
plain("round", whole(function(input) return floor(abs(input) + 0.5) * (input < 0 and -1 or 1) end))
for name, fn in next, {
  sqrt = sqrt, fabs = abs, abs = abs, log = log, exp = exp,
  log2 = function(input) return log(input, 2) end,
  log10 = function(input) return log(input, 10) end,
} do
  plain(name, function(input) return fn(wanted(name, input, "number")) end)
end
with("pow", 2, function(_, a, b) return wanted("pow", a, "number") ^ wanted("pow", b, "number") end)
plain("infinite", function() return huge end)
plain("nan", function() return 0 / 0 end)
plain("isnan", function(input) return wanted("isnan", input, "number") ~= input end)
plain("isinfinite", function(input)
  wanted("isinfinite", input, "number")
  return input == huge or input == -huge
end)

plain("tonumber", function(input)
  if type(input) == "number" then return input end
  local text = text_of("tonumber", input)
  local number = find(text, "^%s*-?[%d.]+[eE]?[+-]?%d*%s*$") and tonumber(text)
  if not number then fail("%s is not a number", sub(text, 1, 40)) end
  return number
end)

-- Text -----------------------------------------------------------------------------------------

plain("tostring", value.text)
plain("tojson", function(input)
  local ok, text = json.encode(input, "value")
  if not ok then fail("%s", text) end
  return value.sized(text)
end)
plain("fromjson", function(input)
  spend(#text_of("fromjson", input) // 8)
  local ok, found = json.decode(input, null)
  if not ok then fail("fromjson: %s", found) end
  return found
end)

local function letters(name, fn)
  plain(name, function(input)
    return value.sized((gsub(text_of(name, input), "%a+", function(word)
      return fn(word)
    end)))
  end)
end
letters("ascii_downcase", lower)
letters("ascii_upcase", upper)

with("startswith", 1, function(input, part)
  return sub(text_of("startswith", input), 1, #text_of("startswith", part)) == part
end)
with("endswith", 1, function(input, part)
  text_of("endswith", input)
  return text_of("endswith", part) == "" or sub(input, -#part) == part
end)
with("ltrimstr", 1, function(input, part)
  local both = type(input) == "string" and type(part) == "string"
  return both and sub(input, 1, #part) == part and sub(input, #part + 1) or input
end)
with("rtrimstr", 1, function(input, part)
  local both = type(input) == "string" and type(part) == "string" and part ~= ""
  return both and sub(input, -#part) == part and sub(input, 1, -#part - 1) or input
end)
local function trimmed_right(text)
  local stop = #text
  while stop > 0 and find(sub(text, stop, stop), "%s") do stop = stop - 1 end
  return sub(text, 1, stop)
end
plain("ltrim", function(input) return match(text_of("ltrim", input), "^%s*(.*)") end)
plain("rtrim", function(input) return trimmed_right(text_of("rtrim", input)) end)
plain("trim", function(input) return trimmed_right(match(text_of("trim", input), "^%s*(.*)")) end)
with("split", 1, function(input, separator)
  return value.split(text_of("split", input), text_of("split", separator))
end)
with("join", 1, function(input, separator)
  local entries, count = list_of("join", input)
  text_of("join", separator)
  local parts, size = {}, 0
  for i = 1, count do
    local entry = rawget(entries, i)
    local kind = value.kind(entry)
    if kind == "array" or kind == "object" then fail("join cannot take %s", kind) end
    parts[i] = rawequal(entry, null) and "" or value.text(entry)
    size = size + #parts[i] + #separator
    if size > kit.limits.bytes then fail("text of more than %d bytes", kit.limits.bytes) end
  end
  return value.sized(concat(parts, separator))
end)
plain("explode", function(input)
  local found = {}
  if not utf8_len(text_of("explode", input)) then fail("text that is not UTF-8") end
  for _, code in utf8_codes(input) do found[#found + 1] = code end
  spend(#found)
  return value.list(found)
end)
plain("implode", function(input)
  local entries, count = list_of("implode", input)
  local parts = {}
  for i = 1, count do
    local code = kit.integer(rawget(entries, i))
    if not code or code < 0 or code > 0x10FFFF then fail("implode needs code points") end
    parts[i] = utf8_char(code)
  end
  return value.sized(concat(parts))
end)

-- Plain text with three signs: ^ at the start, $ at the end, . for any character. What would be more
-- of a regular expression is refused, so that nothing runs longer than the text is.
local function pattern_of(text)
  local body = text
  local at_start, at_end = sub(body, 1, 1) == "^", sub(body, -1) == "$"
  if at_start then body = sub(body, 2) end
  if at_end then body = sub(body, 1, -2) end
  local odd = match(body, "[%^%$%*%+%?%(%)%[%]{}|\\]")
  if odd then fail("test takes plain text with ^, $ and .; %s is not offered", odd) end
  body = gsub(body, "%W", function(letter)
    if letter == "." then return "." end
    return byte(letter) < 128 and "%" .. letter or letter
  end)
  return (at_start and "^" or "") .. body .. (at_end and "$" or "")
end

local function test(input, text, flags)
  text_of("test", input)
  text_of("test", text)
  if flags ~= nil and not rawequal(flags, null) then
    if flags ~= "i" and flags ~= "" then fail("test knows the flag i only") end
    if flags == "i" then input, text = lower(input), lower(text) end
  end
  spend(#input // 16 + #text)
  return find(input, pattern_of(text)) ~= nil
end
with("test", 1, test)
with("test", 2, test)
