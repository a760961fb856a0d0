-- A code review assistant: reads a file, lets three reviewers look at it side by side, and writes a report.
--
-- What can be known without a model is found by tools (the symbols of the file, lines that look
-- dangerous); what needs reading is asked of three agents, each for one aspect, which must answer by a
-- schema. All of it is one workflow: the looks run in parallel, a function of this script merges them,
-- and the report is written beside the file.
--
--   llmspell run examples/applications/code_review.lua
--   llmspell run examples/applications/code_review.lua --arg model=openai/gpt-4o-mini --arg file=app/main.py
--
-- Arguments: `model` (by default answers are played), `file` (of the tenant's files; by default one
-- that is written first), `report`, `aspects` (of security, correctness and style). Gives `findings`, the most serious first, `report` and `spent`.

local SAMPLE = [[
import subprocess


def fetch(name, retries=[]):
    retries.append(name)
    return subprocess.run("curl http://files/" + name, shell=True)


def total(prices):
    sum = 0
    for p in prices:
        sum = sum + p
    return sum / len(prices)
]]
local ASPECTS = {
  security = "Look for what an attacker could use, and for nothing else.",
  correctness = "Look for what goes wrong when it runs, and for nothing else.",
  style = "Look for what is hard to read, and for nothing else.",
}
local PLAYED = {
  security = { { line = 6, severity = "high", text = "name reaches a shell; pass a list without shell=True" } },
  correctness = {
    { line = 4, severity = "medium", text = "the default list is shared by all calls" },
    { line = 13, severity = "medium", text = "no prices: division by zero" },
  },
  style = { { line = 10, severity = "low", text = "sum hides a built-in function" } },
}
local RANKS = { high = 1, medium = 2, low = 3 }
local SCHEMA = {
  type = "object",
  properties = {
    findings = {
      type = "array",
      maxItems = 3,
      items = {
        type = "object",
        properties = {
          line = { type = "integer", minimum = 1, maximum = 10000 },
          severity = { type = "string", enum = { "high", "medium", "low" } },
          text = { type = "string", maxLength = 100 },
        },
        required = { "line", "severity", "text" },
        additionalProperties = false,
      },
    },
  },
  required = { "findings" },
  additionalProperties = false,
}

local model = ARGS.model or "scripted/inline"
local file = ARGS.file or "review/sample.py"
local report = ARGS.report or file .. ".review.md"
local aspects = {}
for aspect in (ARGS.aspects or "security,correctness,style"):gmatch("%a+") do
  assert(ASPECTS[aspect], "aspects are security, correctness and style")
  aspects[#aspects + 1] = aspect
end
if not ARGS.file then
  Tool.execute("file-operations", { operation = "create_dir", path = "review", recursive = true })
  Tool.execute("file-operations", { operation = "write", path = file, input = SAMPLE })
end
local source = Tool.execute("file-operations", { operation = "read", path = file }).result.input

local numbered, count = {}, 0
for line in (source .. "\n"):gmatch("(.-)\n") do
  count = count + 1
  numbered[count] = string.format("%d: %s", count, line)
end

local function reviewer(aspect)
  local played = { replies = { { text = JSON.stringify{ findings = PLAYED[aspect] } } } }
  return Agent.create{
    name = "reviewer-" .. aspect,
    model = model,
    base_url = model == "scripted/inline" and "data:application/json," .. JSON.stringify(played) or nil,
    system_prompt = "You review code. " .. ASPECTS[aspect] .. " Answer with findings as JSON, none if there are none.",
    answer_schema = SCHEMA,
    temperature = 0,
    max_tokens = 500,
  }
end

local looks = {
  { name = "dangers", steps = { {
    name = "search", type = "tool", tool = "file-search",
    input = { path = file, pattern = [[shell=True|eval\(|exec\(|password\s*=]], use_regex = true, context_lines = 0 },
  } } },
}
for _, aspect in ipairs(aspects) do
  looks[#looks + 1] = { name = aspect, steps = { {
    name = "read", type = "agent", agent = reviewer(aspect), input = "{{inputs.code}}",
  } } }
end

-- All findings in one list, and the report that they make. The workflow calls it when all have looked.
local function merge(given)
  local findings = {}
  for _, aspect in ipairs(aspects) do
    for _, finding in ipairs(given.looks[aspect].findings) do
      finding.aspect = aspect
      findings[#findings + 1] = finding
    end
  end
  table.sort(findings, function(a, b)
    if a.severity ~= b.severity then return RANKS[a.severity] < RANKS[b.severity] end
    return a.line < b.line
  end)
  local lines = { "# Review of " .. given.file, "" }
  for _, finding in ipairs(findings) do
    lines[#lines + 1] = string.format(
      "- line %d, %s (%s): %s", finding.line, finding.severity, finding.aspect, finding.text)
  end
  if #findings == 0 then lines[#lines + 1] = "Nothing was found." end
  for _, match in ipairs(given.dangers.matches or {}) do
    lines[#lines + 1] = string.format(
      "- line %d looks dangerous to a search: `%s`", match.line_number, match.line_content)
  end
  return { findings = findings, report = table.concat(lines, "\n") .. "\n" }
end

local review = Workflow.sequential{
  name = "code-review",
  timeout_ms = 240000,
  steps = {
    {
      name = "look", type = "workflow",
      workflow = Workflow.parallel{ name = "looks", branches = looks, max_concurrency = 4 },
      input = { code = "{{inputs.code}}" },
    },
    {
      name = "merge", type = "function", fn = merge,
      input = { looks = "{{steps.look.output}}", dangers = "{{steps.look.output.dangers}}", file = "{{inputs.file}}" },
    },
    {
      name = "write", type = "tool", tool = "file-operations",
      input = { operation = "write", path = "{{inputs.report}}", input = "{{steps.merge.output.report}}" },
    },
  },
}

local done = review:execute{
  file = file, report = report,
  code = "File " .. file .. ":\n\n" .. table.concat(numbered, "\n"),
}
local merged = done.outputs.merge
print(merged.report)
print(string.format("%d findings, written to %s; %d calls of a model, $%.4f.",
  #merged.findings, report, done.spent.model_calls or 0, done.spent.cost_usd or 0))
return { findings = merged.findings, report = report, spent = done.spent }
