-- `Workflow`: steps in a row, side by side, by condition, or again and again. What runs them is the
-- host; this part makes what it is given of tables that scripts write, and knows what there is.

local kit = ...

local call, options, workflow = kit.call, kit.options, kit.workflow
local error, next, pcall, rawget, type = error, next, pcall, rawget, type

local CREATE = "llmspell.v1.WorkflowService/CreateWorkflow"
local GET = "llmspell.v1.WorkflowService/GetWorkflow"
local LIST = "llmspell.v1.WorkflowService/ListWorkflows"
local DELETE = "llmspell.v1.WorkflowService/DeleteWorkflow"
local PAGE_SIZE = 1000

local Workflow = {}
kit.env.Workflow = Workflow
-- Whether what happens in workflows goes to the script's log.
workflow.is_debugged = false

-- constructors ---------------------------------------------------------------------------------

-- A new instance of a kind.
function workflow.make(kind, given)
  local definition, book = workflow.define(kind, given)
  return workflow.instance(kind, definition, book)
end

local function constructor(kind)
  return kit.either_way(Workflow, function(given)
    if given == nil then kit.required("workflow") end
    return workflow.make(kind, given)
  end)
end

--| `Workflow.sequential{name, steps}`
--- Steps in a row. Each is `{name, type, …}`: `tool` with `tool, input`; `agent` with `agent, input`;
--- `workflow` with `workflow, input`; `function` with `fn, input`; `call` with `method, request`;
--- `template` with `template_id, params`; `custom` with `function, parameters`. Options of a step:
--- `condition`, `timeout_ms`, `retry_count`, `retry`, `on_error`, `compensation`, `save_as`. Options
--- of any workflow: `description`, `error_strategy` (`fail_fast`, `continue`, `retry`), `timeout_ms`,
--- `retry`, `shared_data`, `inputs`, `max_cost_usd`, `rollback`, `functions`.
Workflow.sequential = constructor("sequential")

--| `Workflow.parallel{name, branches or steps, max_concurrency}`
--- Branches `{name, steps}` side by side, at most 4 at once where nothing is said.
Workflow.parallel = constructor("parallel")

--| `Workflow.conditional{name, branches, default_branch}`
--- The first branch `{name, condition, steps}` whose condition is met, else the default one; with
--- `execute_all_matching` all that are met. A condition is `true`, `false`, an expression as text, a
--- function, or `{type = …}`: `always`, `never`, `shared_data_equals`, `shared_data_exists`,
--- `step_succeeded`, `step_failed`, `step_output_equals`, `step_output_contains`,
--- `agent_classification`, `and`, `or`, `not`, `expression`.
Workflow.conditional = constructor("conditional")

--| `Workflow.loop{name, iterator, body, break_conditions, aggregation}`
--- The body again and again over `iterator.range = {start, end, step}` (the end is not reached),
--- `iterator.collection`, or as long as `iterator.while_condition` is met. `aggregation` is
--- `collect_all`, `last_only`, `{first_n = n}`, `{last_n = n}` or `none`.
Workflow.loop = constructor("loop")

--| `Workflow.builder()`
--- The same step by step: `name`, `description`, `sequential`, `parallel`, `conditional`, `loop`,
--- `loop_workflow`, `error_strategy`, `timeout_ms`, `retry`, `shared_data`, `inputs`, `rollback`,
--- `max_cost_usd`, `functions`, `add_step`, `condition`, `add_then_step`, `add_else_step`,
--- `add_branch`, `default_branch`, `execute_all_matching`, `with_range`, `with_collection`,
--- `with_while`, `loop_condition`, `max_iterations`, `break_when`, `aggregation`,
--- `continue_on_error`, `max_concurrency`, `add_template_step`, `build`.
Workflow.builder = kit.either_way(Workflow, function() return workflow.new_builder() end)

-- registry -------------------------------------------------------------------------------------

local function is_missing(raised)
  return kit.is_failure(raised) and rawget(raised, "reason") == "WORKFLOW_NOT_FOUND"
end

local function kind_of(definition)
  for _, kind in next, workflow.KINDS do
    if definition[kind] ~= nil then return kind end
  end
end

local function registered(name)
  local ok, answer = pcall(call, GET, {name = name})
  if ok then return answer.workflow end
  if is_missing(answer) then return nil end
  error(answer, 0)
end

--| `Workflow.register(type, params, {replace})`
--- Registers a workflow for the tenant, of a constructor's table or an instance; its id, which is
--- its name. One with functions of the script cannot be registered.
-- Workflow.register(type, params, {replace}?) or Workflow.register(instance, {replace}?) → id.
Workflow.register = kit.either_way(Workflow, function(kind, params, how)
  local one = workflow.find(type(kind) == "table" and kind or false)
  if one then
    how = params
  else
    if kind == nil then kit.required("type") end
    one = workflow.find(workflow.make(kind, params))
  end
  local name = next(one.functions)
  if name ~= nil then
    kit.invalid("functions", "must be none of a workflow that is registered: the function " .. name
      .. " ends with this script")
  end
  how = options.read(how, {replace = options.flag})
  call(CREATE, {workflow = one.definition, replace = how.replace})
  return one.definition.name
end)

