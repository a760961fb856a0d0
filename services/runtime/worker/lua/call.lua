-- A call of a method of the contract: a tree goes out, a tree or an error comes back. The host
-- decides what is allowed; nothing here is a check that matters for safety.

local kit = ...

local codec, host, tree = kit.codec, kit.host, kit.tree
local collectgarbage, error, setmetatable, type = collectgarbage, error, setmetatable, type
local raw_metatable = debug.getmetatable

local DONE, NO_ROOM = 0, 2

-- Errors of the host and of the API's own checks: {code, reason, message, metadata}.
local Failure = {__name = "failure", __metatable = false}

function Failure.__tostring(failure)
  return kit.tostring(failure.reason) .. ": " .. kit.tostring(failure.message)
end

function kit.is_failure(value)
  return type(value) == "table" and raw_metatable(value) == Failure
end

-- A failure that is not raised yet.
function kit.failure(fields)
  return setmetatable(fields, Failure)
end

local function raise(failure)
  error(kit.failure(failure), 0)
end

-- Raises the error of a wrong argument; `field` is what the script calls it.
function kit.refuse(reason, field, message, metadata)
  metadata = metadata or {field = field}
  raise({code = "INVALID_ARGUMENT", reason = reason, message = message, metadata = metadata})
end

function kit.invalid(field, rule)
  kit.refuse("FIELD_INVALID", field, field .. " " .. rule .. ".", {field = field, rule = rule})
end

function kit.required(field)
  kit.refuse("FIELD_REQUIRED", field, field .. " must be set.")
end

-- Raises the error of what is known and not there yet.
function kit.not_offered(message)
  raise({code = "UNIMPLEMENTED", reason = "NOT_IMPLEMENTED", message = message, metadata = {}})
end

-- Raises the error of what a script may not do.
function kit.denied(message, metadata)
  raise({
    code = "PERMISSION_DENIED", reason = "PERMISSION_DENIED", message = message,
    metadata = metadata or {},
  })
end

-- Refuses a value for what json.encode or codec.encode said of it.
function kit.unfit(field, text, cycle)
  if cycle then kit.refuse("VALUE_CYCLIC", field, text .. ".", {field = field, path = cycle}) end
  kit.refuse("FIELD_INVALID", field, text .. ".")
end

-- Sends `args` to `method`, such as "llmspell.v1.StateService/GetState". `tenant` asks to act for
-- another tenant, which the host allows or refuses. Gives the answer's tree or raises.
function kit.call(method, args, tenant)
  local ok, bytes, cycle = codec.encode({method = method, tenant = tenant, args = args}, "call")
  if not ok then kit.unfit("args", bytes, cycle) end
  local status, reply = host("c", bytes)
  if status == NO_ROOM then
    bytes = nil
    collectgarbage()
    status, reply = host("a", "")
  end
  if status == NO_ROOM then error("not enough memory", 0) end
  local answer = codec.decode(reply)
  if status ~= DONE then
    raise({
      code = answer.code, reason = answer.reason, message = answer.message,
      metadata = answer.metadata or {},
    })
  end
  return answer
end

-- Marks a list so that it stays one when empty.
kit.list = tree.list
