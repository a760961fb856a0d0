-- What a workflow that was built can do: run, tell what it did, keep values, tell of itself.

local kit = ...

local call, json, options, workflow = kit.call, kit.json, kit.options, kit.workflow
local error, next, pcall, rawget, type = error, next, pcall, rawget, type
local lower, sort = string.lower, table.sort
local setmetatable = setmetatable

local VALIDATE = "llmspell.v1.WorkflowService/ValidateWorkflow"
local GET_RUN = "llmspell.v1.WorkflowService/GetWorkflowRun"
local DELETE_RUN = "llmspell.v1.WorkflowService/DeleteWorkflowRun"
local ESTIMATE = "llmspell.v1.UsageService/EstimateCost"
local publish = kit.env.Event.publish

local Instance = {__name = "workflow", __metatable = false}
Instance.__index = Instance

-- Every instance in the order of making; what is removed leaves a hole that nobody sees.
local all, made = {}, 0
-- What is behind an instance.
local behind = setmetatable({}, {__mode = "k"})

local function one_of(instance, name)
  local one = type(instance) == "table" and behind[instance]
  if not one then error("workflow:" .. name .. ": call it with a colon on a workflow", 3) end
  return one
end

-- results --------------------------------------------------------------------------------------

local function ms_between(step)
  return step.start_time and step.end_time and (step.end_time - step.start_time) * 1000 or nil
end

local function step_told(step)
  local status = lower(step.status)
  return {
    path = step.path, name = step.name, type = step.kind, status = status,
    success = status == "completed", output = step.output, error = step.failure,
    attempts = step.attempts, duration_ms = ms_between(step), input = step.input,
    spent = step.spent, is_compensation = step.is_compensation,
  }
end

local function steps_told(steps)
  local told = {}
  for i = 1, #(steps or {}) do told[i] = step_told(steps[i]) end
  return kit.list(told)
end

-- What is known of a run beside its steps, under the names that scripts of old look for.
local function extra_of(one, output, steps)
  local extra, agents = {}, nil
  for name, value in next, output.facts or {} do extra[name] = value end
  for i = 1, #steps do
    if steps[i].type == "agent" and steps[i].success then
      agents = agents or {}
      agents[steps[i].path] = steps[i].output
    end
  end
  extra.workflow_type, extra.workflow_name = output.kind, output.name
  extra.execution_id, extra.workflow_id = output.execution_id, one.id
  extra.agent_outputs = agents or extra.agent_outputs
  return extra
end

local function result_of(one, output)
  local steps, spent = steps_told(output.steps), output.spent or {}
  return {
    success = output.success, status = lower(output.status), execution_id = output.execution_id,
    text = output.summary, outputs = output.outputs or {}, output = output.output, steps = steps,
    spent = spent, shared_data = output.shared_data or {}, error = output.failure,
    media = kit.list({}), tool_calls = kit.list({}),
    metadata = {
      execution_time_ms = (output.elapsed or 0) * 1000,
      token_count = (spent.input_tokens or 0) + (spent.output_tokens or 0),
      extra = extra_of(one, output, steps),
    },
  }
end

local CODES = {WORKFLOW_TIME_LIMIT = "DEADLINE_EXCEEDED", CANCELLED = "CANCELLED"}

-- The error of a workflow that failed. It carries what was done before.
local function failure_of(one, output)
  local told = output.failure or {}
  local result, metadata = result_of(one, output), told.metadata or {}
  local reason = told.reason
  if reason == nil or reason == "" then reason = "WORKFLOW_STEP_FAILED" end
  return kit.failure({
    code = CODES[reason] or "FAILED_PRECONDITION", reason = reason,
    message = told.message or output.summary, metadata = metadata, step = metadata.step,
    steps = result.steps, outputs = result.outputs, output = result.output, status = result.status,
    spent = result.spent, execution_id = result.execution_id, result = result,
  })
end

-- running --------------------------------------------------------------------------------------

local COUNTED = {FAILED = "steps_failed", SKIPPED = "steps_skipped"}

