-- JSON as scripts see it.

assert(JSON.encode == JSON.stringify and JSON.decode == JSON.parse)
assert(JSON.encode({1}) == "[1]" and JSON.decode("[1]")[1] == 1)
assert(JSON:stringify({1}) == "[1]" and JSON:parse("[1]")[1] == 1)

assert(JSON.stringify({b = 1, a = {1, 2.0, "x", true}}) == '{"a":[1,2.0,"x",true],"b":1}')
assert(JSON.stringify(nil) == "null" and JSON.stringify({}) == "{}")
assert(JSON.stringify(0 / 0) == "null" and JSON.stringify({x = 1 / 0}) == '{"x":null}')
assert(JSON.stringify("\0\31\127\"\\/") == '"\\u0000\\u001f\\u007f\\"\\\\/"')
-- A list needs all of 1..n and no other number; text keys beside it are dropped.
assert(JSON.stringify({1, 2, n = 3}) == "[1,2]")
assert(JSON.stringify({[1] = 1, [3] = 3}) == '{"1":1,"3":3}')
assert(JSON.stringify({[0] = 0, 1}) == '{"0":0,"1":1}')
assert(JSON.stringify({[1.5] = 1}) == '{"1.5":1}')

local t = JSON.parse(' {"a": [1, 2.0, null, 1e2, -0.5], "b": {"c": "\\u00e9\\n"}, "n": null} ')
assert(math.type(t.a[1]) == "integer" and math.type(t.a[2]) == "float" and t.a[3] == nil)
assert(t.a[4] == 100.0 and t.a[5] == -0.5 and t.b.c == "é\n" and t.n == nil)
assert(math.type(JSON.parse("9223372036854775807")) == "integer")
assert(math.type(JSON.parse("9223372036854775808")) == "float")
assert(JSON.stringify(JSON.parse('{"a":[],"b":{}}')) == '{"a":[],"b":{}}')

-- Null: nil, or JSON.null where a hole would stand.
local holed = JSON.parse("[1,null,{\"a\":null}]", {null = JSON.null})
assert(#holed == 3 and holed[2] == JSON.null and holed[3].a == JSON.null)
assert(JSON.stringify(holed) == '[1,null,{"a":null}]' and JSON.stringify(JSON.null) == "null")
assert(JSON.parse("null", {null = JSON.null}) == JSON.null and tostring(JSON.null) == "null")
assert(not pcall(function() JSON.null.x = 1 end) and next(JSON.null) == nil)

-- Set out over lines it is the same value.
local wide = {a = {1, {b = "x,]}\"\\"}}, c = {}, d = JSON.parse("[]")}
local set_out = JSON.stringify(wide, {pretty = true})
assert(set_out == [[{
  "a": [
    1,
    {
      "b": "x,]}\"\\"
    }
  ],
  "c": {},
  "d": []
}]], set_out)
assert(JSON.stringify(JSON.parse(set_out)) == JSON.stringify(wide))
assert(JSON.stringify({1}, {indent = 1}) == "[\n 1\n]" and JSON.encode(5, {pretty = true}) == "5")
assert(not pcall(JSON.stringify, 1, {indent = 99}) and not pcall(JSON.stringify, 1, {prety = true}))

-- Metamethods of a script do not run.
local loud = setmetatable({1}, {__index = error, __len = error, __pairs = error})
assert(JSON.stringify(loud) == "[1]")

-- Errors say what and where, with the script's line.
local function refused(part, fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok and type(e) == "string" and e:find(part, 1, true), tostring(e))
end
refused("JSON.parse: expected a value, found the end at line 1, column 1", JSON.parse, "")
refused("must be a string, not a nil", JSON.parse, nil)
refused("JSON.stringify: value is a function", JSON.stringify, print)
refused("value.a[2].b is a function", JSON.stringify, {a = {1, {b = print}}})
refused("value is text that is not UTF-8", JSON.stringify, "\xff")
local loop = {}
loop.x = {loop}
refused("value.x[1] contains itself (value.x[1] → value)", JSON.stringify, loop)
refused('value["a b"]', JSON.stringify, {["a b"] = print})
local ok, e = pcall(function() JSON.parse("[") end)
assert(e:find("json.lua:%d+: JSON.parse"), e)

-- The same table twice is no cycle.
local shared = {1}
assert(JSON.stringify({shared, shared}) == "[[1],[1]]")

return "done"
