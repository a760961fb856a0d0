-- Asks the documents three questions and remembers what it asked.
-- Run by `make run`; on your own: llmspell run examples/tour.lua --arg collection=documents

local questions = {
  "How is one tenant kept away from another tenant's data?",
  "What happens to an acknowledged write when a process is killed?",
  "What stops a script that loops for ever?",
}

local collection = ARGS.collection or "documents"
local answers = {}

for number, question in ipairs(questions) do
  print(string.format("%d. %s", number, question))
  local found = RAG.search(question, { k = 2, collection = collection })
  for _, passage in ipairs(found.results) do
    local text = passage.text:gsub("%s+", " ")
    if #text > 150 then
      text = text:sub(1, 150):gsub("%s%S*$", "") .. " …"
    end
    print(string.format("   %.2f  %s", passage.score, passage.metadata.source))
    print("         " .. text)
  end
  answers[number] = found.results[1] and found.results[1].document_id
  print("")
end

State.save("session:tour", "asked", { count = #questions, answers = answers })
local kept = State.load("session:tour", "asked")
print(string.format("State kept under session:tour/asked: %d questions asked.", kept.count))

return { answers = answers, state = kept }
