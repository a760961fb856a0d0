-- Conditions of workflows, as scripts write them and as the contract has them; and the functions of
-- the script that a workflow calls, each by a name under which its host asks for it.

local kit = ...

local first, options = kit.options.first, kit.options
local concat, sort = table.concat, table.sort
local lower, next, type = string.lower, next, type
local gsub, match = string.gsub, string.match

local workflow = {}
kit.workflow = workflow

-- functions ------------------------------------------------------------------------------------

-- How often a name was given; a second function of the name gets a number.
local given = {}

-- The name by which the host asks for a function. `book`: what belongs to one workflow.
function workflow.offer(book, fn, hint)
  local count = (given[hint] or 0) + 1
  given[hint] = count
  local name = count == 1 and hint or hint .. "." .. kit.tostring(count)
  book.functions[name] = fn
  return name
end

-- What one workflow needs of this VM: its own functions by name, and what finds those of its agents.
-- `named`: functions that its steps and conditions name by text.
function workflow.book(name, named)
  return {name = name, functions = {}, finders = {}, named = named or {}}
end

-- The name of a function that is given itself, or by its name.
function workflow.function_name(book, value, hint, place)
  if type(value) == "string" then
    local found = book.named[value]
    if not found then kit.invalid(place, "must name one of `functions`, and " .. value .. " is none") end
    value = found
  end
  if type(value) ~= "function" then kit.invalid(place, "must be a function, not a " .. type(value)) end
  return workflow.offer(book, value, hint)
end

-- conditions -----------------------------------------------------------------------------------

local READERS = {}
local condition

local function part(value, place, ...)
  local found = first(value, ...)
  if found == nil then kit.required(place .. "." .. (...)) end
  return found
end

local function text_part(value, place, ...)
  return options.text(part(value, place, ...), place .. "." .. (...))
end

function READERS.always() return {constant = true} end

function READERS.never() return {constant = false} end

function READERS.shared_data_equals(value, place)
  return {shared_data_equals = {
    key = text_part(value, place, "key"), value = part(value, place, "value", "expected_value"),
  }}
end

function READERS.shared_data_exists(value, place)
  return {shared_data_exists = text_part(value, place, "key")}
end

local function step_of(value, place)
  return text_part(value, place, "step", "step_name", "step_id", "name")
end

function READERS.step_succeeded(value, place) return {step_succeeded = step_of(value, place)} end

function READERS.step_failed(value, place) return {step_failed = step_of(value, place)} end

function READERS.step_output_equals(value, place)
  return {step_output_equals = {
    step = step_of(value, place), value = part(value, place, "value", "expected_value", "expected"),
  }}
end

function READERS.step_output_contains(value, place)
  return {step_output_contains = {
    step = step_of(value, place),
    text = text_part(value, place, "text", "contains", "substring", "value"),
  }}
end

function READERS.agent_classification(value, place, book)
  local categories = options.table(part(value, place, "categories"), place .. ".categories")
  for i = 1, #categories do options.text(categories[i], place .. ".categories[" .. i .. "]") end
  return {agent_classification = {
    agent = workflow.agent_ref(part(value, place, "agent"), place .. ".agent", book),
    input = text_part(value, place, "input"), categories = kit.list(categories),
    expected = text_part(value, place, "expected", "expected_category", "category"),
  }}
end

function READERS.expression(value, place)
  return {expression = text_part(value, place, "expression", "condition", "custom")}
end

READERS["function"] = function(value, place, book)
  local fn = part(value, place, "function", "fn")
  return {["function"] = workflow.function_name(book, fn, book.name .. "/" .. place, place)}
end

local function several(field)
  return function(value, place, book)
    local list = first(value, "conditions", field, "all", "any", "and", "or")
    if list == nil then list = value end
    options.table(list, place)
    if #list == 0 then kit.invalid(place, "must have at least one condition") end
    local read = {}
    for i = 1, #list do read[i] = condition(list[i], place .. "[" .. i .. "]", book) end
    return {[field] = {conditions = kit.list(read)}}
  end
end

READERS.all, READERS.any = several("all"), several("any")
READERS["and"], READERS["or"] = READERS.all, READERS.any

READERS["not"] = function(value, place, book)
  local inner = first(value, "condition", "not")
  if inner == nil then kit.required(place .. ".condition") end
  return {["not"] = condition(inner, place .. ".condition", book)}
end

local SAME = {
  step_success = "step_succeeded", step_failure = "step_failed", custom = "expression",
  step_result_equals = "step_output_equals", fn = "function",
}

local function reader_of(kind)
  -- StepResultEquals is step_result_equals.
  local word = lower((gsub(gsub(kind, "(%l)(%u)", "%1_%2"), "[%s-]", "_")))
  return READERS[SAME[word] or word]
end

local function refuse_kind(kind, place)
  local names = {}
  for name in next, READERS do names[#names + 1] = name end
  sort(names)
  local near = options.nearest(kit.tostring(kind), READERS)
  kit.refuse("FIELD_INVALID", place, place .. ".type is not known; "
    .. (near and "did you mean " .. near .. "?" or "there are " .. concat(names, ", ") .. "."),
    {field = place .. ".type", nearest = near})
end

-- A table without a type says by its one key what it is: {step_succeeded = "fetch"}.
local function by_key(value, place, book)
  for name, read in next, READERS do
    local inner = value[name]
    if inner ~= nil then
      if name == "shared_data_exists" then return {shared_data_exists = options.text(inner, place)} end
      if name == "step_succeeded" or name == "step_failed" then
        return {[name] = options.text(inner, place)}
      end
      if type(inner) == "table" and name ~= "all" and name ~= "any" and name ~= "and"
        and name ~= "or" and name ~= "not" then
        return read(inner, place .. "." .. name, book)
      end
      return read(value, place, book)
    end
  end
  kit.required(place .. ".type")
end

-- A condition as the contract has it: from true or false, an expression as text, a function, or a
-- table {type = …}.
function condition(value, place, book)
  local kind = type(value)
  if kind == "boolean" then return {constant = value} end
  if kind == "string" then
    if match(value, "^%s*always%s*$") then return {constant = true} end
    if match(value, "^%s*never%s*$") then return {constant = false} end
    return {expression = value}
  end
  if kind == "function" then
    return {["function"] = workflow.offer(book, value, book.name .. "/" .. place)}
  end
  if kind ~= "table" then
    kit.invalid(place, "must be true, false, an expression, a function or a table, not a " .. kind)
  end
  if value.type == nil then return by_key(value, place, book) end
  local read = type(value.type) == "string" and reader_of(value.type)
  if not read then refuse_kind(value.type, place) end
  return read(value, place, book)
end

workflow.condition = condition
