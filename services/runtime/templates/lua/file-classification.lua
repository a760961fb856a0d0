--[==[ template
id = "file-classification"
name = "File classification"
description = "Sorts files into categories by ending, content or both; reports, copies or moves them."
category = "Document"
version = "1.0.0"
requires = ["files"]
tags = ["files", "sort", "offline"]
result_schema = '{"type":"object","properties":{"files":{"type":"array"},"counts":{"type":"object"},"done":{"type":"integer"},"dry_run":{"type":"boolean"},"report":{"type":"string"}},"required":["files","counts","dry_run"]}'

[[parameters]]
name = "source_path"
type = "string"
description = "Folder or file in the tenant's folder."
required = true
min_length = 1
max_length = 1024

[[parameters]]
name = "classification_strategy"
type = "string"
description = "By what."
default = "hybrid"
allowed = ["extension", "content", "hybrid"]

[[parameters]]
name = "category_preset"
type = "string"
description = "Into which categories."
default = "documents"
allowed = ["documents", "media", "code", "downloads"]

[[parameters]]
name = "action"
type = "string"
description = "What is done with them."
default = "report"
allowed = ["move", "copy", "report"]

[[parameters]]
name = "destination_base"
type = "string"
description = "Folder that the categories' folders are made in."
max_length = 1024

[[parameters]]
name = "dry_run"
type = "boolean"
description = "Whether it is only said what would be done."
default = true

[[parameters]]
name = "recursive"
type = "boolean"
description = "Whether folders within count too."
default = false

[[parameters]]
name = "output_format"
type = "string"
description = "Of the report."
default = "text"
allowed = ["text", "markdown", "json"]
]==]

local params = JSON.parse(ARGS.params or "{}")

local presets = {
  documents = {
    invoices = {words = {"invoice", "amount due", "vat"}},
    contracts = {words = {"contract", "agreement", "hereby"}},
    spreadsheets = {endings = {"csv", "xls", "xlsx", "ods", "tsv"}},
    notes = {endings = {"md", "txt", "rst"}},
    papers = {endings = {"pdf", "doc", "docx", "odt"}},
  },
  media = {
    images = {endings = {"png", "jpg", "jpeg", "gif", "webp", "svg", "tiff"}},
    audio = {endings = {"mp3", "wav", "flac", "ogg", "m4a"}},
    video = {endings = {"mp4", "mkv", "webm", "mov", "avi"}},
  },
  code = {
    tests = {words = {"def test_", "describe(", "#[test]", "func Test"}},
    sources = {endings = {"py", "js", "ts", "rs", "go", "java", "c", "cpp", "h", "lua", "rb"}},
    configuration = {endings = {"toml", "yaml", "yml", "ini", "json", "cfg"}},
    documentation = {endings = {"md", "rst", "txt"}},
  },
  downloads = {
    archives = {endings = {"zip", "tar", "gz", "tgz", "7z", "xz"}},
    installers = {endings = {"exe", "msi", "dmg", "deb", "rpm", "appimage"}},
    documents = {endings = {"pdf", "doc", "docx", "odt", "csv", "txt", "md"}},
    media = {endings = {"png", "jpg", "jpeg", "gif", "mp3", "mp4", "webm", "mkv"}},
  },
}
local categories = presets[params.category_preset]
local names = {}
for name in pairs(categories) do names[#names + 1] = name end
table.sort(names)

local function files(operation, arguments)
  arguments.operation = operation
  local told = Tool.execute("file-operations", arguments)
  assert(told.success, told.message)
  return told.result
end

local function by_ending(path)
  local ending = (path:match("%.([%w]+)$") or ""):lower()
  for _, name in ipairs(names) do
    for _, each in ipairs(categories[name].endings or {}) do
      if each == ending then return name, "ending ." .. ending end
    end
  end
end

local READ_BYTES = 65536
local function by_content(path)
  local read = files("read", {path = path, length = READ_BYTES})
  local text = type(read.input) == "string" and read.input:lower() or ""
  for _, name in ipairs(names) do
    for _, word in ipairs(categories[name].words or {}) do
      if text:find(word:lower(), 1, true) then return name, "content has " .. word end
    end
  end
end

local function category_of(path)
  local strategy, name, why = params.classification_strategy, nil, nil
  if strategy ~= "extension" then name, why = by_content(path) end
  if not name and strategy ~= "content" then name, why = by_ending(path) end
  return name or "other", why or "nothing fits"
end

local function listed()
  if files("metadata", {path = params.source_path}).type == "file" then
    return {params.source_path}
  end
  local found, offset = {}, 0
  repeat
    local page = files("list_dir", {
      path = params.source_path, recursive = params.recursive, offset = offset,
    })
    for _, entry in ipairs(page.entries) do
      if entry.type == "file" then found[#found + 1] = entry.path end
    end
    offset = offset + #page.entries
  until not page.truncated
  return found
end

local base = params.destination_base or params.source_path
-- A list even where nothing is in it.
local sorted, counts, done = JSON.parse("[]"), {}, 0
for _, path in ipairs(listed()) do
  local name, why = category_of(path)
  local target = base .. "/" .. name .. "/" .. path:match("[^/]+$")
  counts[name] = (counts[name] or 0) + 1
  sorted[#sorted + 1] = {path = path, category = name, why = why, target = target}
  if params.action ~= "report" and not params.dry_run then
    files("create_dir", {path = base .. "/" .. name, recursive = true})
    files(params.action, {source_path = path, target_path = target, overwrite = false})
    done = done + 1
  end
end

local lines = {}
for _, file in ipairs(sorted) do
  lines[#lines + 1] = ("%s%s → %s (%s)"):format(
    params.output_format == "markdown" and "- " or "", file.path, file.category, file.why)
end
local report = table.concat(lines, "\n")
if params.output_format == "json" then report = JSON.stringify(sorted) end

return {
  result_type = "structured",
  result = {
    files = sorted, counts = counts, done = done, dry_run = params.dry_run, report = report,
  },
}
