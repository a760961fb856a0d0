--[==[ template
id = "code-review"
name = "Code review"
description = "Reads a file and reports what is wrong with it, by aspect and severity."
category = "Analysis"
version = "1.0.0"
requires = ["model", "files"]
tags = ["code", "review", "quality"]
result_schema = '{"type":"object","properties":{"file":{"type":"string"},"issues":{"type":"array"},"counts":{"type":"object"},"report":{"type":"string"}},"required":["issues","counts"]}'

[[parameters]]
name = "code_path"
type = "string"
description = "File in the tenant's folder."
required = true
min_length = 1
max_length = 1024

[[parameters]]
name = "language"
type = "string"
description = "Programming language."
required = true
min_length = 1
max_length = 64

[[parameters]]
name = "aspects"
type = "array"
description = "What is looked at, one reviewer each."
default = ["quality", "security", "performance"]
max_length = 10

[[parameters]]
name = "severity_filter"
type = "string"
description = "Only issues that are at least so bad."
default = "all"
allowed = ["all", "low", "medium", "high", "critical"]

[[parameters]]
name = "generate_fixes"
type = "boolean"
description = "Whether each issue comes with a fix."
default = false

[[parameters]]
name = "output_format"
type = "string"
description = "Of the report."
default = "markdown"
allowed = ["markdown", "json", "text"]

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[[parameters]]
name = "temperature"
type = "number"
description = "How freely the model chooses words."
default = 0.2
min = 0.0
max = 2.0

[estimate]
base_tokens = 1500
confidence = 0.4

[estimate.per]
aspects = 2500
]==]

local params = JSON.parse(ARGS.params or "{}")

local function agent(name, instructions, temperature)
  local builder = Agent.builder():name(name):model(params.model):system_prompt(instructions)
  return builder:temperature(params.temperature or temperature):build()
end

local ranks = {low = 1, medium = 2, high = 3, critical = 4}
local least = ranks[params.severity_filter] or 0

local file = Tool.execute("file-operations", {operation = "read", path = params.code_path})
assert(file.success, file.message)
local code = file.result.input

local issue = {
  type = "object",
  properties = {
    line = {type = "integer"}, severity = {enum = {"low", "medium", "high", "critical"}},
    message = {type = "string"}, fix = {type = "string"},
  },
  required = {"severity", "message"},
}
local schema = {
  type = "object", properties = {issues = {type = "array", items = issue}}, required = {"issues"},
}

local function review(aspect)
  local reviewer = Agent.builder():name("reviewer-" .. aspect):model(params.model)
    :system_prompt("You review " .. params.language .. " code for " .. aspect .. " alone. Report "
      .. "only what is really wrong" .. (params.generate_fixes and ", with a fix." or "."))
    :temperature(params.temperature):answer_schema(schema):build()
  local answer = reviewer:execute({text = "File " .. params.code_path .. ":\n\n" .. code})
  return answer.data.issues
end

-- A list even where nothing is in it.
local issues, counts = JSON.parse("[]"), {low = 0, medium = 0, high = 0, critical = 0}
for _, aspect in ipairs(params.aspects) do
  for _, found in ipairs(review(aspect)) do
    if ranks[found.severity] and ranks[found.severity] >= least then
      found.aspect = aspect
      issues[#issues + 1] = found
      counts[found.severity] = counts[found.severity] + 1
    end
  end
end
table.sort(issues, function(a, b)
  if a.severity ~= b.severity then return ranks[a.severity] > ranks[b.severity] end
  return (a.line or 0) < (b.line or 0)
end)

local lines = {"# Review of " .. params.code_path, ""}
for _, found in ipairs(issues) do
  lines[#lines + 1] = ("- **%s** (%s%s): %s"):format(
    found.severity, found.aspect, found.line and ", line " .. found.line or "", found.message
  )
  if found.fix then lines[#lines + 1] = "  - fix: " .. found.fix end
end
if #issues == 0 then lines[#lines + 1] = "Nothing was found." end
local report = table.concat(lines, "\n")
if params.output_format == "json" then report = JSON.stringify({issues = issues}) end

return {
  result_type = "structured",
  result = {file = params.code_path, issues = issues, counts = counts, report = report},
  artifacts = {{
    filename = params.output_format == "json" and "review.json" or "review.md", content = report,
    mime_type = params.output_format == "json" and "application/json" or "text/markdown",
  }},
}
