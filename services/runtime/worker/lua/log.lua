-- Lines of a run's log: they go to whoever called for the run, beside what it prints and not in it.
-- `Logger` writes them; `Debug` too, with more.

local kit = ...

local host, json = kit.host, kit.json
local type, select = type, select
local concat, sub, utf8_len = table.concat, string.sub, utf8.len

local log = {}
kit.log = log

local MESSAGE_BYTES_MAX, KEPT_MAX = 4096, 1000

log.RANKS = {off = 0, error = 1, warn = 2, info = 3, debug = 4, trace = 5}
log.level, log.rank, log.enabled = "info", 3, true

-- Of the last lines of the run, the oldest first; a ring.
local kept, first = {}, 1

-- Text that JSON can hold: cut, and bytes that are no UTF-8 replaced.
function kit.clean(text, bytes_max)
  local parts, at = {}, 1
  text = sub(text, 1, bytes_max)
  while true do
    local length, bad = utf8_len(text, at)
    if length then
      parts[#parts + 1] = sub(text, at)
      return concat(parts)
    end
    parts[#parts + 1] = sub(text, at, bad - 1) .. "\u{FFFD}"
    at = bad + 1
  end
end

local function clean(text) return kit.clean(text, MESSAGE_BYTES_MAX) end

local function message_of(message)
  if type(message) == "function" then message = message() end
  if type(message) == "string" then return clean(message) end
  if type(message) == "table" and not kit.is_failure(message) then
    return clean(kit.dump(message, kit.dump_options.compact))
  end
  return clean(kit.tostring(message))
end

local function keep(entry)
  kept[#kept + 1] = entry
  if #kept - first + 1 > KEPT_MAX then
    kept[first] = false
    first = first + 1
    -- The room of those that went is given back now and then.
    if first > KEPT_MAX then
      local moved = {}
      for i = first, #kept do moved[#moved + 1] = kept[i] end
      kept, first = moved, 1
    end
  end
end

-- Sends a line that its caller has found wanted. `data` is any value JSON can hold, or nil.
function log.write(level, message, module, data)
  local text = message_of(message)
  local line = {level = level, message = text, module = module}
  if data ~= nil then
    local ok, document = json.encode(data, "data")
    line.data = ok and document or json.quote(clean(kit.dump(data)))
  end
  local ok, bytes = json.encode(line, "line")
  if not ok then kit.unfit("module", bytes) end
  keep({timestamp = kit.now(), level = level, message = text, module = module, metadata = data})
  local left = kit.output_left
  kit.output_left = left - #bytes
  host("l", bytes)
end

-- The last `count` lines, the oldest first.
function log.captured(count)
  local found, from = {}, first
  if count and #kept - first + 1 > count then from = #kept - count + 1 end
  for i = from, #kept do
    local entry = kept[i]
    found[#found + 1] = {
      timestamp = entry.timestamp, level = entry.level, message = entry.message,
      module = entry.module, metadata = entry.metadata,
    }
  end
  return kit.list(found)
end

function log.forget()
  kept, first = {}, 1
end

-- `Logger` -------------------------------------------------------------------------------------

local Logger = {}
kit.env.Logger = Logger

local function writer(level)
  local rank = log.RANKS[level]
  return kit.either_way(Logger, function(message, ...)
    if not log.enabled or rank > log.rank then return end
    local data = ...
    log.write(level, message, nil, select("#", ...) > 0 and data or nil)
  end)
end

-- Logger.info(message, data?) and the like. A message may be a function, which is called only where
-- the line is wanted.
Logger.error, Logger.warn, Logger.info = writer("error"), writer("warn"), writer("info")
Logger.debug, Logger.trace = writer("debug"), writer("trace")