local function count(one, output)
  local sums = one.metrics
  sums.executions_total = sums.executions_total + 1
  local field = output.success and "executions_succeeded" or "executions_failed"
  sums[field] = sums[field] + 1
  sums.last_duration_ms = (output.elapsed or 0) * 1000
  sums.total_duration_ms = sums.total_duration_ms + sums.last_duration_ms
  sums.average_duration_ms = sums.total_duration_ms / sums.executions_total
  for _, step in next, output.steps or {} do
    sums.steps_executed = sums.steps_executed + (step.status ~= "SKIPPED" and 1 or 0)
    local other = COUNTED[step.status]
    if other then sums[other] = sums[other] + 1 end
  end
  local spent = output.spent or {}
  sums.token_count = sums.token_count + (spent.input_tokens or 0) + (spent.output_tokens or 0)
  sums.cost_usd = sums.cost_usd + (spent.cost_usd or 0)
end

local function note(one, output)
  one.last = output
  count(one, output)
  for name, value in next, output.shared_data or {} do one.shared[name] = value end
end

-- A run that failed as a call tells its id only: what it had done is asked for.
local function output_of_failed(raised)
  local metadata = kit.is_failure(raised) and rawget(raised, "metadata")
  local id = type(metadata) == "table" and metadata.execution_id
  if not id then return nil end
  local ok, answer = pcall(kit.raw_call, GET_RUN, {execution_id = id})
  local output = ok and answer.run and answer.run.output
  if not output then return nil end
  if output.failure == nil then
    output.failure = {
      reason = rawget(raised, "reason"), message = rawget(raised, "message"), metadata = metadata,
    }
  end
  return output
end

-- The output of a run that is no failure; one that failed is raised.
local function judged(one, ok, output)
  if not ok then
    local raised = output
    output = output_of_failed(raised)
    if not output then
      one.metrics.executions_total = one.metrics.executions_total + 1
      one.metrics.executions_failed = one.metrics.executions_failed + 1
      error(raised, 0)
    end
  end
  note(one, output)
  if output.success or output.status == "PARTIALLY_COMPLETED" then return output end
  error(failure_of(one, output), 0)
end

local HOW = {on_event = function(value, name)
  if type(value) ~= "function" then kit.invalid(name, "must be a function") end
  return value
end}

local function inputs_of(given)
  if given == nil then return {} end
  if type(given) ~= "table" then return {input = given} end
  return given
end

-- The data of a run: what it begins with and what was set since.
local function definition_with_shared(one)
  local definition, shared = {}, {}
  for name, value in next, one.definition do definition[name] = value end
  for name, value in next, one.definition.shared_data or {} do shared[name] = value end
  for name, value in next, one.set do shared[name] = value end
  definition.shared_data = shared
  return definition
end

local function handle_failure(one, raised)
  local handler = one.on_error or workflow.default_error_handler
  if handler then handler(raised, one.instance) end
  error(raised, 0)
end

local function execute(one, input, how)
  how = options.read(how, HOW)
  local inputs = inputs_of(input)
  if one.before then
    local changed = one.before({
      workflow_id = one.id, workflow_name = one.definition.name, type = one.kind, input = inputs,
      hook_type = "before_execute",
    })
    if type(changed) == "table" then inputs = changed end
  end
  if one.shape then inputs = one.shape(inputs) end
  local request = {inputs = inputs, session_id = kit.session_id}
  if one.registered and next(one.set) == nil then request.name = one.definition.name
  else request.workflow = definition_with_shared(one) end
  one.running = (one.running or 0) + 1
  local ok, output = pcall(workflow.run, one, request, how.on_event, judged)
  one.running = one.running - 1
  if not ok then handle_failure(one, output) end
  local result = result_of(one, output)
  if one.after then one.after(result) end
  return result
end

--| `workflow:execute(input, {on_event})`
--- Runs it; what came of it. A table is its inputs, anything else its input `input`. Raises where it
--- fails: the error has `reason`, `message`, `step`, `steps`, `outputs`, `status`, `spent`.
--- Gives `success`, `status`, `text`, `output`, `outputs`, `steps`, `spent`, `shared_data`,
--- `execution_id`, `metadata{execution_time_ms, token_count, extra}`, `media`, `tool_calls`.
function Instance:execute(input, how) return execute(one_of(self, "execute"), input, how) end
Instance.run, Instance.invoke = Instance.execute, Instance.execute

-- telling --------------------------------------------------------------------------------------

