-- expects: held, SCRIPT_FAILED, RUN_CALL_LIMIT
-- A hook that makes the call it stands around.
for _, point in ipairs(Hook.points and pcall(Hook.points) and select(2, pcall(Hook.points)) or {}) do
  pcall(Hook.register, point, function() State.get("k") return "continue" end)
end
for _ = 1, 20 do pcall(State.get, "k") end
return "held"
