-- Errors of the host and of the API are tables that pcall gives and tostring reads.

local ok, e = pcall(RAG.search)
assert(not ok and type(e) == "table")
assert(e.code == "INVALID_ARGUMENT" and e.reason == "FIELD_REQUIRED")
assert(e.message == "query must be set." and e.metadata.field == "query")
assert(tostring(e) == "FIELD_REQUIRED: query must be set.")
assert(string.format("%s", e) == tostring(e))
assert(getmetatable(e) == false)
assert(not pcall(setmetatable, e, {}))

-- They pass through error, xpcall, coroutines and a second pcall unchanged.
local _, again = pcall(function() local _, inner = pcall(RAG.search) error(inner) end)
assert(again.reason == "FIELD_REQUIRED")
local _, handled = xpcall(RAG.search, function(raised) return raised.reason end)
assert(handled == "FIELD_REQUIRED")
local co = coroutine.create(function() RAG.search() end)
local fine, raised = coroutine.resume(co)
assert(not fine and raised.reason == "FIELD_REQUIRED")

-- Calls work from inside coroutines, metamethods, sort and gsub.
State.set("k", 1)
assert(coroutine.wrap(function() return State.get("k") end)() == 1)
assert(setmetatable({}, {__index = function() return State.get("k") end}).x == 1)
assert(("a"):gsub("a", function() return tostring(State.get("k")) end) == "1")

return "done"
