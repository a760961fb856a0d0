-- Every function of Tool, on a real deployment.

local tools = Tool.list()
assert(#tools > 0 and tools[1].name and tools[1].description and tools[1].version)
local known = {}
for _, one in ipairs(tools) do known[one.name] = one end
assert(known["hash-calculator"] or known["text-manipulator"] or known["uuid-generator"], "no known tool")

local name = known["hash-calculator"] and "hash-calculator" or tools[1].name
assert(Tool.exists(name) and Tool.exists(name:gsub("-", "_")) and not Tool.exists("no-such-tool"))
local tool = Tool.get(name)
assert(tool.name == name and tool.schema.parameters and Tool.get("no-such-tool") == nil)
assert(type(tool.getSchema()) == "table" and Tool[name].name == name)
assert(#Tool.categories() > 0 and #Tool.discover{category = tool.category} > 0)
assert(#Tool.discover{tag = tool.description:sub(1, 8)} > 0 and type(Tool.search(name)) == "table")

if known["hash-calculator"] then
  local given = {operation = "hash", algorithm = "sha256", input = "abc"}
  local sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
  for _, result in ipairs{
    Tool.execute(name, given), Tool.invoke(name, given), Tool:execute("hash_calculator", given),
    tool.execute(given), tool:execute(given),
  } do
    assert(result.hash == sha, JSON.stringify(result))
  end
end
local ok, e = pcall(Tool.execute, "no-such-tool", {})
assert(not ok and e.reason)

return "done"
