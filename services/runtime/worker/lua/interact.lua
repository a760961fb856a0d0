-- A run that is given its source piece by piece, each with what the ones before have left: what
-- `llmspell repl` speaks to. Between two pieces the worker waits for its host.

local kit = ...

local host, json, env = kit.host, kit.json, kit.env
local collectgarbage, error, load, pcall = collectgarbage, error, load, pcall
local rawget, tonumber, type, xpcall = rawget, tonumber, type, xpcall
local getinfo, sethook, raw_metatable = debug.getinfo, debug.sethook, debug.getmetatable
local byte, find, format, gmatch = string.byte, string.find, string.format, string.gmatch
local gsub, match, sub = string.gsub, string.match, string.sub
local concat, pack, sort = table.concat, table.pack, table.sort

local SOURCE, QUESTION, NO_ROOM = 0, 1, 2
-- How often a piece that computes looks whether it is to end. Calls of the host are ended by the host.
local LOOK_EVERY = 200000
local NAMES_MAX, TEXT_BYTES_MAX = 200, 256 * 1024
local SHOWN = {max_depth = 4, max_string_length = 2000}

-- Compiling ------------------------------------------------------------------------------------

-- An expression is a piece too: its values are what it gives. `= x` is the same, as in older Luas.
local function compile(text, name)
  local chunk = load("return " .. gsub(text, "^%s*=", ""), name, "t", env)
  if chunk then return chunk end
  return load(text, name, "t", env)
end

local function is_unfinished(message) return find(message, "<eof>$") ~= nil end

-- Running --------------------------------------------------------------------------------------

-- Where a script may run on, the host has its own ways to end it; this one keeps what it has made.
-- A piece may catch the error, so it is raised again at the next step that is not the API's own.
local look_again

local function look()
  if host("i", "") ~= 1 then return end
  sethook(look_again, "", 1)
  error("interrupted", 0)
end

function look_again()
  if sub(getinfo(2, "S").source, 1, 11) == "=[llmspell " then return end
  error("interrupted", 0)
end

local function guarded(fn)
  sethook(look, "", LOOK_EVERY)
  local results = pack(fn())
  sethook()
  return results
end

local function shown(values)
  local parts = {}
  for i = 2, values.n do parts[#parts + 1] = kit.dump(values[i], SHOWN) end
  local text = concat(parts, "\t")
  if #text > TEXT_BYTES_MAX then text = sub(text, 1, TEXT_BYTES_MAX) .. "…" end
  return kit.clean(text, #text)
end

local function failed(raised, line, trace)
  local text, reason = kit.describe(raised)
  return {
    kind = "failed", message = kit.clean(text, 4096), line = line,
    reason = type(reason) == "string" and kit.clean(reason, 200) or nil,
    traceback = kit.clean(trace or "", 8192),
  }
end

local function run(text, number)
  local name = format("=input %d", number)
  local chunk, message = compile(text, name)
  if not chunk then
    if is_unfinished(message) then return {kind = "unfinished"} end
    local line = match(message, "^[^:]*:(%d+):")
    return {kind = "failed", reason = "SCRIPT_SYNTAX", message = message, line = tonumber(line)}
  end
  local line, trace
  local function on_error(raised)
    line, trace = kit.current_line(name), kit.script_traceback()
    return raised
  end
  local values = guarded(function() return xpcall(chunk, on_error) end)
  if not values[1] then return failed(values[2], line, trace) end
  if values.n > 1 then env._ = values[2] end
  return {kind = "done", text = values.n > 1 and shown(values) or nil}
end

-- Questions ------------------------------------------------------------------------------------

local function check(text)
  local chunk, message = compile(text, "=input")
  if chunk then return {kind = "finished"} end
  if is_unfinished(message) then return {kind = "unfinished"} end
  return {kind = "finished"}
end

-- What `name` means after `value` and a dot or colon; no metamethod is run.
local function member(value, name)
  if type(value) == "string" then value = env.string end
  for _ = 1, 10 do
    if type(value) ~= "table" then return nil end
    local found = rawget(value, name)
    if found ~= nil then return found end
    local meta = raw_metatable(value)
    value = type(meta) == "table" and rawget(meta, "__index") or nil
  end
end

-- The names that may stand where the text ends, in order.
local function complete(text)
  local path = match(text, "[%a_][%w_.:]*$") or ""
  local owner_path, start = match(path, "^(.*)[.:]([%w_]*)$")
  local value = env
  for word in gmatch(owner_path or "", "[%w_]+") do value = member(value, word) end
  start = start or path
  local names, seen = {}, {}
  if type(value) == "string" then value = env.string end
  for _ = 1, 10 do
    if type(value) ~= "table" then break end
    for key in kit.pairs(value) do
      if type(key) == "string" and sub(key, 1, #start) == start and find(key, "^[%a_][%w_]*$")
        and not seen[key] and #names < NAMES_MAX and sub(key, 1, 2) ~= "__" then
        seen[key] = true
        names[#names + 1] = key
      end
    end
    local meta = raw_metatable(value)
    value = type(meta) == "table" and rawget(meta, "__index") or nil
  end
  sort(names)
  return {kind = "names", names = kit.list(names), start = start}
end

local function answer(status, text, number)
  if status == SOURCE then return run(text, number) end
  local question, rest = byte(text, 1), sub(text, 2)
  if question == 99 then return complete(rest) end
  return check(rest)
end

-- Talking --------------------------------------------------------------------------------------

-- Says how the last piece went and waits for the next.
local function say(outcome)
  local ok, text = json.encode(outcome, "answer")
  if not ok then text = '{"kind":"failed","message":"the answer cannot be shown"}' end
  local status, piece = host("n", text)
  if status == NO_ROOM then
    collectgarbage()
    status, piece = host("a", "")
  end
  if status == NO_ROOM then
    return QUESTION, "k"
  end
  return status, piece
end

function kit.interact(output_bytes)
  local outcome, number = {kind = "ready"}, 0
  while true do
    local status, text = say(outcome)
    kit.output_left = output_bytes
    if status == SOURCE then number = number + 1 end
    local ok, result = pcall(answer, status, text, number)
    sethook()
    outcome = ok and result or failed(result)
    if outcome.kind == "unfinished" and status == SOURCE then number = number - 1 end
  end
end
