--[==[ template
id = "document-processor"
name = "Document processor"
description = "Reads documents and summarises, extracts, translates or reformats each."
category = "Document"
version = "1.0.0"
requires = ["model", "files"]
tags = ["document", "pdf", "summary"]
result_schema = '{"type":"object","properties":{"documents":{"type":"array"},"transformation":{"type":"string"}},"required":["documents"]}'

[[parameters]]
name = "document_paths"
type = "array"
description = "Files in the tenant's folder: text, Markdown, PDF."
required = true
min_length = 1
max_length = 50

[[parameters]]
name = "transformation_type"
type = "string"
description = "What is done with each."
default = "summarize"
allowed = ["summarize", "extract", "translate", "reformat", "classify"]

[[parameters]]
name = "output_format"
type = "string"
description = "Of the results."
default = "markdown"
allowed = ["markdown", "text", "json"]

[[parameters]]
name = "parallel_processing"
type = "boolean"
description = "Whether documents are worked on side by side."
default = true

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[estimate]
base_tokens = 200
confidence = 0.3

[estimate.per]
document_paths = 2500
]==]

local params = JSON.parse(ARGS.params or "{}")

local function agent(name, instructions, temperature)
  local builder = Agent.builder():name(name):model(params.model):system_prompt(instructions)
  return builder:temperature(params.temperature or temperature):build()
end

local wishes = {
  summarize = "Summarise it in a few sentences.", extract = "List its key facts, one a line.",
  translate = "Translate it into English.", reformat = "Put it into clean, well-structured Markdown.",
  classify = "Say in one or two words what kind of document it is.",
}

local function text_of(path)
  if path:lower():match("%.pdf$") then
    local pdf = Tool.execute("pdf-processor", {operation = "extract_text", input = path})
    assert(pdf.success, pdf.message)
    return pdf.result.text
  end
  local file = Tool.execute("file-operations", {operation = "read", path = path})
  assert(file.success, file.message)
  return file.result.input
end

local worker = agent("document-worker", "You work on documents exactly as you are asked. Answer as "
  .. params.output_format .. ".", 0.2)

local steps = {}
for i, path in ipairs(params.document_paths) do
  steps[i] = {
    name = "document_" .. i, type = "agent", agent = worker,
    input = wishes[params.transformation_type] .. "\n\n" .. text_of(path),
  }
end

local build = params.parallel_processing and #steps > 1 and Workflow.parallel or Workflow.sequential
local done = build({name = "documents", steps = steps, timeout_ms = 280000}):execute()

local documents, artifacts = {}, {}
for i, path in ipairs(params.document_paths) do
  local output = done.outputs["document_" .. i]
  local text = type(output) == "table" and output.text or output
  documents[i] = {path = path, result = text}
  artifacts[i] = {
    filename = path:match("[^/]+$") .. "." .. params.transformation_type .. ".md",
    content = tostring(text), mime_type = "text/markdown",
  }
end

return {
  result_type = "multiple",
  result = {documents = documents, transformation = params.transformation_type},
  artifacts = artifacts,
}
