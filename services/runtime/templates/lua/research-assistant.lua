--[==[ template
id = "research-assistant"
name = "Research assistant"
description = "Looks a topic up on the web and in memory, keeps what it found, and writes a report with citations."
category = "Research"
version = "1.0.0"
requires = ["model", "rag"]
tags = ["research", "report", "citations"]
result_schema = '{"type":"object","properties":{"report":{"type":"string"},"sources":{"type":"array"},"searched":{"type":"boolean"}},"required":["report","sources"]}'

[[parameters]]
name = "topic"
type = "string"
description = "What is looked into."
required = true
min_length = 3
max_length = 10000

[[parameters]]
name = "max_sources"
type = "integer"
description = "Most sources."
default = 10
min = 1
max = 50

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[[parameters]]
name = "output_format"
type = "string"
description = "Of the report."
default = "markdown"
allowed = ["markdown", "json", "html"]

[[parameters]]
name = "include_citations"
type = "boolean"
description = "Whether it refers to its sources."
default = true

[estimate]
base_tokens = 3000
confidence = 0.6

[estimate.per]
max_sources = 500
]==]

local params = JSON.parse(ARGS.params or "{}")

local function agent(name, instructions, temperature)
  local builder = Agent.builder():name(name):model(params.model):system_prompt(instructions)
  return builder:temperature(params.temperature or temperature):build()
end

local collection = "research"

-- Without a search service of the operator's, what is known already is all there is.
local function search_web()
  local ok, found = pcall(Tool.execute, "web-searcher", {
    input = params.topic, max_results = params.max_sources,
  })
  if not ok or not found.success then return {}, false end
  local documents = {}
  for i, hit in ipairs(found.result.results) do
    documents[i] = {
      id = hit.url, content = hit.title .. "\n" .. (hit.snippet or ""),
      metadata = {url = hit.url, title = hit.title},
    }
  end
  return documents, true
end

local documents, searched = search_web()
if #documents > 0 then RAG.ingest(documents, {collection = collection}) end

-- A list even where nothing is in it.
local sources, lines = JSON.parse("[]"), {}
local known, hits = pcall(RAG.search, params.topic, {
  collection = collection, k = params.max_sources, mode = "hybrid",
})
for i, hit in ipairs(known and hits or {}) do
  local metadata = hit.metadata or {}
  local text = hit.text or hit.content
  sources[i] = {number = i, title = metadata.title, url = metadata.url, text = text}
  lines[i] = ("[%d] %s"):format(i, text)
end

local rule = params.include_citations and " Refer to passages as [1]." or ""
local report = agent("researcher", "You write reports from the passages you are given, and say what "
  .. "they do not tell." .. rule .. " Answer as " .. params.output_format .. ".", 0.3):execute({
  text = ("Topic: %s\n\nPassages:\n%s"):format(
    params.topic, #lines > 0 and table.concat(lines, "\n") or "none"),
}).text

local endings = {markdown = "md", json = "json", html = "html"}
return {
  result_type = "multiple",
  result = {report = report, sources = sources, searched = searched},
  artifacts = {{
    filename = "report." .. endings[params.output_format], content = report,
    mime_type = params.output_format == "html" and "text/html" or "text/markdown",
  }},
}
