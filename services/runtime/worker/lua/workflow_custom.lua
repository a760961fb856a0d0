-- Functions that steps of type `custom` call by name, as scripts of old do. There they answered
-- something made up; here they do what they are called.

local kit = ...

local first, json, options, workflow = kit.options.first, kit.json, kit.options, kit.workflow
local next, pcall, rawequal, sort, tonumber, type = next, pcall, rawequal, table.sort, tonumber, type
local concat, find, lower, match = table.concat, string.find, string.lower, string.match
local reverse, sub, upper = string.reverse, string.sub, string.upper
local error, huge = error, math.huge

local SLEEP = "llmspell.runtime.Hooks/Sleep"
local customs = {}
workflow.customs = customs

local function subject_of(given)
  return first(given, "input", "data", "value", "values", "items", "text")
end

-- transforming ---------------------------------------------------------------------------------

local function text_of(value)
  if type(value) == "string" then return value end
  local ok, text = json.encode(value, "input")
  if not ok then kit.unfit("input", text) end
  return text
end

local function list_of(value)
  if type(value) ~= "table" then kit.invalid("input", "must be a list, not a " .. type(value)) end
  return value
end

local function each(value, fn)
  local made = {}
  for i = 1, #list_of(value) do made[i] = fn(value[i]) end
  return kit.list(made)
end

local function sorted(value, given)
  local made = each(value, function(one) return one end)
  local field = given.field
  local ok, wrong = pcall(sort, made, function(a, b)
    if field then a, b = a[field], b[field] end
    if given.descending then return b < a end
    return a < b
  end)
  if not ok then kit.invalid("input", "cannot be sorted: " .. kit.tostring(wrong)) end
  return made
end

