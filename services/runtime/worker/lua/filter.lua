-- A filter over metadata, as a person writes it, to the contract's tree. In short form:
--   {lang = "en"}                                equals; also {lang = {equals = "en"}}, {ne = "en"}
--   {year = {gte = 2000, lt = 2010}}             bounds: gt, gte, lt, lte
--   {tag = {"a", "b"}}, {tag = {["in"] = {…}}}   one of; {tag = {except = {"a"}}}: none of
--   {name = {prefix = "a"}}, {author = {exists = true}}, {tags = {is_empty = true}}
--   {made = {since = "2024-01-01T00:00:00Z"}}    moments: after, since, before, until
--   {any = {{…}, {…}}}, {all = {…}}, {["not"] = {…}}, {at_least = {count = 2, filters = {…}}}
--   {nested = {field = "cities", filter = {…}}}  one entry of a list passes the whole filter
-- Several keys side by side must all match. And in Qdrant's form:
--   {must = {…}, should = {…}, must_not = {…}, min_should = 2} of entries such as
--   {key = "city", match = {value = "x"}}, {key = "n", range = {gte = 1}}, {is_empty = {key = "t"}}

local kit = ...

local next, select, type = next, select, type
local concat, sort = table.concat, table.sort

local RANGE = {gt = "gt", gte = "gte", lt = "lt", lte = "lte"}
local MOMENTS = {after = "gt", since = "gte", before = "lt", ["until"] = "lte"}
local DEPTH_MAX = 32
local translate

local function malformed(path, text)
  kit.refuse("FILTER_INVALID", "filters", path .. " " .. text .. ".", {path = path})
end

