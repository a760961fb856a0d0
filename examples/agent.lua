-- One agent with three tools, one of them a function of this script, and a conversation.
--
--   llmspell run examples/agent.lua
--   llmspell run examples/agent.lua --arg model=ollama/llama3.2
--
-- Without a model it plays answers that are written down here, so that it runs anywhere.

local orders = { ["17"] = { state = "on its way", price = 19.5 }, ["18"] = { state = "paid", price = 7 } }

local function order(given)
  return orders[given.number] or error("there is no order " .. given.number)
end

local answers = {
  { when = "order 17", text = "", tools = { { name = "order", arguments = { number = "17" } } } },
  { when = "order 17", text = "It is {{result.state}}." },
  { when = "both", tools = { { name = "calculator", arguments = { input = "19.5 + 7" } } } },
  { when = "both", text = "Both together are {{result.result}}." },
}

local clerk = Agent.builder()
  :name("clerk")
  :system_prompt("You answer questions about orders. Look them up; calculate with the calculator.")
  :model(ARGS.model or "scripted/inline")
  :tool({
    name = "order",
    description = "State and price of an order.",
    parameters = { number = { type = "string", description = "The order's number" } },
    fn = order,
  })
  :allowed_tools({ "calculator", "date-time-handler" })
  :max_turns(6)
  :max_cost_usd(0.05)
if not ARGS.model then
  clerk:base_url("data:application/json," .. JSON.stringify({ replies = answers }))
end
clerk = clerk:build()

for _, question in ipairs({ "How is order 17?", "What do both orders cost together?" }) do
  print("> " .. question)
  local done = clerk:invokeStream(question, function(chunk)
    if chunk.type == "tool_started" then print("  calls " .. chunk.tool) end
    if chunk.type == "tool_ended" and chunk.error then print("  " .. chunk.error.message) end
  end)
  print(done.text)
end

local metrics = clerk:get_metrics()
print(string.format(
  "%d questions, %d calls of tools, %d tokens, $%.4f",
  metrics.requests_total, metrics.tool_invocations,
  metrics.input_tokens + metrics.output_tokens, metrics.cost_usd
))
print("all is well")
