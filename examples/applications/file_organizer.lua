-- A file organizer: sorts the files of a folder into others, and can put everything back.
--
-- What a name tells (`.jpg` is a picture) needs no model. Files of other names are read, and an agent
-- chooses one of the categories; a schema leaves it no other words. By default nothing is moved: the
-- plan is shown. With `apply=yes` a workflow moves the files, and moves back those that it has moved
-- where one of them fails. With `undo=yes` the last plan is taken back.
--
--   llmspell run examples/applications/file_organizer.lua --arg demo=yes
--   llmspell run examples/applications/file_organizer.lua --arg folder=inbox --arg apply=yes
--   llmspell run examples/applications/file_organizer.lua --arg undo=yes
--
-- Arguments: `model` (by default answers are played), `folder` (of the tenant's files, by default
-- `inbox`), `demo` (writes a few files first), `apply`, `undo`. Gives `plan` and `moved`.

local KNOWN = { jpg = "pictures", png = "pictures", mp3 = "music", csv = "tables", lua = "programs", py = "programs" }
local CATEGORIES = { "letters", "bills", "recipes", "other" }
local DEMO = {
  ["beach.jpg"] = "not really a picture",
  ["totals.csv"] = "month,total\n1,20\n",
  ["scan-1.txt"] = "Invoice 4411. Amount due: 48.20. Please pay by the end of the month.",
  ["scan-2.txt"] = "Dear Ada, thank you for your letter. We are all well and hope to see you in June.",
  ["scan-3.txt"] = "Two eggs, 200 g flour, a pinch of salt. Mix, rest for an hour, fry in butter.",
}
local PLAYED = {
  { when = "invoice", text = '{"category": "bills"}' },
  { when = "dear", text = '{"category": "letters"}' },
  { when = "flour", text = '{"category": "recipes"}' },
  { text = '{"category": "other"}' },
}
local SCHEMA = {
  type = "object",
  properties = { category = { type = "string", enum = CATEGORIES } },
  required = { "category" },
  additionalProperties = false,
}

local model = ARGS.model or "scripted/inline"
local folder = ARGS.folder or "inbox"
local PLACE = "custom:file-organizer"

local function files(operation, input)
  input.operation = operation
  return Tool.execute("file-operations", input).result
end

if ARGS.undo == "yes" then
  local moved = State.load(PLACE, "moved") or {}
  for position = #moved, 1, -1 do
    files("move", { source_path = moved[position].to, target_path = moved[position].from })
    print(moved[position].to .. " → " .. moved[position].from)
  end
  State.delete(PLACE, "moved")
  return { undone = #moved }
end

if ARGS.demo == "yes" then
  files("create_dir", { path = folder, recursive = true })
  for name, text in pairs(DEMO) do files("write", { path = folder .. "/" .. name, input = text }) end
end

local sorter = Agent.create{
  name = "sorter",
  model = model,
  base_url = model == "scripted/inline" and "data:application/json," .. JSON.stringify{ replies = PLAYED } or nil,
  system_prompt = "You sort papers. Choose the category that fits the text: " .. table.concat(CATEGORIES, ", ")
    .. ". Answer as JSON, with the field category.",
  answer_schema = SCHEMA,
  temperature = 0,
  max_tokens = 60,
}

-- Where a file belongs, and who says so.
local function category_of(entry)
  local known = KNOWN[(entry.name:match("%.(%w+)$") or ""):lower()]
  if known then return known, "name" end
  local text = files("read", { path = entry.path, length = 2000 }).input
  local said = sorter:execute("Text of a file:\n" .. tostring(text))
  sorter:clear_conversation()
  return said.data.category, "model"
end

local plan = {}
for _, entry in ipairs(files("list_dir", { path = folder }).entries) do
  if entry.type == "file" then
    local category, by = category_of(entry)
    plan[#plan + 1] = { from = entry.path, to = folder .. "/" .. category .. "/" .. entry.name, category = category, by = by }
    print(string.format("%-28s → %-28s (by %s)", entry.path, plan[#plan].to, by))
  end
end
if ARGS.apply ~= "yes" then
  print("\nNothing was moved; --arg apply=yes does it.")
  return { plan = plan, moved = 0 }
end

local steps, made = {}, {}
for position, one in ipairs(plan) do
  if not made[one.category] then
    made[one.category] = true
    steps[#steps + 1] = {
      name = "make " .. one.category, type = "tool", tool = "file-operations",
      input = { operation = "create_dir", path = folder .. "/" .. one.category, recursive = true },
    }
  end
  steps[#steps + 1] = {
    name = "move " .. position, type = "tool", tool = "file-operations",
    input = { operation = "move", source_path = one.from, target_path = one.to, overwrite = false },
    compensation = {
      type = "tool", tool = "file-operations",
      input = { operation = "move", source_path = one.to, target_path = one.from },
    },
  }
end
if #steps > 0 then
  Workflow.sequential{ name = "organize", steps = steps, rollback = true }:execute{}
end
State.save(PLACE, "moved", plan)
print(string.format("\n%d files were moved; --arg undo=yes puts them back.", #plan))
return { plan = plan, moved = #plan }
