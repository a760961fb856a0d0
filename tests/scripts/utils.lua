-- Utils: small things on tables and text.

local original = {1, {a = true}, name = "x"}
original.me = original
local copy = Utils.copy(original)
assert(copy ~= original and copy[2] ~= original[2] and copy[2].a and copy.me == copy and copy.name == "x")
assert(Utils.copy(5) == 5 and Utils.copy(JSON.null) == JSON.null)
assert(JSON.stringify(Utils.copy(JSON.parse("[]"))) == "[]")
assert(getmetatable(Utils.copy(setmetatable({}, {__name = "n"}))).__name == "n")

assert(Utils.equals({1, {a = 2}}, {1, {a = 2}}) and not Utils.equals({1}, {2}) and Utils:equals("a", "a"))

local merged = Utils.merge({a = 1, b = {x = 1}}, {b = {y = 2}, c = 3})
assert(merged.a == 1 and merged.b.x == 1 and merged.b.y == 2 and merged.c == 3)

assert(table.concat(Utils.keys({b = 1, a = 2, c = 3}), ",") == "a,b,c")
assert(table.concat(Utils.values({b = 1, a = 2, c = 3}), ",") == "2,1,3")
assert(JSON.stringify(Utils.split("a,b,,c")) == '["a","b","","c"]' and #Utils.split("a.b", ".") == 2)
assert(JSON.stringify(Utils.split("")) == '[""]' and Utils.trim("  a b\n") == "a b" and Utils.trim("") == "")

for _, wrong in ipairs{{Utils.merge, {}, 1}, {Utils.keys, 5}, {Utils.split, "a", ""}, {Utils.trim, {}}} do
  local ok, e = pcall(wrong[1], wrong[2], wrong[3])
  assert(not ok and e.reason == "FIELD_INVALID")
end

return "done"
