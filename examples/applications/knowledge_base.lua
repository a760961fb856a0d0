-- A knowledge base: keeps documents and answers questions from them, with its sources.
--
-- It ingests a few pages of a house's handbook (or every .md and .txt file of a folder of yours),
-- looks for what fits a question, lets a model answer from that alone, and says where it is from. What
-- was asked is counted in State, so that questions which nothing answers can be seen later.
--
--   llmspell run examples/applications/knowledge_base.lua
--   llmspell run examples/applications/knowledge_base.lua --arg model=llamacpp/smollm2-135m-instruct
--   llmspell run examples/applications/knowledge_base.lua --arg folder=notes -- "Who has the key?"
--
-- Arguments: `model` (by default answers are played, no model is asked), `folder` (of the tenant's
-- files), `collection`, and questions. Gives `answers`, each with its `sources`, and `unanswered`.

local HANDBOOK = {
  heating = "# Heating\nThe boiler is in the cellar. If it is below 1 bar, open the blue valve until "
    .. "the needle is at 1.5 bar. The plumber is Ms Okafor, 555 0199.",
  waste = "# Waste\nPaper is collected on the first Monday of a month, glass on the third. Bins go out "
    .. "the evening before.",
  keys = "# Keys\nThe spare key of the front door is with the neighbours on the second floor, the "
    .. "Lindgrens. The bicycle cellar opens with the same key.",
}
local QUESTIONS = {
  "What do I do when the pressure of the boiler is too low?",
  "When is paper collected?",
  "Who has the spare key of the front door?",
}
-- What is played where no model is named: each answer for the question that has these words.
local PLAYED = {
  { when = "boiler", text = "Open the blue valve until the needle is at 1.5 bar [1]." },
  { when = "paper", text = "Paper is collected on the first Monday of a month [1]." },
  { when = "spare key", text = "The Lindgrens on the second floor have it [1]." },
  { text = "The documents do not say." },
}

local collection = ARGS.collection or "handbook"
local model = ARGS.model or "scripted/inline"

-- Documents of a folder of the tenant's files, or those above.
local function documents()
  local found = {}
  if not ARGS.folder then
    for name, text in pairs(HANDBOOK) do
      found[#found + 1] = { id = name, text = text, metadata = { source = name .. ".md" } }
    end
    return found
  end
  local listed = Tool.execute("file-operations", { operation = "list_dir", path = ARGS.folder })
  for _, entry in ipairs(listed.result.entries) do
    if entry.type == "file" and (entry.name:match("%.md$") or entry.name:match("%.txt$")) then
      local file = Tool.execute("file-operations", { operation = "read", path = entry.path })
      found[#found + 1] = { id = entry.path, text = file.result.input, metadata = { source = entry.path } }
    end
  end
  return found
end

local kept = documents()
RAG.ingest(kept, { collection = collection, chunking = { strategy = "markdown" } })
print(string.format("%d documents are in the collection %s.\n", #kept, collection))

local librarian = Agent.create{
  name = "librarian",
  model = model,
  base_url = model == "scripted/inline" and "data:application/json," .. JSON.stringify{ replies = PLAYED } or nil,
  system_prompt = "Answer in one sentence, from the passages that you are given and from nothing else. "
    .. "Put the number of the passage behind what you say, as in [1].",
  temperature = 0,
  max_tokens = 120,
  use_rag = { collection = collection, scope = "global", limit = 2, min_score = 0.2 },
}

local answers, unanswered = {}, {}
for number, question in ipairs(#arg > 0 and arg or QUESTIONS) do
  local said = librarian:execute(question)
  local sources = {}
  for _, citation in ipairs(said.citations or {}) do
    sources[#sources + 1] = citation.metadata and citation.metadata.source or citation.source_id
  end
  print(string.format("%d. %s\n   %s", number, question, said.text))
  for position, source in ipairs(sources) do print(string.format("   [%d] %s", position, source)) end
  answers[number] = { question = question, text = said.text, sources = sources, cost_usd = said.cost_usd }
  if #sources == 0 then unanswered[#unanswered + 1] = question end
  librarian:clear_conversation() -- each question stands for itself
end

local asked = State.increment("custom:knowledge-base", "asked", #answers)
print(string.format("\nAsked so far: %d. Without a source now: %d.", asked, #unanswered))
return { answers = answers, unanswered = unanswered, asked = asked }
