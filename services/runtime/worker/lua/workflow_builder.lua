-- `Workflow.builder()`: the same as the constructors, one thing at a time.

local kit = ...

local options, workflow = kit.options, kit.workflow
local error, setmetatable, type = error, setmetatable, type

local Builder = {__name = "workflow builder", __metatable = false}
Builder.__index = Builder

local behind = setmetatable({}, {__mode = "k"})

local function given_of(builder, name)
  local given = type(builder) == "table" and behind[builder]
  if not given then error("builder:" .. name .. ": call it with a colon on a builder", 3) end
  return given
end

-- A method that sets one field.
local function sets(field, check)
  return function(self, value)
    local given = given_of(self, field)
    if value == nil then kit.required(field) end
    given[field] = check and check(value, field) or value
    return self
  end
end

-- A method that adds to a list.
local function adds(field)
  return function(self, value)
    local given = given_of(self, "add_" .. field)
    if value == nil then kit.required(field) end
    given[field] = given[field] or {}
    given[field][#given[field] + 1] = value
    return self
  end
end

local function kind(name)
  return function(self)
    given_of(self, name).kind = name
    return self
  end
end

Builder.sequential, Builder.conditional, Builder.parallel =
  kind("sequential"), kind("conditional"), kind("parallel")
Builder.loop = kind("loop")
Builder.loop_workflow = Builder.loop

Builder.name, Builder.description = sets("name", options.text), sets("description", options.text)
Builder.error_strategy = sets("error_strategy")
Builder.timeout_ms, Builder.timeout = sets("timeout_ms"), sets("timeout")
Builder.retry, Builder.max_cost_usd = sets("retry"), sets("max_cost_usd")
Builder.shared_data, Builder.inputs = sets("shared_data"), sets("inputs")
Builder.max_iterations, Builder.max_concurrency = sets("max_iterations"), sets("max_concurrency")
Builder.aggregation, Builder.aggregation_count = sets("aggregation"), sets("aggregation_count")
Builder.functions = sets("functions", options.table)

function Builder:rollback(flag)
  given_of(self, "rollback").rollback = flag ~= false
  return self
end

function Builder:continue_on_error(flag)
  given_of(self, "continue_on_error").continue_on_error = flag ~= false
  return self
end

function Builder:execute_all_matching(flag)
  given_of(self, "execute_all_matching").execute_all_matching = flag ~= false
  return self
end

-- add_step(step): of a sequence, a loop's body, a parallel branch of its own; of a conditional
-- workflow it is a step of the `then` part.
Builder.add_step = adds("steps")
Builder.add_then_step, Builder.add_else_step = adds("then_steps"), adds("else_steps")
Builder.break_when = adds("break_conditions")
Builder.add_break_condition = Builder.break_when

-- condition{type = …}, an expression or a function: of the `then` part.
Builder.condition = sets("condition")

-- add_branch(condition, steps) of a conditional workflow; add_branch(name, steps) of a parallel one;
-- or add_branch{name, condition, steps}.
function Builder:add_branch(first, steps)
  local given = given_of(self, "add_branch")
  if first == nil then kit.required("branch") end
  given.branches = given.branches or {}
  local branch = {}
  if steps == nil then
    branch = options.table(first, "branch")
  elseif given.kind == "parallel" then
    branch = {name = options.text(first, "name"), steps = steps}
  else
    branch = {condition = first, steps = steps}
  end
  given.branches[#given.branches + 1] = branch
  return self
end

Builder.default_branch = sets("default_branch")

-- with_range{start, end, step}: the end is not reached.
function Builder:with_range(range)
  given_of(self, "with_range").range = options.table(range, "range")
  return self
end

function Builder:with_collection(list)
  if list == nil then kit.required("collection") end
  given_of(self, "with_collection").collection = list
  return self
end

-- with_while(expression), loop_condition(fn): it goes on as long as that is true.
function Builder:with_while(condition)
  if condition == nil then kit.required("while") end
  given_of(self, "with_while")["while"] = condition
  return self
end

function Builder:loop_condition(condition)
  if condition == nil then kit.required("loop_condition") end
  given_of(self, "loop_condition")["while"] = condition
  return self
end

function Builder:add_template_step(name, template_id, params)
  return Builder.add_step(self, {
    name = name, type = "template", template_id = template_id, params = params,
  })
end

-- What belongs to each kind is told apart here, so that the order of calls does not matter.
local function arranged(given)
  local copy, name = {}, given.kind or "sequential"
  for field, value in kit.pairs(given) do copy[field] = value end
  copy.kind = nil
  if name == "loop" and copy.body == nil then copy.body, copy.steps = copy.steps, nil end
  if name == "conditional" then
    if copy.steps ~= nil then
      copy.then_steps = copy.then_steps or {}
      for i = 1, #copy.steps do copy.then_steps[#copy.then_steps + 1] = copy.steps[i] end
      copy.steps = nil
    end
    if copy.then_steps ~= nil and copy.condition == nil then kit.required("condition") end
  end
  return name, copy
end

-- builder:build() → the workflow. Raises where something is missing or not known.
function Builder:build()
  local name, given = arranged(given_of(self, "build"))
  return workflow.make(name, given)
end

function workflow.new_builder()
  local builder = setmetatable({}, Builder)
  behind[builder] = {}
  return builder
end
