-- `State.workflow_get` and `State.workflow_list` of a run of a workflow: its steps are kept as the host
-- keeps them, so what a script reads as theirs is what they gave.

local kit = ...

local State, workflow = kit.env.State, kit.workflow
local error, match, next, pcall, rawget, type = error, string.match, next, pcall, rawget, type

local GET_RUN = "llmspell.v1.WorkflowService/GetWorkflowRun"
local get, list = State.workflow_get, State.workflow_list

-- The execution that an id names: one of a run, or a workflow of this script, of which it is the last.
local function execution_of(id)
  if type(id) ~= "string" then return nil end
  if match(id, "^wf_%x+$") then return id end
  local one = workflow.find(id)
  return one and one.id == id and one.last and one.last.execution_id or nil
end

local function steps_of(execution_id)
  local ok, answer = pcall(kit.call, GET_RUN, {execution_id = execution_id})
  if ok then return answer.run.output and answer.run.output.steps or {} end
  if kit.is_failure(answer) and rawget(answer, "reason") == "WORKFLOW_RUN_NOT_FOUND" then return nil end
  error(answer, 0)
end

-- State.workflow_get(execution, step): the output of a step, by its name or path.
State.workflow_get = kit.either_way(State, function(id, step)
  local execution_id = execution_of(id)
  local steps = execution_id and steps_of(execution_id)
  if not steps then return get(id, step) end
  local by_name
  for _, result in next, steps do
    if result.path == step then return result.output end
    if result.name == step then by_name = result.output end
  end
  if by_name ~= nil then return by_name end
  return get(execution_id, step)
end)

-- State.workflow_list(execution): the paths of its steps, in the order in which they began.
State.workflow_list = kit.either_way(State, function(id)
  local execution_id = execution_of(id)
  local steps = execution_id and steps_of(execution_id)
  if not steps then return list(id) end
  local paths = kit.list({})
  for i = 1, #steps do paths[i] = steps[i].path end
  return paths
end)