local function sorted_keys(value, path)
  local keys = {}
  for key in kit.pairs(value) do
    if type(key) ~= "string" then malformed(path, "must have text keys only") end
    keys[#keys + 1] = key
  end
  sort(keys)
  return keys
end

local function all_of(filters)
  if #filters == 1 then return filters[1] end
  return {all = {filters = kit.list(filters)}}
end

local function condition(field, test, value)
  return {condition = {field = field, [test] = value}}
end

local function negated(filter)
  return {["not"] = filter}
end

local function list_of(value, path)
  if type(value) ~= "table" then malformed(path, "must be a list") end
  return kit.list(value)
end

local function flag_of(value, path)
  if type(value) ~= "boolean" then malformed(path, "must be true or false") end
  return value
end

local function text_of(value, path)
  if type(value) ~= "string" or value == "" then malformed(path, "must be text") end
  return value
end

local function moment_of(value, path)
  if type(value) == "number" or type(value) == "string" then return value end
  malformed(path, "must be seconds since 1970 or RFC 3339 text")
end

-- one field ------------------------------------------------------------------------------------

local function equals(field, value) return condition(field, "equals", value) end

local TESTS = {
  equals = equals,
  eq = equals,
  ne = function(field, value) return negated(equals(field, value)) end,
  ["in"] = function(field, value, path) return condition(field, "in", list_of(value, path)) end,
  except = function(field, value, path)
    return condition(field, "except", list_of(value, path))
  end,
  prefix = function(field, value, path)
    return condition(field, "prefix", text_of(value, path))
  end,
  exists = function(field, value, path)
    return condition(field, "exists", flag_of(value, path))
  end,
  is_empty = function(field, value, path)
    return condition(field, "is_empty", flag_of(value, path))
  end,
}

local function known_operators()
  local known = {}
  for _, names in next, {TESTS, RANGE, MOMENTS} do
    for name in next, names do known[name] = true end
  end
  return known
end

local function no_operator(name, path)
  local known = known_operators()
  local meant = kit.options.nearest(name, known)
  if meant then malformed(path, "is no operator; did you mean " .. meant .. "?") end
  malformed(path, "is no operator; use " .. concat(sorted_keys(known, path), ", "))
end

-- {gte = 1, lt = 2, exists = true}: each operator is a condition, bounds of a kind are one.
local function tests(field, operators, path)
  local filters, range, time = {}, nil, nil
  for _, name in next, sorted_keys(operators, path) do
    local value, inner = operators[name], path .. "." .. name
    if RANGE[name] then
      range = range or {}
      range[name] = value
    elseif MOMENTS[name] then
      time = time or {}
      time[MOMENTS[name]] = moment_of(value, inner)
    elseif TESTS[name] then
      filters[#filters + 1] = TESTS[name](field, value, inner)
    else
      no_operator(name, inner)
    end
  end
  if range then filters[#filters + 1] = condition(field, "range", range) end
  if time then filters[#filters + 1] = condition(field, "time", time) end
  if #filters == 0 then malformed(path, "must hold at least one operator") end
  return all_of(filters)
end

local function field_filter(field, value, path)
  if type(value) ~= "table" then return equals(field, value) end
  if #value > 0 then return condition(field, "in", value) end
  return tests(field, value, path)
end

-- several filters ------------------------------------------------------------------------------

local function several(value, path, depth, each)
  if type(value) ~= "table" then malformed(path, "must be a list of filters") end
  local filters = {}
  if #value == 0 and next(value) ~= nil then value = {value} end
  for i = 1, #value do filters[i] = each(value[i], path .. "[" .. i .. "]", depth + 1) end
  return kit.list(filters)
end

local function only(value, path, ...)
  if type(value) ~= "table" then malformed(path, "must be a table") end
  local known = {}
  for _, name in next, {...} do known[name] = true end
  for _, name in next, sorted_keys(value, path) do
    if not known[name] then
      malformed(path .. "." .. name, "is not known here; there are " .. concat({...}, ", "))
    end
  end
end

local function count_of(value, path)
  local count = kit.integer(value)
  if not count or count < 1 then malformed(path, "must be a whole number above 0") end
  return count
end

local KINDS = {
  all = function(value, path, depth)
    return {all = {filters = several(value, path, depth, translate)}}
  end,
  any = function(value, path, depth)
    return {any = {filters = several(value, path, depth, translate)}}
  end,
  ["not"] = function(value, path, depth) return negated(translate(value, path, depth + 1)) end,
  at_least = function(value, path, depth)
    only(value, path, "count", "filters")
    local filters = several(value.filters, path .. ".filters", depth, translate)
    return {clauses = {should = filters, min_should = count_of(value.count, path .. ".count")}}
  end,
  nested = function(value, path, depth)
    only(value, path, "field", "filter")
    local inner = translate(value.filter, path .. ".filter", depth + 1)
    return {nested = {field = text_of(value.field, path .. ".field"), filter = inner}}
  end,
}

-- Qdrant's form --------------------------------------------------------------------------------

local CLAUSES = {must = true, should = true, must_not = true, min_should = true}
local BY_KEY = {
  is_empty = function(key) return condition(key, "is_empty", true) end,
  is_null = function(key) return condition(key, "exists", false) end,
}
local MATCHES = {value = "equals", any = "in", except = "except", prefix = "prefix"}

local function match_of(key, match, path)
  only(match, path, "value", "any", "except", "prefix")
  local name, value = next(match)
  if name == nil or next(match, name) ~= nil then
    malformed(path, "must have one of value, any, except, prefix")
  end
  return TESTS[MATCHES[name]](key, value, path .. "." .. name)
end

-- Numbers are a range; texts are moments, as Qdrant has them.
local function range_of(key, range, path)
  only(range, path, "gt", "gte", "lt", "lte")
  local kind = type(range.gt or range.gte or range.lt or range.lte)
  for _, bound in next, range do
    if type(bound) ~= kind then malformed(path, "must not mix numbers and text") end
  end
  if next(range) == nil then malformed(path, "must have a bound: gt, gte, lt or lte") end
  return condition(key, kind == "string" and "time" or "range", range)
end

local function entry_of(entry, path, depth)
  if type(entry) ~= "table" then malformed(path, "must be a table") end
  for name, make in next, BY_KEY do
    if entry[name] ~= nil then
      only(entry, path, name)
      only(entry[name], path .. "." .. name, "key")
      return make(text_of(entry[name].key, path .. "." .. name .. ".key"))
    end
  end
  if entry.nested ~= nil and type(entry.nested) == "table" and entry.nested.key ~= nil then
    only(entry, path, "nested")
    only(entry.nested, path .. ".nested", "key", "filter")
    local inner = translate(entry.nested.filter, path .. ".nested.filter", depth + 1)
    return {nested = {field = text_of(entry.nested.key, path .. ".nested.key"), filter = inner}}
  end
  if entry.key == nil or (entry.match == nil and entry.range == nil) then
    return translate(entry, path, depth)
  end
  only(entry, path, "key", "match", "range")
  local key, parts = text_of(entry.key, path .. ".key"), {}
  if entry.match ~= nil then parts[#parts + 1] = match_of(key, entry.match, path .. ".match") end
  if entry.range ~= nil then parts[#parts + 1] = range_of(key, entry.range, path .. ".range") end
  return all_of(parts)
end

local function clauses_of(filter, path, depth)
  only(filter, path, "must", "should", "must_not", "min_should")
  local clauses, least = {}, filter.min_should
  for name in next, CLAUSES do
    if name ~= "min_should" and filter[name] ~= nil then
      clauses[name] = several(filter[name], path .. "." .. name, depth, entry_of)
    end
  end
  if type(least) == "table" then
    local inner = path .. ".min_should"
    only(least, inner, "conditions", "min_count")
    if clauses.should then malformed(inner, "has conditions of its own beside should") end
    clauses.should = several(least.conditions, inner .. ".conditions", depth, entry_of)
    clauses.min_should = count_of(least.min_count, inner .. ".min_count")
  elseif least ~= nil then
    clauses.min_should = count_of(least, path .. ".min_should")
  end
  return {clauses = clauses}
end

function translate(filter, path, depth)
  if type(filter) ~= "table" then malformed(path, "must be a table") end
  if depth > DEPTH_MAX then malformed("filters", "is nested deeper than " .. DEPTH_MAX) end
  for name in next, CLAUSES do
    if filter[name] ~= nil then return clauses_of(filter, path, depth) end
  end
  local filters = {}
  for _, key in next, sorted_keys(filter, path) do
    local value, inner = filter[key], path .. "." .. key
    local make = KINDS[key]
    filters[#filters + 1] = make and make(value, inner, depth) or field_filter(key, value, inner)
  end
  if #filters == 0 then malformed(path, "must not be empty") end
  return all_of(filters)
end

-- The contract's Filter, or nil where there is nothing to filter by.
function kit.filter(filters)
  if filters == nil then return nil end
  local kind = type(filters)
  if kind ~= "table" then kit.invalid("filters", "must be a table, not a " .. kind) end
  if next(filters) == nil then return nil end
  return translate(filters, "filters", 1)
end
