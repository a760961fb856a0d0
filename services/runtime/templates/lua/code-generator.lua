--[==[ template
id = "code-generator"
name = "Code generator"
description = "Writes a specification, code that meets it, and tests where they are wanted."
category = "CodeGen"
version = "1.0.0"
requires = ["model"]
tags = ["code", "generate", "tests"]
result_schema = '{"type":"object","properties":{"specification":{"type":"string"},"code":{"type":"string"},"tests":{"type":"string"},"language":{"type":"string"}},"required":["code","language"]}'

[[parameters]]
name = "description"
type = "string"
description = "What the code must do."
required = true
min_length = 1
max_length = 20000

[[parameters]]
name = "language"
type = "string"
description = "Programming language."
default = "python"
max_length = 64

[[parameters]]
name = "include_tests"
type = "boolean"
description = "Whether tests are written too."
default = true

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[estimate]
base_tokens = 3000
confidence = 0.5

[estimate.per]
description = 0.75
]==]

local params = JSON.parse(ARGS.params or "{}")

local function agent(name, instructions, temperature)
  local builder = Agent.builder():name(name):model(params.model):system_prompt(instructions)
  return builder:temperature(params.temperature or temperature):build()
end

local function code_of(text)
  return text:match("```[%w_+#-]*\n(.-)\n?```") or text
end

local extensions = {
  python = "py", javascript = "js", typescript = "ts", rust = "rs", go = "go", java = "java",
  lua = "lua", c = "c", ["c++"] = "cpp", ruby = "rb", bash = "sh",
}
local extension = extensions[params.language:lower()] or "txt"

local specification = agent("specifier", "You write short, exact specifications of programs: "
  .. "inputs, outputs, errors, edge cases. No code.", 0.3):execute({text = params.description}).text

local code = code_of(agent("coder", "You write correct, plain " .. params.language
  .. " code. Answer with one code block and nothing else.", 0.2):execute({
  text = "Write code that meets this specification.\n\n" .. specification,
}).text)

local artifacts = {
  {filename = "code." .. extension, content = code, mime_type = "text/plain"},
  {filename = "specification.md", content = specification, mime_type = "text/markdown"},
}

local tests
if params.include_tests then
  tests = code_of(agent("tester", "You write tests in " .. params.language
    .. ". Answer with one code block and nothing else.", 0.2):execute({
    text = "Specification:\n" .. specification .. "\n\nCode:\n" .. code,
  }).text)
  artifacts[#artifacts + 1] = {
    filename = "tests." .. extension, content = tests, mime_type = "text/plain",
  }
end

return {
  result_type = "multiple",
  result = {
    specification = specification, code = code, tests = tests, language = params.language,
  },
  artifacts = artifacts,
}
