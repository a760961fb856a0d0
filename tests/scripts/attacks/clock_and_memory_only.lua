-- expects: held
-- The collector cannot be stopped or tuned.
for _, option in ipairs{"stop", "restart", "step", "incremental", "generational", "collect", "isrunning"} do
  assert(not pcall(collectgarbage, option))
end
return "held"
