-- The short form of a metadata filter, as a person writes it, to the contract's tree.
--   {lang = "en"}                                equals
--   {year = {gte = 2000, lt = 2010}}             range: gt, gte, lt, lte
--   {tag = {["in"] = {"a", "b"}}}, {tag = {"a", "b"}}   one of
--   {author = {exists = true}}, {lang = {ne = "en"}}
--   {any = {{...}, {...}}}, {all = {...}}, {["not"] = {...}}
-- Several keys side by side must all match.

local kit = ...

local next, sort, type = next, table.sort, type

local RANGE = {gt = true, gte = true, lt = true, lte = true}
local translate

local function malformed(path, text)
  kit.refuse("FILTER_INVALID", "filters", path .. " " .. text .. ".", {path = path})
end

local function sorted_keys(value, path)
  local keys = {}
  for key in next, value do
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

-- {gte = 1, lt = 2, exists = true}: each operator is a condition, the bounds together are one.
local function tests(field, operators, path)
  local filters, range = {}, nil
  for _, name in next, sorted_keys(operators, path) do
    local value = operators[name]
    if RANGE[name] then
      range = range or {}
      range[name] = value
    elseif name == "in" then
      if type(value) ~= "table" then malformed(path .. ".in", "must be a list") end
      filters[#filters + 1] = condition(field, "in", kit.list(value))
    elseif name == "equals" or name == "eq" then
      filters[#filters + 1] = condition(field, "equals", value)
    elseif name == "ne" then
      filters[#filters + 1] = {["not"] = condition(field, "equals", value)}
    elseif name == "exists" then
      if type(value) ~= "boolean" then malformed(path .. ".exists", "must be true or false") end
      filters[#filters + 1] = condition(field, "exists", value)
    else
      malformed(path .. "." .. name, "is no operator; use equals, ne, in, gt, gte, lt, lte, exists")
    end
  end
  if range then filters[#filters + 1] = condition(field, "range", range) end
  if #filters == 0 then malformed(path, "must hold at least one operator") end
  return all_of(filters)
end

local function field_filter(field, value, path)
  if type(value) ~= "table" then return condition(field, "equals", value) end
  if #value > 0 then return condition(field, "in", value) end
  return tests(field, value, path)
end

local function several(value, path)
  if type(value) ~= "table" then malformed(path, "must be a list of filters") end
  local filters = {}
  if #value == 0 and next(value) ~= nil then value = {value} end
  for i = 1, #value do filters[i] = translate(value[i], path .. "[" .. i .. "]") end
  return {filters = kit.list(filters)}
end

function translate(filter, path)
  if type(filter) ~= "table" then malformed(path, "must be a table") end
  local filters = {}
  for _, key in next, sorted_keys(filter, path) do
    local value, inner = filter[key], path .. "." .. key
    if key == "all" or key == "any" then
      filters[#filters + 1] = {[key] = several(value, inner)}
    elseif key == "not" then
      filters[#filters + 1] = {["not"] = translate(value, inner)}
    else
      filters[#filters + 1] = field_filter(key, value, inner)
    end
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
  return translate(filters, "filters")
end
