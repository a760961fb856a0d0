-- Asks the documents three questions and remembers what it asked.
-- Run by `make run`; on your own: llmspell run examples/tour.lua --arg collection=documents

local questions = {
  "How is one tenant kept away from another tenant's data?",
  "What happens to an acknowledged write when a process is killed?",
  "What stops a script that loops for ever?",
}

-- The sentence of a passage that shares most words with the question.
local function best_sentence(text, question)
  local wanted = {}
  for word in question:lower():gmatch("%a%a%a%a+") do
    wanted[word] = true
  end
  local prose = ("\n" .. text):gsub("\n#[^\n]*", ""):gsub("[|`*]", ""):gsub("%-%-+", ""):gsub("%s+", " ")
  local best, most = prose, -1
  for sentence in prose:gmatch("[^.!?]+[.!?]?") do
    local shared = 0
    for word in sentence:lower():gmatch("%a+") do
      shared = shared + (wanted[word] and 1 or 0)
    end
    if shared > most and #sentence > 30 and not sentence:find("?", 1, true) then
      best, most = sentence, shared
    end
  end
  best = best:gsub("^%s+", "")
  return #best <= 160 and best or best:sub(1, 160):gsub("%s%S*$", "") .. " …"
end

local collection = ARGS.collection or "documents"
local answers = {}

for number, question in ipairs(questions) do
  print(string.format("%d. %s", number, question))
  local found = RAG.search(question, { k = 2, collection = collection })
  for _, passage in ipairs(found.results) do
    print(string.format("   %.2f  %s", passage.score, passage.metadata.source))
    print("         " .. best_sentence(passage.text, question))
  end
  answers[number] = found.results[1] and found.results[1].document_id
  print("")
end

State.save("session:tour", "asked", { count = #questions, answers = answers })
local kept = State.load("session:tour", "asked")
print(string.format("State kept under session:tour/asked: %d questions asked.", kept.count))

return { answers = answers, state = kept }
