-- expects: SCRIPT_FAILED
-- message: left
-- Nothing of ours uses what a script can take away.
local error, State, pairs, G = error, State, pairs, _G
for name in pairs(string) do string[name] = nil end
for name in pairs(table) do table[name] = nil end
for name in pairs(G) do G[name] = nil end
State.set("k", 1)
error("left", 0)
