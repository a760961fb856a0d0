-- A personal assistant: keeps a list of things to do and remembers what it was told.
--
-- The agent has three functions of this script as tools, and one of the tools that are always there.
-- The list is in State, so the next run knows it. What is said is kept by its meaning, too: what was
-- told long ago is found again when it matters.
--
--   llmspell run examples/applications/personal_assistant.lua
--   llmspell run examples/applications/personal_assistant.lua --arg model=openai/gpt-4o-mini -- \
--     "Remind me to water the plants" "What is on my list?"
--
-- Arguments: `model` (by default answers are played), `user` (by default `me`), and what to say. Gives
-- `answers` with the tools that were called, `tasks` that are open, and `spent`.

local SAID = {
  "My sister Ana is allergic to nuts.",
  "Please put 'buy a cake for Ana' on my list.",
  "And 'call the plumber'.",
  "I have called the plumber.",
  "What is on my list?",
}
local PLAYED = {
  { when = "allergic", text = "I will remember that Ana is allergic to nuts." },
  { when = "buy a cake", tools = { { name = "add_task", arguments = { title = "buy a cake for Ana" } } } },
  { when = "buy a cake", text = "It is number {{result}} on your list. Mind that she is allergic to nuts." },
  { when = "'call the plumber'", tools = { { name = "add_task", arguments = { title = "call the plumber" } } } },
  { when = "'call the plumber'", text = "It is number {{result}}." },
  { when = "have called", tools = { { name = "finish_task", arguments = { number = 2 } } } },
  { when = "have called", text = "Done: {{result}}." },
  { when = "on my list", tools = { { name = "list_tasks", arguments = {} } } },
  { when = "on my list", text = "There is: {{result}}." },
  { text = "I do not know." },
}

local model = ARGS.model or "scripted/inline"
local scope = "user:" .. (ARGS.user or "me")

local function tasks() return State.load(scope, "tasks") or {} end

local function open_tasks()
  local open = {}
  for number, task in ipairs(tasks()) do
    if not task.done then open[#open + 1] = number .. ". " .. task.title end
  end
  return open
end

local TOOLS = {
  {
    name = "add_task",
    description = "Put a task on my list",
    parameters = { type = "object", properties = { title = { type = "string", maxLength = 80 } }, required = { "title" } },
    fn = function(given)
      local all = tasks()
      all[#all + 1] = { title = given.title, done = false }
      State.save(scope, "tasks", all)
      return #all
    end,
  },
  {
    name = "finish_task",
    description = "Mark the task of a number as done",
    parameters = { type = "object", properties = { number = { type = "integer", minimum = 1, maximum = 1000 } }, required = { "number" } },
    fn = function(given)
      local all = tasks()
      local task = all[given.number] or error("there is no task " .. given.number, 0)
      task.done = true
      State.save(scope, "tasks", all)
      return task.title
    end,
  },
  {
    name = "list_tasks",
    description = "Tell what is on my list",
    parameters = { type = "object", properties = {} },
    fn = function()
      local open = open_tasks()
      return #open > 0 and table.concat(open, ", ") or "nothing"
    end,
  },
  "datetime-handler",
}

local assistant = Agent.create{
  name = "assistant",
  model = model,
  base_url = model == "scripted/inline" and "data:application/json," .. JSON.stringify{ replies = PLAYED } or nil,
  system_prompt = "You help one person with their day. Use your tools for their list; never invent what is on it.",
  temperature = 0,
  max_tokens = 150,
  max_tool_calls = 5,
  tools = TOOLS,
  vector_memory = { collection = "assistant-memory", scope = scope, limit = 3, min_score = 0.3 },
}

local answers, spent, tokens = {}, 0, 0
for position, said in ipairs(#arg > 0 and arg or SAID) do
  local answer = assistant:execute(said)
  print("you        " .. said)
  local called = {}
  for _, call in ipairs(answer.tool_calls or {}) do
    called[#called + 1] = call.tool
    print("           " .. call.tool .. " " .. JSON.stringify(call.arguments))
  end
  print("assistant  " .. answer.text .. "\n")
  answers[position] = { text = answer.text, tools = called, remembered = #(answer.citations or {}) }
  spent = spent + (answer.cost_usd or 0)
  tokens = tokens + (answer.usage and answer.usage.total_tokens or 0)
end
print(string.format("%d tokens, $%.4f. Open: %s", tokens, spent, table.concat(open_tasks(), ", ")))
return { answers = answers, tasks = open_tasks(), spent = spent }
