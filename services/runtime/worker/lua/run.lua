-- One run from source to its last word. Every way out ends in a frame: `r` with the JSON of what
-- was returned, or `f` with why it failed; the process is gone after either.

local kit = ...

local host, json, codec, clean = kit.host, kit.json, kit.codec, kit.clean
local error, pcall, rawget, select = error, pcall, rawget, select
local type, xpcall = type, xpcall
local load, getinfo, traceback = load, debug.getinfo, debug.traceback
local raw_metatable = debug.getmetatable
local byte, find, gmatch, gsub = string.byte, string.find, string.gmatch, string.gsub
local match, sub = string.match, string.sub
local concat, move, pack, unpack = table.concat, table.move, table.pack, table.unpack
local tonumber, tointeger = tonumber, math.tointeger

local MESSAGE_BYTES_MAX, TRACEBACK_BYTES_MAX = 4096, 8192
-- What the frame adds to a payload and a payload to a tree.
local FRAME_ROOM = 4096

local tell_metrics

local function fail(failure)
  tell_metrics()
  failure.message = clean(failure.message, MESSAGE_BYTES_MAX)
  failure.traceback = failure.traceback and clean(failure.traceback, TRACEBACK_BYTES_MAX)
  if type(failure.reason) ~= "string" then failure.reason = nil end
  failure.reason = failure.reason and clean(failure.reason, MESSAGE_BYTES_MAX)
  local _, text = json.encode(failure, "failure")
  host("f", text)
end

-- What was measured, told before the last word; where there is no room for it, it is not.
function tell_metrics()
  local ok, text = pcall(kit.metrics)
  if ok and text then host("m", text) end
end

local function finish(text)
  tell_metrics()
  host("r", text)
end

-- os.exit ends the run wherever it is called; 0 and true end it well.
function kit.env.os.exit(code)
  local status = 0
  if code == false then
    status = 1
  elseif type(code) == "number" then
    status = tointeger(code) or 1
  elseif code ~= nil and code ~= true then
    error("bad argument #1 to 'exit' (number or boolean expected)", 2)
  end
  kit.at_end(status == 0)
  if status == 0 then return finish("null") end
  fail({kind = "exit", message = "exit status " .. status})
end

-- The script may raise anything; this is what it means as text, and its reason where it has one.
function kit.describe(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return kit.tostring(value) end
  if kit.is_failure(value) then return kit.tostring(value), value.reason end
  if kind ~= "table" then return "the script raised a " .. kind end
  local meta = raw_metatable(value)
  if meta and rawget(meta, "__tostring") then return kit.tostring(value) end
  if type(value.message) == "string" then return value.message end
  return "the script raised a table"
end

-- The line of the script that was running, nearest first.
function kit.current_line(source)
  for level = 3, 60 do
    local info = getinfo(level, "Sl")
    if not info then return nil end
    if info.source == source and info.currentline > 0 then return info.currentline end
  end
end

-- Without the lines of the parts that make up the API, and of the two calls that began the script.
function kit.script_traceback()
  local lines = {}
  -- Captured functions only: a script may have changed what `text:gmatch` finds.
  for line in gmatch(traceback(nil, 3), "[^\n]+") do
    if not find(line, "[llmspell ", 1, true) and not find(line, "'xpcall'", 1, true) then
      lines[#lines + 1] = line
    end
  end
  if lines[#lines] == "\t[C]: in upvalue 'pcall'" then lines[#lines] = nil end
  return concat(lines, "\n")
end

local run = {}

-- Before the heap is capped: take what was pushed, touch nothing.
function kit.prepare(
  source, name, arguments, check, output_bytes, frame_bytes, depth, nodes, session_id, seed, seed2,
  off
)
  kit.seed(seed, seed2)
  for global in gmatch(off, "%S+") do
    kit.env[global] = nil
    kit.unload(global)
  end
  kit.session_id = session_id ~= "" and session_id or nil
  run.source, run.name, run.arguments, run.check = source, name, arguments, check
  kit.output_left = output_bytes
  kit.limits = {bytes = frame_bytes - FRAME_ROOM, depth = depth, nodes = nodes}
end

local function compile()
  local source, chunkname = run.source, "@" .. run.name
  -- A first line such as #!/usr/bin/env lua is a comment, as in Lua's own interpreter.
  if byte(source, 1) == 35 then source = "--" .. source end
  local chunk, message = load(source, chunkname, "t", kit.env)
  run.source = nil
  if not chunk then
    -- Lua shortens a long name, so the line is what follows the first colon and digits.
    fail({kind = "syntax", message = message, line = tonumber(match(message, ":(%d+):"))})
  end
  return chunk, chunkname
end

local function report(raised, line, trace)
  local ok, text, reason = pcall(kit.describe, raised)
  if not ok or type(text) ~= "string" then
    text = "the script raised an error that cannot be shown"
  end
  if text == "not enough memory" then
    return fail({kind = "memory", message = text})
  end
  local own = type(raised) == "string" and match(sub(text, 1, 200), "^" .. run.prefix .. ":(%d+):")
  line = tonumber(own) or line
  fail({kind = "error", message = text, line = line, traceback = trace, reason = reason})
end

-- What the chunk returned, as the JSON of one value or of the list of several.
local function told(results)
  if results.n <= 2 then return json.encode(results[2], "result") end
  local count = results.n - 1
  if count > kit.limits.nodes then
    return false, "result is more than " .. kit.limits.nodes .. " values"
  end
  return json.encode_list(move(results, 2, results.n, 1, {}), count)
end

local function go()
  local chunk, chunkname = compile()
  if not chunk then return end
  if run.check then return finish("null") end
  run.prefix = gsub(getinfo(chunk, "S").short_src, "%p", "%%%0")
  local arguments = codec.decode(run.arguments)
  local positional = kit.set_arguments(run.name, arguments)
  kit.set_facts(arguments.facts or {})
  run.arguments = nil
  if arguments.interactive then return kit.interact(kit.output_left) end
  local line, trace
  local function on_error(raised)
    line = kit.current_line(chunkname)
    trace = kit.script_traceback()
    return raised
  end
  local results = pack(xpcall(chunk, on_error, unpack(positional, 1, #positional)))
  kit.at_end(results[1], kit.describe, results[2])
  if not results[1] then return report(results[2], line, trace) end
  local ok, text = told(results)
  if not ok then return fail({kind = "error", message = text .. "."}) end
  finish(text)
end

-- What is raised past this reaches Python, where only text may come. Memory is all that is left to run
-- out there; anything else is told as the script's error, though it is ours.
function kit.go()
  local ok, raised = pcall(go)
  if ok then return end
  if type(raised) ~= "string" then raised = "the run could not be ended" end
  if raised ~= "not enough memory" then pcall(fail, {kind = "error", message = raised}) end
  error(raised, 0)
end

kit.strip()
