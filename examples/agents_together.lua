-- Several agents: one after the other, all at once, by vote, by a router, and one as the tool of another.
--
--   llmspell run examples/agents_together.lua
--   llmspell run examples/agents_together.lua --arg model=ollama/llama3.2
--
-- Without a model it plays answers that are written down here, so that it runs anywhere.

local function agent(name, system_prompt, ...)
  local made = { name = name, system_prompt = system_prompt, model = ARGS.model or "scripted/inline" }
  if not ARGS.model then
    made.base_url = "data:application/json," .. JSON.stringify({ replies = { ... } })
  end
  return made
end

local writer = Agent.create(agent("writer", "Write one sentence about what you are told.", { text = "Cats: {{input}}." }))
local editor = Agent.create(agent("editor", "Make the sentence shorter.", { text = "[short] {{input}}" }))
local yes = Agent.create(agent("yes", "Answer yes or no.", { text = "yes" }))
local no = Agent.create(agent("no", "Answer yes or no.", { text = "no" }))
local sure = Agent.create(agent("sure", "Answer yes or no.", { text = "yes" }))

local row = Agent.create_composite("row", { writer, editor }, "sequential")
print("in a row:   " .. row:execute("they sleep").text)

local all = Agent.create_composite("all", { writer, editor }, "parallel")
print("all:        " .. all:execute("they purr").text:gsub("\n", " / "))

local vote = Agent.create_composite("vote", { yes, no, sure }, { routing = "vote", threshold = 0.6 })
print("by vote:    " .. vote:execute("Do cats purr?").text)

local desk = Agent.create_composite("desk", { writer, editor }, {
  routing = "routed",
  router = function(text, names) return text:find("short") and names[2] or names[1] end,
})
print("routed:     " .. desk:execute("make this short").text)

local tool = Agent.wrap_as_tool(editor, { description = "Makes a sentence shorter." })
local boss = agent("boss", "Have sentences shortened.",
  { tools = { { name = tool, arguments = { input = "a long sentence" } } } }, { text = "Done: {{result}}" })
boss.tools = { tool }
print("as a tool:  " .. Agent.create(boss):execute("Shorten it.").text)

for _, child in ipairs(Agent.get_hierarchy("vote").root.children) do print("  vote has " .. child.name) end
print("all is well")
