-- The four kinds of workflows, as scripts write them and as the contract has them.

local kit = ...

local first, options, workflow = kit.options.first, kit.options, kit.workflow
local json, next, type = kit.json, next, type
local find = string.find

local LOOP_TIMES_MAX = 1000000

-- What any kind may have --------------------------------------------------------------------------

local COMMON = {
  name = options.text, description = options.text, type = options.text,
  error_strategy = workflow.STRATEGIES, on_error = workflow.STRATEGIES, timeout = options.seconds,
  timeout_ms = options.count(1), retry = options.anything, retry_count = options.count(0, 99),
  retry_delay_ms = options.count(0), shared_data = options.table, shared = options.table,
  inputs = options.table, input_schemas = options.table, max_cost_usd = options.number,
  rollback = options.flag, functions = options.table,
}

local function known(more)
  local all = {}
  for _, names in next, {COMMON, more} do
    for name, check in next, names do all[name] = check end
  end
  return all
end

-- A JSON Schema by input: text as it is, `true` any value, a table is the schema itself.
local function schemas_of(given)
  if given == nil then return nil end
  local schemas = {}
  for key, schema in next, given do
    local name = type(key) == "number" and schema or key
    if type(key) == "number" or schema == true then
      schema = ""
    elseif type(schema) == "table" then
      local ok, text = json.encode(schema, "inputs." .. name, true)
      if not ok then kit.unfit("inputs." .. name, text) end
      schema = text
    end
    schemas[options.text(name, "inputs")] = options.text(schema, "inputs." .. name)
  end
  return schemas
end

local function common(given)
  local definition = {
    name = given.name, description = given.description,
    error_strategy = given.error_strategy or given.on_error,
    retry = workflow.retry_of(given), timeout = workflow.timeout_of(given),
    input_schemas = schemas_of(first(given, "input_schemas", "inputs")),
    max_cost_usd = given.max_cost_usd, rollback = given.rollback, shared_data = {},
  }
  for name, value in next, first(given, "shared_data", "shared") or {} do
    definition.shared_data[name] = value
  end
  return definition
end

-- branches -------------------------------------------------------------------------------------

local BRANCH = {
  name = options.text, condition = options.anything, steps = options.anything,
  when = options.anything, ["then"] = options.anything,
}

local function branch_of(given, number, place, book)
  options.table(given, place)
  local branch = options.read(given, BRANCH, place)
  local name = branch.name or "branch_" .. kit.tostring(number)
  local steps = first(branch, "steps", "then")
  local made = {name = name, steps = workflow.steps(steps, place .. ".steps", book)}
  local condition = first(branch, "condition", "when")
  if condition ~= nil then
    made.condition = workflow.condition(condition, place .. ".condition", book)
  end
  return made
end

local function branches_of(list, place, book)
  options.table(list, place)
  local made = {}
  for i = 1, #list do made[i] = branch_of(list[i], i, place .. "[" .. i .. "]", book) end
  return kit.list(made)
end

-- A branch of a step's own name for each.
local function branches_of_steps(list, book)
  local steps = workflow.steps(list, "steps", book)
  for i = 1, #steps do steps[i] = {name = steps[i].name, steps = kit.list({steps[i]})} end
  return steps
end

-- kinds ----------------------------------------------------------------------------------------

local KINDS = {}

KINDS.sequential = {known({steps = options.anything}), function(given, book)
  return {steps = workflow.steps(given.steps, "steps", book)}
end}

KINDS.parallel = {known({
  branches = options.anything, steps = options.anything, max_concurrency = options.count(1),
  fail_fast = options.flag,
}), function(given, book, definition)
  local branches = given.branches ~= nil and branches_of(given.branches, "branches", book)
    or branches_of_steps(given.steps, book)
  local beside = given.branches ~= nil and given.steps ~= nil and branches_of_steps(given.steps, book)
  for i = 1, beside and #beside or 0 do branches[#branches + 1] = beside[i] end
  if given.fail_fast ~= nil and definition.error_strategy == nil then
    definition.error_strategy = given.fail_fast and "FAIL_FAST" or "CONTINUE"
  end
  return {branches = branches, max_concurrency = given.max_concurrency}
end}

-- The steps of a branch that has no condition, or a list of steps.
local function default_steps(given, place, book)
  if given == nil then return nil end
  if type(given) == "table" and given.steps ~= nil then given = given.steps end
  return workflow.steps(given, place, book)
end

