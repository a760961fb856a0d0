--[==[ template
id = "data-analysis"
name = "Data analysis"
description = "Computes what a CSV file holds and lets a model say what it means."
category = "Analysis"
version = "1.0.0"
requires = ["model", "files"]
tags = ["data", "csv", "statistics"]
result_schema = '{"type":"object","properties":{"statistics":{"type":"object"},"analysis":{"type":"string"},"chart":{"type":"string"}},"required":["statistics","analysis"]}'

[[parameters]]
name = "data_file"
type = "string"
description = "CSV file in the tenant's folder."
required = true
min_length = 1
max_length = 1024

[[parameters]]
name = "analysis_type"
type = "string"
description = "What is asked."
default = "descriptive"
allowed = ["descriptive", "correlation", "trend", "clustering"]

[[parameters]]
name = "chart_type"
type = "string"
description = "A chart of characters."
default = "bar"
allowed = ["bar", "line", "histogram", "none"]

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[estimate]
base_tokens = 3000
confidence = 0.6
]==]

local params = JSON.parse(ARGS.params or "{}")

local function agent(name, instructions, temperature)
  local builder = Agent.builder():name(name):model(params.model):system_prompt(instructions)
  return builder:temperature(params.temperature or temperature):build()
end

local told = Tool.execute("csv-analyzer", {operation = "analyze", input_file = params.data_file})
assert(told.success, told.message)
local statistics = told.result

-- A bar for each column that has a mean: numbers are computed, never asked of the model.
local function chart_of(columns)
  local lines, most = {}, 0
  for _, column in ipairs(columns) do most = math.max(most, math.abs(column.mean)) end
  for _, column in ipairs(columns) do
    local size = most > 0 and math.floor(40 * math.abs(column.mean) / most + 0.5) or 0
    lines[#lines + 1] = ("%-20s %s %.4g"):format(column.name, ("#"):rep(size), column.mean)
  end
  return table.concat(lines, "\n")
end

local function numbers_of(value, name, found)
  if type(value) ~= "table" then return found end
  if type(value.mean) == "number" then
    found[#found + 1] = {name = value.name or name, mean = value.mean}
    return found
  end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do numbers_of(value[key], tostring(key), found) end
  return found
end

local chart
if params.chart_type ~= "none" then chart = chart_of(numbers_of(statistics, "", {})) end

local analysis = agent("analyst", "You explain statistics plainly. Use only the numbers you are "
  .. "given; say what they cannot tell.", 0.2):execute({
  text = ("A %s analysis of %s. Statistics:\n%s"):format(
    params.analysis_type, params.data_file, JSON.stringify(statistics)),
}).text

return {
  result_type = "structured",
  result = {statistics = statistics, analysis = analysis, chart = chart},
  artifacts = {{
    filename = "analysis.md", mime_type = "text/markdown",
    content = analysis .. (chart and "\n\n```\n" .. chart .. "\n```\n" or "\n"),
  }},
}
