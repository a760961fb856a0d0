--[==[ template
id = "workflow-orchestrator"
name = "Workflow orchestrator"
description = "Runs a workflow that is given as data: steps that are tools and agents, in a row or side by side."
category = "Workflow"
version = "1.0.0"
requires = ["model"]
tags = ["workflow", "steps", "compose"]
result_schema = '{"type":"object","properties":{"success":{"type":"boolean"},"outputs":{"type":"object"},"steps":{"type":"array"}},"required":["success"]}'

[[parameters]]
name = "workflow_config"
type = "object"
description = "`steps`: a list of {name, type = tool or agent, tool, input, prompt}."
required = true

[[parameters]]
name = "execution_mode"
type = "string"
description = "How."
default = "sequential"
allowed = ["sequential", "parallel"]

[[parameters]]
name = "collect_intermediate"
type = "boolean"
description = "Whether the result has every step's output."
default = true

[[parameters]]
name = "max_steps"
type = "integer"
description = "Most steps."
default = 10
min = 1
max = 100

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[estimate]
base_tokens = 500
confidence = 0.3

[estimate.per]
max_steps = 400
]==]

local params = JSON.parse(ARGS.params or "{}")

local function agent(name, instructions, temperature)
  local builder = Agent.builder():name(name):model(params.model):system_prompt(instructions)
  return builder:temperature(params.temperature or temperature):build()
end

local given = params.workflow_config.steps
assert(type(given) == "table" and #given > 0, "workflow_config.steps must be a list of steps")
assert(#given <= params.max_steps, ("there are %d steps; the most is max_steps, %d"):format(
  #given, params.max_steps))

local worker = agent("worker", "You do exactly what you are asked, and nothing more.", 0.3)
local steps = {}
for i, step in ipairs(given) do
  local name = step.name or "step_" .. i
  if step.type == "tool" or step.tool then
    steps[i] = {name = name, type = "tool", tool = step.tool, input = step.input or {}}
  else
    steps[i] = {name = name, type = "agent", agent = worker, input = step.prompt or step.input}
  end
end

local build = params.execution_mode == "parallel" and Workflow.parallel or Workflow.sequential
local done = build({name = "orchestrated", steps = steps, timeout_ms = 280000}):execute()

return {
  result_type = "structured",
  result = {
    success = done.success, steps = params.collect_intermediate and done.steps or nil,
    outputs = params.collect_intermediate and done.outputs or {last = done.output},
  },
}
