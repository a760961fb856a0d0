-- expects: held
-- No value shows where it lives.
local co = coroutine.create(print)
for _, value in ipairs{{}, print, co, State, string.rep, setmetatable({}, {__name = "N"})} do
  local texts = {tostring(value), string.format("%s", value)}
  local ok, raised = pcall(error, value)
  texts[#texts + 1] = tostring(raised)
  texts[#texts + 1] = select(2, pcall(function() return value + 1 end)) .. ""
  for _, text in ipairs(texts) do assert(not tostring(text):find("0x%x+"), text) end
end
assert(not pcall(string.format, "%p", {}))
assert(not pcall(string.format, "%-20p", {}))
assert(not pcall(string.format, "%%%p", {}))
assert(math.randomseed() == nil and math.randomseed(1) == nil)
return "held"