local CHANGES = {
  uppercase = function(value) return upper(text_of(value)) end,
  lowercase = function(value) return lower(text_of(value)) end,
  reverse = function(value)
    if type(value) == "string" then return reverse(value) end
    local made, count = {}, #list_of(value)
    for i = 1, count do made[i] = value[count + 1 - i] end
    return kit.list(made)
  end,
  trim = function(value) return match(text_of(value), "^%s*(.-)%s*$") end,
  to_string = text_of, stringify = text_of,
  to_number = function(value)
    return tonumber(value) or kit.invalid("input", "is no number")
  end,
  parse_json = function(value)
    local ok, read = json.decode(text_of(value))
    if not ok then kit.invalid("input", "is no JSON: " .. read) end
    return read
  end,
  pluck = function(value, given)
    return each(value, function(one) return one[given.field] end)
  end,
  sort = sorted,
  select = function(value, given)
    local made = {}
    for _, name in next, given.fields or {} do made[name] = value[name] end
    return made
  end,
  rename = function(value, given)
    local made = {}
    for name, inner in next, value do made[(given.names or {})[name] or name] = inner end
    return made
  end,
  merge = function(value, given)
    local made = {}
    for name, inner in next, value do made[name] = inner end
    for name, inner in next, given.with or {} do made[name] = inner end
    return made
  end,
  split = function(value, given)
    local made, from = {}, 1
    local by, text = given.delimiter or ",", text_of(value)
    if by == "" then kit.invalid("delimiter", "must not be empty") end
    while true do
      local start, stop = find(text, by, from, true)
      made[#made + 1] = sub(text, from, (start or #text + 1) - 1)
      if not start then return kit.list(made) end
      from = stop + 1
    end
  end,
  join = function(value, given)
    return concat(each(value, kit.tostring), given.delimiter or ",")
  end,
}

-- data_transform{input, operation}: the input as the operation leaves it; without one as it is.
function customs.data_transform(given)
  local operation = first(given, "operation", "transform", "type")
  local value = subject_of(given)
  if value == nil then
    if operation ~= nil then kit.required("input") end
    return given
  end
  if operation == nil then return value end
  local change = CHANGES[operation]
  if not change then
    kit.invalid("operation", "is not known: " .. kit.tostring(operation))
  end
  return change(value, given)
end

-- validating -----------------------------------------------------------------------------------

local function is_of(value, kind)
  if kind == "any" then return true end
  if kind == "integer" then return kit.integer(value) ~= nil end
  if kind == "list" or kind == "array" then
    return type(value) == "table" and (#value > 0 or next(value) == nil)
  end
  if kind == "object" then return type(value) == "table" end
  return type(value) == kind
end

local function problems_of(value, rules, name)
  local found = {}
  local function say(text) found[#found + 1] = name .. " " .. text end
  if value == nil or rawequal(value, kit.null) then
    if rules.required ~= false then say("is missing") end
    return found
  end
  if rules.type and not is_of(value, rules.type) then say("must be a " .. kit.tostring(rules.type)) end
  local size = type(value) == "number" and value or type(value) == "string" and #value
    or type(value) == "table" and #value or 0
  if rules.min and size < rules.min then say("is below " .. kit.tostring(rules.min)) end
  if rules.max and size > rules.max then say("is above " .. kit.tostring(rules.max)) end
  if rules.pattern and not (type(value) == "string" and find(value, rules.pattern)) then
    say("does not have the form " .. kit.tostring(rules.pattern))
  end
  return found
end

local function check_all(found, value, given)
  for _, name in next, given.required or {} do
    if type(value) ~= "table" or value[name] == nil then found[#found + 1] = name .. " is missing" end
  end
  local names = {}
  for name in next, given.fields or {} do names[#names + 1] = name end
  sort(names)
  for _, name in next, names do
    local inner = type(value) == "table" and value[name] or nil
    for _, problem in next, problems_of(inner, given.fields[name], name) do
      found[#found + 1] = problem
    end
  end
end

-- validation{input, type, min, max, pattern, required = names, fields = {name = rules}, strict}:
-- {valid, errors}; with `strict` what is not valid raises.
function customs.validation(given)
  local value = subject_of(given)
  local rules = {type = given.type, min = given.min, max = given.max, pattern = given.pattern}
  local found = problems_of(value, rules, "input")
  if #found == 0 then check_all(found, value, given) end
  if given.strict and #found > 0 then
    kit.refuse("FIELD_INVALID", "input", concat(found, "; ") .. ".")
  end
  return {valid = #found == 0, errors = kit.list(found), input = value}
end

-- aggregating ----------------------------------------------------------------------------------

local function numbers_of(values, field)
  return each(values, function(one)
    if field and type(one) == "table" then one = one[field] end
    return tonumber(one) or kit.invalid("input", "must hold numbers only")
  end)
end

local function folded(numbers, start, fn)
  for i = 1, #numbers do start = fn(start, numbers[i]) end
  return start
end

local function sum(numbers) return folded(numbers, 0, function(a, b) return a + b end) end

local FOLDS = {
  sum = sum,
  average = function(numbers) return #numbers > 0 and sum(numbers) / #numbers or 0 end,
  min = function(numbers)
    return folded(numbers, huge, function(a, b) return b < a and b or a end)
  end,
  max = function(numbers)
    return folded(numbers, -huge, function(a, b) return b > a and b or a end)
  end,
}
FOLDS.avg, FOLDS.mean = FOLDS.average, FOLDS.average

-- aggregation{input = list, type = sum|average|min|max|count|concat|collect, field, delimiter}.
function customs.aggregation(given)
  local kind = first(given, "type", "operation", "method") or "sum"
  local values = subject_of(given)
  if values == nil then kit.required("input") end
  if kind == "count" then return #list_of(values) end
  if kind == "collect" then return values end
  if kind == "concat" then return concat(each(values, kit.tostring), given.delimiter or "") end
  local fold = FOLDS[kind]
  if not fold then kit.invalid("type", "is not known: " .. kit.tostring(kind)) end
  if #list_of(values) == 0 and (kind == "min" or kind == "max") then
    kit.invalid("input", "must not be empty")
  end
  return fold(numbers_of(values, given.field))
end

-- waiting, succeeding, failing -----------------------------------------------------------------

-- delay{ms} or {seconds}: waits that long, at most a minute.
function customs.delay(given)
  local ms = first(given, "ms", "duration_ms", "delay_ms")
  local seconds = ms ~= nil and options.number(ms, "ms") / 1000
    or options.number(first(given, "seconds", "duration") or 0, "seconds")
  kit.raw_call(SLEEP, {seconds = seconds})
  return {waited_ms = seconds * 1000}
end
customs.sleep, customs.slow_operation = customs.delay, customs.delay

local function succeed(given) return given end

-- `success` and its like give what they are given; `failure` and its like raise its `message`.
for _, name in next, {
  "success", "always_success", "test", "finalize", "process_item", "quick_operation",
} do
  customs[name] = succeed
end

local function fail(given)
  error(kit.failure({
    code = "FAILED_PRECONDITION", reason = "STEP_FAILED", metadata = {},
    message = kit.tostring(given.message or "The step was to fail."),
  }), 0)
end

for _, name in next, {"failure", "always_fail", "fail"} do customs[name] = fail end
