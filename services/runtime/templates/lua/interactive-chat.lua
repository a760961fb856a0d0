--[==[ template
id = "interactive-chat"
name = "Interactive chat"
description = "One turn of a conversation that is kept in a session; the agent may call tools."
category = "Chat"
version = "1.0.0"
requires = ["model"]
tags = ["chat", "conversation", "tools"]
result_schema = '{"type":"object","properties":{"response":{"type":"string"},"session_id":{"type":"string"},"turns":{"type":"integer"},"tool_calls":{"type":"integer"}},"required":["response"]}'

[[parameters]]
name = "model"
type = "string"
description = "Model, as provider/model."
default = "ollama/llama3.2:3b"
min_length = 1
max_length = 256

[[parameters]]
name = "system_prompt"
type = "string"
description = "Its instructions."
default = "You are a helpful assistant."
max_length = 20000

[[parameters]]
name = "max_turns"
type = "integer"
description = "How often the model is asked for one message."
default = 10
min = 1
max = 100

[[parameters]]
name = "tools"
type = "array"
description = "Tools that it may call."
default = []
max_length = 64

[[parameters]]
name = "enable_memory"
type = "boolean"
description = "Whether it finds what was said long ago by meaning."
default = false

[[parameters]]
name = "message"
type = "string"
description = "What is said to it; without it, only the session is made."
max_length = 100000

[[parameters]]
name = "session_id"
type = "string"
description = "Session that the conversation is kept in; without it, a new one."
max_length = 128

[estimate]
base_tokens = 1000
confidence = 0.4

[estimate.per]
message = 0.3
max_turns = 300
]==]

local params = JSON.parse(ARGS.params or "{}")

local session_id = params.session_id or Session.create({name = "interactive-chat"})
if not params.message then
  return {result_type = "structured", result = {response = "", session_id = session_id, turns = 0}}
end

Session.set_current(session_id)
local builder = Agent.builder():name("chat"):model(params.model):system_prompt(params.system_prompt)
  :allowed_tools(params.tools):max_turns(params.max_turns)
if params.memory_enabled then builder:max_conversation_tokens(params.context_budget) end
if params.enable_memory then builder:with_vector_memory({collection = "chat"}) end

local answer = builder:build():execute({text = params.message})
return {
  result_type = "text",
  result = {
    response = answer.text, session_id = session_id, turns = answer.turns or 1,
    tool_calls = #(answer.tool_calls or {}),
  },
}