--| `workflow:get_info()`
--- `{id, name, type, description, definition, functions, registered}`.
function Instance:get_info()
  local one = one_of(self, "get_info")
  local names = {}
  for name in next, one.functions do names[#names + 1] = name end
  sort(names)
  return {
    id = one.id, name = one.definition.name, type = one.kind,
    description = one.definition.description, definition = one.definition,
    functions = kit.list(names), registered = one.registered == true,
  }
end

local Problem = {__name = "problem", __metatable = false}
function Problem.__tostring(problem)
  local place = problem.step ~= "" and "step " .. problem.step .. ": " or ""
  return place .. (problem.field ~= "" and problem.field .. ": " or "") .. problem.message
end
function Problem.__concat(left, right) return kit.tostring(left) .. kit.tostring(right) end

--| `workflow:validate()`
--- `{valid, workflow_id, warnings, errors}`, as the host finds it; each warning and error is `{step,
--- field, message}` and reads as text.
function Instance:validate()
  local one = one_of(self, "validate")
  local names = kit.list({})
  for name in next, one.functions do names[#names + 1] = name end
  sort(names)
  local answer = call(VALIDATE, {
    workflow = definition_with_shared(one), functions = names, check_functions = true,
  })
  local told = {valid = answer.valid, workflow_id = one.id, warnings = {}, errors = {}}
  for _, problem in next, answer.problems or {} do
    local list = problem.is_warning and told.warnings or told.errors
    list[#list + 1] = setmetatable(
      {step = problem.step, field = problem.field, message = problem.message}, Problem
    )
  end
  kit.list(told.warnings)
  kit.list(told.errors)
  return told
end

--| `workflow:estimate_cost(input)`
--- What an execution would cost, without running it: `{likely, most, confidence, notes}`, the first two
--- with `cost_usd`, `input_tokens`, `output_tokens`, `model_calls`.
function Instance:estimate_cost(input)
  local one = one_of(self, "estimate_cost")
  return call(ESTIMATE, {workflow = {
    workflow = definition_with_shared(one), inputs = inputs_of(input),
  }})
end

--| `workflow:get_metrics()`
--- Of its executions in this run: `executions_total`, `executions_succeeded`, `executions_failed`,
--- `steps_executed`, `steps_failed`, `steps_skipped`, `total_duration_ms`, `average_duration_ms`,
--- `last_duration_ms`, `token_count`, `cost_usd`.
function Instance:get_metrics()
  local one = one_of(self, "get_metrics")
  local told = {workflow_id = one.id, name = one.definition.name}
  for name, value in next, one.metrics do told[name] = value end
  return told
end

--| `workflow:debug()`
--- What `get_info` and `get_metrics` say, `shared_data`, `last_status`, and the `steps` that it did last.
function Instance:debug()
  local one = one_of(self, "debug")
  local told = Instance.get_info(self)
  told.metrics, told.shared_data = Instance.get_metrics(self), one.shared
  told.execution_id, told.running = Instance.get_execution_id(self), one.running or 0
  told.last_status = one.last and lower(one.last.status) or nil
  told.steps = one.last and steps_told(one.last.steps) or kit.list({})
  return told
end

--| `workflow:get_execution_id()`
--- The id of its last execution, by which `llmspell workflow show` finds it; or nil.
function Instance:get_execution_id()
  local one = one_of(self, "get_execution_id")
  return one.last and one.last.execution_id or nil
end

-- outputs --------------------------------------------------------------------------------------

--| `workflow:get_output(step)`, `workflow:get_all_outputs()`, `workflow:list_outputs()`
--- Of its last execution: what a step gave, by its name or by a path such as `left/check`; all of its
--- own steps' by name; their names in order.
function Instance:get_output(step)
  local one = one_of(self, "get_output")
  if step == nil then kit.required("step") end
  local last = one.last
  if not last then return nil end
  local found = last.outputs and last.outputs[step]
  if found ~= nil then return found end
  for i = #(last.steps or {}), 1, -1 do
    local result = last.steps[i]
    if result.path == step or result.name == step then return result.output end
  end
end

-- Its own steps' by name.
function Instance:get_all_outputs()
  local one = one_of(self, "get_all_outputs")
  local told = {}
  for name, value in next, one.last and one.last.outputs or {} do told[name] = value end
  return told
end

function Instance:list_outputs()
  local names = kit.list({})
  for name in next, Instance.get_all_outputs(self) do names[#names + 1] = name end
  sort(names)
  return names
end

--| `workflow:clear_outputs()`
--- Erases what its last execution gave, here and where runs are kept: `{deleted}`.
function Instance:clear_outputs()
  local one = one_of(self, "clear_outputs")
  local deleted = #Instance.list_outputs(self)
  if one.last then call(DELETE_RUN, {execution_id = one.last.execution_id}) end
  one.last = nil
  return {deleted = deleted}
end

-- values ---------------------------------------------------------------------------------------

--| `workflow:set_shared_data(key, value)`, `workflow:get_shared_data(key)`
--- Sets what the next execution begins with, and within a function of a running one what the steps after
--- it read; what it was at the end of the last execution, or was set to since.
function Instance:set_shared_data(key, value)
  local one = one_of(self, "set_shared_data")
  if key == nil then kit.required("key") end
  options.text(key, "key")
  local ok, wrong, cycle = json.encode(value, "value", true)
  if not ok then kit.unfit("value", wrong, cycle) end
  one.set[key], one.shared[key] = value, value
  workflow.share(key, value)
end

function Instance:get_shared_data(key)
  local one = one_of(self, "get_shared_data")
  if key == nil then return one.shared end
  return one.shared[key]
end

--| `workflow:get_state(key)`, `workflow:set_state(key, value)`
--- A value that outlives the run, in scope `workflow:NAME`.
function Instance:get_state(key)
  return kit.state.load("workflow:" .. one_of(self, "get_state").definition.name, key)
end

function Instance:set_state(key, value)
  return kit.state.save("workflow:" .. one_of(self, "set_state").definition.name, key, value)
end

--| `workflow:emit(name, data)`
--- Publishes an event of the tenant: `{success, workflow_id, event_name}`.
function Instance:emit(name, data)
  local one = one_of(self, "emit")
  if data == nil then data = {} end
  publish(name, data, {
    source = "workflow:" .. one.definition.name,
    correlation_id = one.last and one.last.execution_id or one.id,
  })
  return {success = true, workflow_id = one.id, event_name = name}
end

-- handlers -------------------------------------------------------------------------------------

-- Each sets the one function that is called, nil takes it away.
local function setter(field, hook_type)
  return function(self, fn)
    local one = one_of(self, "on_" .. hook_type)
    if fn ~= nil and type(fn) ~= "function" then
      kit.invalid("fn", "must be a function, not a " .. type(fn))
    end
    one[field] = fn
    return {message = "It will be called.", workflow_id = one.id, hook_type = hook_type}
  end
end

--| `workflow:on_before_execute(fn)`, `workflow:on_after_execute(fn)`, `workflow:on_error(fn)`
--- Sets what is called, nil takes it away: `fn{workflow_id, workflow_name, type, input}`, which may give a
--- table of other inputs; `fn(result)`; `fn(error, workflow)`, and the error is raised all the same.
Instance.on_before_execute = setter("before", "before_execute")
Instance.on_after_execute = setter("after", "after_execute")
Instance.on_error = setter("on_error", "on_error")

-- making ---------------------------------------------------------------------------------------

local function metrics()
  return {
    executions_total = 0, executions_succeeded = 0, executions_failed = 0, steps_executed = 0,
    steps_failed = 0, steps_skipped = 0, total_duration_ms = 0, average_duration_ms = 0,
    last_duration_ms = 0, token_count = 0, cost_usd = 0,
  }
end

-- A new instance of a definition. `registered`: it runs by its name, as the tenant has it.
function workflow.instance(kind, definition, book, registered)
  book = book or workflow.book(definition.name)
  made = made + 1
  local id = "workflow_" .. (kit.run_id or "run") .. "_" .. kit.tostring(made)
  local instance = setmetatable({type = kind, name = definition.name, id = id}, Instance)
  local one = {
    instance = instance, id = id, kind = kind, definition = definition, functions = book.functions,
    finders = book.finders, registered = registered, shared = {}, set = {}, metrics = metrics(), number = made,
  }
  for name, value in next, definition.shared_data or {} do one.shared[name] = value end
  behind[instance], all[made] = one, one
  return instance
end

-- What is behind an instance, or behind the newest of a name or id; nil: there is none.
function workflow.find(value)
  if type(value) == "table" then return behind[value] end
  for number = made, 1, -1 do
    local one = all[number]
    if one and (one.id == value or one.definition.name == value) then return one end
  end
end

function workflow.each()
  local found = {}
  for number = 1, made do
    if all[number] then found[#found + 1] = all[number] end
  end
  return found
end

-- Whether it was in the list.
function workflow.forget(one)
  local known = all[one.number] ~= nil
  all[one.number] = nil
  return known
end
