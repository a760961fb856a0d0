-- A research collector: for each topic it gathers passages, has them summed up, and keeps a report.
--
-- A workflow loops over the topics. Each time it looks for passages by their meaning, asks an agent to
-- sum them up with their numbers, and keeps a note in State. The report, with all sources, is an
-- artifact of a session: running it again adds a version, so what was known before can be compared.
--
--   llmspell run examples/applications/research_collector.lua
--   llmspell run examples/applications/research_collector.lua --arg model=llamacpp/smollm2-135m-instruct
--   llmspell run examples/applications/research_collector.lua --arg collection=papers -- "heat pumps" "wells"
--
-- Arguments: `model` (by default answers are played), `collection` (by default one of a few texts that
-- are ingested first), topics. Gives `notes`, `artifact`, `session`.

local LIBRARY = {
  { id = "tides-1", text = "The tide turns about twice a day, since the earth turns under two bulges of water." },
  { id = "tides-2", text = "Spring tides are highest, at new and full moon, when sun and moon pull in one line." },
  { id = "bees-1", text = "A bee that has found flowers dances: the angle of its run tells the direction by the sun." },
  { id = "bees-2", text = "The longer a bee waggles in its dance, the farther away the flowers are." },
}
local TOPICS = { "tides of the sea", "the dance of bees" }
local PLAYED = {
  { when = "tides", text = "Tides turn twice a day [1] and are highest when sun and moon pull in one line [2]." },
  { when = "bees", text = "Bees dance to tell direction [1] and distance [2]." },
  { text = "Nothing is known of it." },
}

local model = ARGS.model or "scripted/inline"
local collection = ARGS.collection or "research"
local topics = #arg > 0 and { table.unpack(arg) } or TOPICS
if not ARGS.collection then RAG.ingest(LIBRARY, { collection = collection }) end

local writer = Agent.create{
  name = "writer",
  model = model,
  base_url = model == "scripted/inline" and "data:application/json," .. JSON.stringify{ replies = PLAYED } or nil,
  system_prompt = "Sum up the numbered passages in one or two sentences. Say nothing that is not in "
    .. "them, and put the number of a passage behind what you took from it.",
  temperature = 0,
  max_tokens = 150,
}

-- Passages as the writer is shown them, and where they are from.
local function number(given)
  local lines, sources = {}, {}
  for position, passage in ipairs(given.found.results or {}) do
    lines[position] = string.format("[%d] %s", position, passage.text)
    sources[position] = passage.document_id
  end
  return { text = "Topic: " .. given.topic .. "\n" .. table.concat(lines, "\n"), sources = sources }
end

local function note(given)
  local kept = { topic = given.topic, text = given.text, sources = given.sources }
  State.save("custom:research", given.topic, kept)
  return kept
end

local collect = Workflow.loop{
  name = "collect",
  iterator = { collection = topics },
  aggregation = "collect_all",
  error_strategy = "continue",
  body = {
    {
      name = "find", type = "tool", tool = "semantic-search",
      input = { input = "{{loop_value}}", collection = collection, limit = 2 },
    },
    { name = "number", type = "function", fn = number, input = { topic = "{{loop_value}}", found = "{{steps.find.output}}" } },
    { name = "write", type = "agent", agent = writer, input = "{{steps.number.output.text}}" },
    {
      name = "note", type = "function", fn = note,
      input = { topic = "{{loop_value}}", text = "{{steps.write.output}}", sources = "{{steps.number.output.sources}}" },
    },
  },
}
local done = collect:execute{}

local notes, lines = done.output, { "# Research", "" }
for _, one in ipairs(notes) do
  lines[#lines + 1] = "## " .. one.topic .. "\n\n" .. one.text .. "\n"
  for position, source in ipairs(one.sources) do lines[#lines + 1] = string.format("[%d] %s", position, source) end
  lines[#lines + 1] = ""
end
local report = table.concat(lines, "\n")

-- One session for all runs, so that reports are versions of one artifact.
local session = State.load("custom:research", "session")
if not session then
  session = Session.create{ name = "research" }
  State.save("custom:research", "session", session)
end
local artifact = Artifact.store(session, "agent_output", "report", report, { mime_type = "text/markdown" })
print(report)
print(string.format("%d of %d topics, kept as report of session %s.", #notes, #topics, session))
return { notes = notes, artifact = artifact, session = session, success = done.success }