--| `Workflow.types()`
--- `sequential`, `conditional`, `loop`, `parallel`.
Workflow.types = kit.either_way(Workflow, function()
  local names = {}
  for i = 1, #workflow.KINDS do names[i] = workflow.KINDS[i] end
  return kit.list(names)
end)

local function all_registered()
  local found, token = {}, nil
  repeat
    local answer = call(LIST, {page_size = PAGE_SIZE, page_token = token})
    for _, one in next, answer.workflows or {} do found[#found + 1] = one end
    token = answer.next_page_token
  until token == nil or token == ""
  return found
end

--| `Workflow.list()`
--- `{id, name, type, kind, description}` of this run's workflows, of type `instance`, and of the
--- tenant's, of type `registered`.
Workflow.list = kit.either_way(Workflow, function()
  local found = kit.list({})
  for _, one in next, workflow.each() do
    found[#found + 1] = {
      id = one.id, name = one.definition.name, type = "instance", kind = one.kind,
      description = one.definition.description,
    }
  end
  for _, one in next, all_registered() do
    local definition = one.workflow
    found[#found + 1] = {
      id = definition.name, name = definition.name, type = "registered", kind = kind_of(definition),
      description = definition.description, updated_at = one.update_time,
    }
  end
  return found
end)

local INFOS = {
  sequential = {
    "Steps in a row.", {"error_strategies", "retry", "rollback", "conditions", "interpolation"},
  },
  parallel = {"Branches side by side.", {"max_concurrency", "fail_fast", "continue"}},
  conditional = {
    "The first branch whose condition is met.", {"default_branch", "execute_all_matching"},
  },
  loop = {
    "The same steps again and again.",
    {"range", "collection", "while", "break_conditions", "aggregation"},
  },
}

local function type_info(kind)
  local row, features = INFOS[kind], {}
  for i = 1, #row[2] do features[i] = row[2][i] end
  return {id = kind, type = kind, description = row[1], features = kit.list(features)}
end

--| `Workflow.get(id)`
--- A workflow of this run by its id or name, else the registered one of the name, else what is told
--- of a type, or nil.
Workflow.get = kit.either_way(Workflow, function(id)
  if id == nil then kit.required("id") end
  options.text(id, "id")
  local one = workflow.find(id)
  if one then return one.instance end
  local known = registered(id)
  if known then return workflow.instance(kind_of(known.workflow), known.workflow, nil, true) end
  return INFOS[id] and type_info(id) or nil
end)

--| `Workflow.remove(id)`
--- Takes a workflow of this run out of the list, or a registered one away; whether it was there.
Workflow.remove = kit.either_way(Workflow, function(id)
  if id == nil then kit.required("id") end
  local one = workflow.find(id)
  local was_known = one ~= nil and workflow.forget(one)
  if one and not one.registered then return was_known end
  return call(DELETE, {name = one and one.definition.name or options.text(id, "id")}).deleted
end)

--| `Workflow.clear()`
--- Takes all workflows of this run out of the list; how many. Registered ones stay.
Workflow.clear = kit.either_way(Workflow, function()
  local count = 0
  for _, one in next, workflow.each() do
    if workflow.forget(one) then count = count + 1 end
  end
  return count
end)

-- settings -------------------------------------------------------------------------------------

--| `Workflow.setDefaultErrorHandler(fn)`
--- `fn(error, workflow)` is called where a workflow fails that has no handler of its own; `nil` takes
--- it away. The error is raised all the same.
Workflow.setDefaultErrorHandler = kit.either_way(Workflow, function(fn)
  if fn ~= nil and type(fn) ~= "function" then
    kit.invalid("fn", "must be a function, not a " .. type(fn))
  end
  workflow.default_error_handler = fn
end)

--| `Workflow.enableDebug(flag)`, `Workflow.isDebugEnabled()`, `Workflow.debug()`
--- With it each step is told to the log at level debug; what there is in this run.
Workflow.enableDebug = kit.either_way(Workflow, function(flag)
  if flag == nil then flag = true end
  workflow.is_debugged = options.flag(flag, "flag")
end)

Workflow.isDebugEnabled = kit.either_way(Workflow, function() return workflow.is_debugged end)

Workflow.debug = kit.either_way(Workflow, function()
  local told = {enabled = workflow.is_debugged, workflows = kit.list({})}
  for _, one in next, workflow.each() do
    told.workflows[#told.workflows + 1] = one.instance:debug()
  end
  return told
end)
