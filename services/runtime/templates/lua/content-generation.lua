--[==[ template
id = "content-generation"
name = "Content generation"
description = "Plans a text, writes it, judges it, and writes it again until it is good enough."
category = "Content"
version = "1.0.0"
requires = ["model"]
tags = ["text", "write", "edit"]
result_schema = '{"type":"object","properties":{"content":{"type":"string"},"outline":{"type":"string"},"quality":{"type":"number"},"iterations":{"type":"integer"},"word_count":{"type":"integer"}},"required":["content","iterations"]}'

[[parameters]]
name = "topic"
type = "string"
description = "What it is about."
required = true
min_length = 1
max_length = 10000

[[parameters]]
name = "content_type"
type = "string"
description = "What it is."
default = "article"
allowed = ["article", "blog", "documentation", "email", "report", "creative", "general"]

[[parameters]]
name = "target_length"
type = "integer"
description = "About how many words."
default = 500
min = 10
max = 20000

[[parameters]]
name = "tone"
type = "string"
description = "Its tone."
default = "professional"
max_length = 64

[[parameters]]
name = "style_guide"
type = "string"
description = "What it must keep to."
max_length = 10000

[[parameters]]
name = "quality_threshold"
type = "number"
description = "Good enough, 0 to 1."
default = 0.8
min = 0.0
max = 1.0

[[parameters]]
name = "max_iterations"
type = "integer"
description = "How often it is written at most."
default = 3
min = 1
max = 10

[[parameters]]
name = "output_format"
type = "string"
description = "Of the text."
default = "markdown"
allowed = ["markdown", "text", "html"]

[[parameters]]
name = "include_outline"
type = "boolean"
description = "Whether the plan is part of the result."
default = true

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[estimate]
base_tokens = 1500
confidence = 0.4

[estimate.per]
target_length = 6
max_iterations = 1200
]==]

local params = JSON.parse(ARGS.params or "{}")

local function agent(name, instructions, temperature)
  local builder = Agent.builder():name(name):model(params.model):system_prompt(instructions)
  return builder:temperature(params.temperature or temperature):build()
end

local kind = params.content_type
local style = params.style_guide and " Keep to this style guide: " .. params.style_guide or ""
local outline = agent("planner", "You write outlines, short and in points.", 0.5):execute({
  text = ("Outline of a %s about: %s"):format(kind, params.topic),
}).text

local writer = agent("writer", ("You write %s texts in a %s tone, as %s.%s"):format(
  kind, params.tone, params.output_format, style), 0.7)
local judge = Agent.builder():name("judge"):model(params.model):temperature(0.1)
  :system_prompt("You judge texts strictly. quality is 0 to 1; advice is what to change.")
  :answer_schema({
    type = "object", required = {"quality", "advice"},
    properties = {quality = {type = "number"}, advice = {type = "string"}},
  }):build()

local content, advice, quality, iterations = "", "", 0, 0
repeat
  iterations = iterations + 1
  local wish = ("Write a %s of about %d words about: %s\n\nOutline:\n%s"):format(
    kind, params.target_length, params.topic, outline)
  if iterations > 1 then
    wish = wish .. "\n\nYour last version:\n" .. content .. "\n\nChange this: " .. advice
  end
  content = writer:execute({text = wish}).text
  if iterations == params.max_iterations then break end
  -- A model that cannot judge is no reason to throw the text away.
  local judged, answer = pcall(judge.execute, judge, {text = content})
  if not judged then
    if answer.reason ~= "PROVIDER_ANSWER_INVALID" then error(answer, 0) end
    break
  end
  quality, advice = answer.data.quality, answer.data.advice
until quality >= params.quality_threshold

local _, words = content:gsub("%S+", "")
local endings = {markdown = "md", text = "txt", html = "html"}
return {
  result_type = "text",
  result = {
    content = content, outline = params.include_outline and outline or nil, quality = quality,
    iterations = iterations, word_count = words,
  },
  artifacts = {{
    filename = "content." .. endings[params.output_format], content = content,
    mime_type = params.output_format == "html" and "text/html" or "text/markdown",
  }},
}
