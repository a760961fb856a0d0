-- Tool: the toolbox by each way to reach it. It runs against a real toolbox.

-- Finding.
local listed = Tool.list()
assert(#listed > 0 and #listed == #Tool:list())
for i, tool in ipairs(listed) do
  assert(tool.name and tool.description and tool.version and tool.category and tool.level)
  assert(i == 1 or listed[i - 1].name < tool.name)
end
assert(Tool.exists("base64-encoder") and Tool:exists("base64_encoder"))
assert(not Tool.exists("no-such-tool") and Tool.get("no-such-tool") == nil)
assert(Tool.no_such_tool == nil and Tool[1] == nil and Tool.create == nil)
local categories = Tool.categories()
assert(categories[1] and table.concat(categories, " "):find("utility", 1, true))
local found = Tool.discover{category = "utility", tag = "BASE64"}
assert(#found == 1 and found[1].name == "base64-encoder" and found[1].category == "utility")
assert(#Tool.discover{category = "nowhere"} == 0 and #Tool.discover() == #listed)
assert(Tool.discover{query = "base64"}[1].name == "base64-encoder")
assert(Tool.search("Base64-Enc")[1].name == "base64-encoder" and #Tool:search("no such words") == 0)

-- Knowing.
local tool = Tool.get("base64_encoder")
assert(tool.name == "base64-encoder" and tool.level == "safe" and tool.available)
assert(tool.schema.name == tool.name and tool.schema.description == tool.description)
local first, by_name = tool.schema.parameters[1], {}
assert(first.name == "operation" and first.required and first.type == "string")
assert(first.description and first.enum[1] == "encode")
for _, parameter in ipairs(tool.schema.parameters) do by_name[parameter.name] = parameter end
assert(by_name.variant.default == "standard" and not by_name.variant.required)
assert(by_name.binary_input.type == "boolean" and by_name.binary_input.default == false)
assert(tool.schema.json.properties.operation and tool.schema.result.properties.output)
assert(tool.getSchema() == tool.schema and tool:getSchema() == tool.schema)

-- Executing, in every way.
local params = {operation = "encode", input = "hi"}
local ways = {
  Tool.execute("base64-encoder", params), Tool:execute("base64-encoder", params),
  Tool.invoke("base64_encoder", {operation = "encode", text = "hi"}),
  Tool.base64_encoder:execute(params), Tool["base64-encoder"].execute(params),
  tool.execute(tool, params), tool.invoke(params), Tool.get("base64-encoder").execute(tool, params),
  Tool.execute("base64-encoder", params, {timeout = 5}),
}
for _, r in ipairs(ways) do
  assert(r.success == true and r.operation == "encode" and r.error == nil)
  assert(r.result.output == "aGk=" and r.output == "aGk=" and r.encoded == "aGk=" and r.decoded == nil)
  assert(r.variant == "standard" and r.status == "success" and r.data == r.result)
  assert(r.metadata.execution_time_ms >= 0 and r.metadata.operation == "encode")
  assert(JSON.parse(r._raw_text).result.output == "aGk=" and r.text == "aGk=" and r.content == "aGk=")
  assert(r.nonsense == nil)
end
assert(#ways == 9)
local keys = {}
for key in pairs(ways[1]) do keys[#keys + 1] = key end
assert(table.concat(keys, " ") == "message metadata operation result success")

-- What is refused is raised, and can be read.
local function refused(...)
  local ok, e = pcall(Tool.execute, ...)
  assert(not ok)
  return e
end
local e = refused("base64-encoder", {operation = "shout", input = "hi"})
assert(e.reason == "FIELD_INVALID" and e.code == "INVALID_ARGUMENT" and e.metadata.field == "operation")
assert(e.message:find("^Tool execution failed: operation ") and tostring(e):find("Tool execution failed"))
assert(refused("base64-encoder").reason == "FIELD_REQUIRED")
e = refused("base64-encode", {})
assert(e.reason == "TOOL_NOT_FOUND" and e.code == "NOT_FOUND")
assert(e.message == "Tool 'base64-encode' not found. Did you mean base64-encoder?")
assert(refused().metadata.field == "name" and refused("x", 5).metadata.field == "params")
e = refused("base64-encoder", params, {timeout = 1e9})
assert(e.reason == "FIELD_INVALID" and e.metadata.field == "timeout")
assert(not pcall(Tool.execute, "base64-encoder", params, {timeuot = 1}))
e = refused("base64-encoder", {operation = "encode", input = print})
assert(e.reason == "FIELD_INVALID" and e.message:find("input"))

return "done"