KINDS.conditional = {known({
  branches = options.anything, default_branch = options.anything, default_steps = options.anything,
  ["else"] = options.anything, else_steps = options.anything, then_steps = options.anything,
  condition = options.anything, execute_all_matching = options.flag,
}), function(given, book)
  local branches = given.branches ~= nil and branches_of(given.branches, "branches", book)
    or kit.list({})
  if given.then_steps ~= nil then
    branches[#branches + 1] = branch_of(
      {name = "then", condition = given.condition, steps = given.then_steps}, 1, "then_steps", book
    )
  end
  local otherwise = first(given, "default_branch", "default_steps", "else_steps", "else")
  return {
    branches = branches, default_steps = default_steps(otherwise, "default_branch", book),
    execute_all_matching = given.execute_all_matching,
  }
end}

-- loops ----------------------------------------------------------------------------------------

local RANGE = {
  start = options.count(-LOOP_TIMES_MAX * 1000), ["end"] = options.count(-LOOP_TIMES_MAX * 1000),
  step = options.count(-LOOP_TIMES_MAX * 1000), stop = options.count(-LOOP_TIMES_MAX * 1000),
}

local function range_of(given)
  local positional = given[1] ~= nil and {start = given[1], ["end"] = given[2], step = given[3]}
  local set = options.read(positional or given, RANGE, "range", true)
  local stop = first(set, "end", "stop")
  if stop == nil then kit.required("range.end") end
  return {start = set.start or 1, ["end"] = stop, step = set.step}
end

local function iterator_of(given, book)
  local over = {}
  for _, name in next, {"range", "collection", "while_condition", "while", "condition"} do
    local value = given.iterator and given.iterator[name]
    if value == nil then value = given[name] end
    over[name] = value
  end
  local condition = first(over, "while_condition", "while", "condition")
  if over.range ~= nil then
    return {range = range_of(options.table(over.range, "range"))}
  elseif type(over.collection) == "string" and find(over.collection, "{{", 1, true) then
    return {collection_from = over.collection}
  elseif over.collection ~= nil then
    local items, copy = options.table(over.collection, "collection"), {}
    for i = 1, #items do copy[i] = items[i] end
    return {collection = kit.list(copy)}
  elseif condition ~= nil then
    return {["while"] = workflow.condition(condition, "while", book)}
  end
  kit.required("iterator")
end

local AGGREGATIONS = options.one_of{
  collect_all = "COLLECT_ALL", all = "COLLECT_ALL", last_only = "LAST_ONLY", last = "LAST_ONLY",
  first_n = "FIRST_N", last_n = "LAST_N", none = "NONE",
}

-- A word, {type = word, count = n} or {first_n = n}.
local function aggregation_of(given, count)
  if given == nil then return nil, nil end
  if type(given) == "table" then
    count = first(given, "count", "n", "first_n", "last_n")
    given = given.type or given.first_n and "first_n" or given.last_n and "last_n"
  end
  return AGGREGATIONS(given, "aggregation"), count
end

local function break_conditions(given, book)
  local list = first(given, "break_conditions", "break_condition", "break_when")
  if list == nil then return nil end
  if type(list) ~= "table" or list.type ~= nil or #list == 0 then list = {list} end
  local made = {}
  for i = 1, #list do
    made[i] = workflow.condition(list[i], "break_conditions[" .. i .. "]", book)
  end
  return kit.list(made)
end

KINDS.loop = {known({
  iterator = options.table, range = options.table, collection = options.anything,
  while_condition = options.anything, ["while"] = options.anything, condition = options.anything,
  body = options.anything, steps = options.anything, max_iterations = options.count(1),
  break_conditions = options.anything, break_condition = options.anything,
  break_when = options.anything, aggregation = options.anything,
  aggregation_count = options.count(1), continue_on_error = options.flag,
}), function(given, book)
  local made = iterator_of(given, book)
  made.body = workflow.steps(first(given, "body", "steps"), "body", book)
  made.max_iterations = given.max_iterations or given.iterator and given.iterator.max_iterations
  made.break_conditions = break_conditions(given, book)
  made.aggregation, made.aggregation_count =
    aggregation_of(given.aggregation, given.aggregation_count)
  made.continue_on_error = given.continue_on_error
  return made
end}

workflow.KINDS = kit.list({"sequential", "conditional", "loop", "parallel"})

-- A workflow as the contract has it, and what it needs of this VM. `given` is what a constructor
-- was given; nothing of it is kept but values.
function workflow.define(kind, given)
  options.table(given, "workflow")
  local row = KINDS[kind]
  if not row then
    local near = type(kind) == "string" and options.nearest(kind, KINDS)
    kit.refuse("FIELD_INVALID", "type", "type must be sequential, conditional, loop or parallel"
      .. (near and "; did you mean " .. near .. "?" or "."), {field = "type", nearest = near})
  end
  local set = options.read(given, row[1])
  if set.name == nil then kit.required("name") end
  local book = workflow.book(set.name, set.functions)
  local definition = common(set)
  definition[kind] = row[2](set, book, definition)
  return definition, book
end
