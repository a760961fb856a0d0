-- JSON.query: a part of jq's language. What jq itself gives stands beside each query.

local data = JSON.parse([[{
  "name": "sea", "size": 3, "ratio": 2.5, "none": null, "tags": ["b", "a", "c"],
  "items": [
    {"id": 1, "kind": "fish", "price": 4.5, "in": {"stock": true}},
    {"id": 2, "kind": "crab", "price": 12, "in": {"stock": false}},
    {"id": 3, "kind": "fish", "price": 7}
  ]
}]])

-- Every value of a query as text, joined by spaces.
local function all(text, value)
  if value == nil then value = data end
  local parts = {}
  for i, one in ipairs(JSON.query_all(value, text)) do parts[i] = JSON.stringify(one) end
  return table.concat(parts, " ")
end

local CASES = {
  {".", '{"items":[{"id":1,"in":{"stock":true},"kind":"fish","price":4.5},{"id":2,"in":{"stock":false},"kind":"crab","price":12},{"id":3,"kind":"fish","price":7}],"name":"sea","ratio":2.5,"size":3,"tags":["b","a","c"]}'},
  {".name", '"sea"'}, {'."name"', '"sea"'}, {'.["name"]', '"sea"'}, {".absent", "null"},
  {".absent.deeper", "null"}, {".name.x?", ""}, {".tags[0]", '"b"'}, {".tags[-1]", '"c"'},
  {".tags[5]", "null"}, {".tags[1:]", '["a","c"]'}, {".tags[:-1]", '["b","a"]'},
  {".name[0:2]", '"se"'}, {".tags[]", '"b" "a" "c"'}, {".items[].id", "1 2 3"},
  {".items[0].in.stock", "true"}, {".items[].in.stock", "true false null"},
  {".items[] | .id", "1 2 3"}, {".name, .size", '"sea" 3'},
  {"[.items[].id]", "[1,2,3]"}, {".items | length", "3"},
  {'.items[] | select(.kind == "fish") | .id', "1 3"},
  {".items | map(.price)", "[4.5,12,7]"}, {".items | map(select(.price > 5).id)", "[2,3]"},
  {".items | map(.price) | add", "23.5"}, {"keys", '["items","name","ratio","size","tags"]'},
  {".tags | keys", "[0,1,2]"}, {'has("name"), has("x")', "true false"},
  {".tags | has(2), has(3)", "true false"}, {".size + 1, .size - 1, .size * 2, .size / 2", "4 2 6 1.5"},
  {"6 / 3, 7 % 3, -7 % 3, 5 % -3", "2 1 -1 2"}, {'"a" + "b", [1] + [2], {a: 1} + {b: 2}', '"ab" [1,2] {"a":1,"b":2}'},
  {"null + 1, 1 + null", "1 1"}, {"[1,2,3,2] - [2]", "[1,3]"}, {'"a,b" / ","', '["a","b"]'},
  {'{a: {x: 1}} * {a: {y: 2}}', '{"a":{"x":1,"y":2}}'}, {'"ab" * 3', '"ababab"'},
  {"1 < 2, 1 <= 1, 2 > 3, 1 == 1.0, 1 != 2", "true true false true true"},
  {"true and false, true or false, (true, false | not)", "false true false true"},
  {"(1,2) + (10,20)", "11 12 21 22"},
  {"{name, n: .size, (.name): 1, \"k\\(.size)\": 2}", '{"k3":2,"n":3,"name":"sea","sea":1}'},
  {"{id: .items[].id}", '{"id":1} {"id":2} {"id":3}'},
  {'"\\(.name) has \\(.size + 1)"', '"sea has 4"'},
  {".items | sort_by(.price) | map(.id)", "[1,3,2]"}, {".items | sort_by(.kind, -.price) | map(.id)", "[2,3,1]"},
  {".items | group_by(.kind) | map(length)", "[1,2]"}, {".items | unique_by(.kind) | map(.id)", "[2,1]"},
  {".items | min_by(.price).id, max_by(.price).id", "1 2"}, {".tags | sort, min, max", '["a","b","c"] "a" "c"'},
  {"[3,1,3,null,\"x\",[],{},true] | sort", '[null,true,1,3,3,"x",[],{}]'},
  {"[1,1,2] | unique", "[1,2]"}, {".tags | reverse", '["c","a","b"]'}, {".tags | first, last", '"b" "c"'},
  {"first(.items[].id), last(.items[].id)", "1 3"}, {"[limit(2; .items[].id)]", "[1,2]"},
  {"[range(3)], [range(1;4)], [range(0;10;5)], [range(3;0;-1)]", "[0,1,2] [1,2,3] [0,5] [3,2,1]"},
  {"{a: 1, b: 2} | to_entries", '[{"key":"a","value":1},{"key":"b","value":2}]'},
  {'[{name: "x", value: 1}, {k: "y", v: 2}] | from_entries', '{"x":1,"y":2}'},
  {"{a: 1, b: 2} | with_entries(.value += 1)", '{"a":2,"b":3}'},
  {"{a: 1, b: null} | map_values(. // empty)", '{"a":1}'}, {"[1,[2,[3]]] | flatten, flatten(1)", "[1,2,3] [1,2,[3]]"},
  {'.tags | index("a"), join("-")', '1 "b-a-c"'}, {'"a-b" | split("-")', '["a","b"]'},
  {'"xay" | test("A"; "i"), test("^x"), test("y$"), test("^a"), test("x.y")', "true true true false true"},
  {'"Sea" | ascii_downcase, ascii_upcase, length, startswith("S"), endswith("x"), ltrimstr("S"), rtrimstr("a")',
    '"sea" "SEA" 3 true false "ea" "Se"'},
  {'" x " | trim, ltrim, rtrim', '"x" "x " " x"'}, {'"é" | length, utf8bytelength, explode', "1 2 [233]"},
  {"[233] | implode", '"é"'}, {".size | tostring, tojson", '"3" "3"'}, {'"3.5", "7" | tonumber', "3.5 7"},
  {'"[1,null]" | fromjson', "[1,null]"}, {"1.5 | floor, ceil, round, sqrt > 1", "1 2 2 true"},
  {"-1.5 | round, fabs", "-2 1.5"}, {"[.., 1] | length", "26"}, {"[1,[2]] | [.. | numbers]", "[1,2]"},
  {"if .size > 2 then \"big\" elif .size > 1 then \"mid\" else \"small\" end", '"big"'},
  {".none // 5, .size // 5, (false, null, 1) // 2", "5 3 1"},
  {"try error(\"no\") catch .", '"no"'}, {"[.items[] | (.in.stock | not)?]", "[false,true,true]"},
  {"try (1, error(\"x\"), 3) catch .", '1 "x"'}, {"error({a: 1})? , 2", "2"},
  {"reduce .items[] as $i (0; . + $i.price)", "23.5"}, {".size as $n | .items[] | select(.id == $n) | .id", "3"},
  {"[.items[] | .id as $i | $i * $i]", "[1,4,9]"},
  {"[path(.items[].id)]", '[["items",0,"id"],["items",1,"id"],["items",2,"id"]]'},
  {'getpath(["items",1,"kind"])', '"crab"'}, {'{} | setpath(["a","b"]; 1)', '{"a":{"b":1}}'},
  {".items | del(.[0, 2]) | map(.id)", "[2]"}, {"{a: 1, b: 2} | del(.a)", '{"b":2}'},
  {".items[0] | .price |= . * 2 | .price", "9.0"}, {"[1,2,3] | .[] += 1", "[2,3,4]"},
  {"[1,2,3,4] | (.[] | select(. % 2 == 0)) |= empty", "[1,3]"}, {"{} | .a.b = 1 | .a.c //= 2", '{"a":{"b":1,"c":2}}'},
  {"[1,2] | any(. > 1), all(. > 1)", "true false"}, {"[true,false] | any, all", "true false"},
  {'"abc" | contains("b")', "true"}, {'{a: [1, "xy"]} | contains({a: ["x"]})', "true"},
  {'"b" | inside("abc")', "true"}, {"type, (.tags, .size, .name, null, true | type)", '"object" "array" "number" "string" "null" "boolean"'},
  {"[1,null,2] | map(values)", "[1,2]"}, {"{a: null}", '{"a":null}'}, {"[null]", "[null]"}, {"[], {}", "[] {}"},
  {"2 | pow(.; 3)", "8.0"}, {"[[3,1],[2]] | map(add)", "[4,2]"}, {'["a","b",null,"c"] | add', '"abc"'},
  {"[.items[] | {id, s: .in.stock}] | map(select(.s != null)) | length", "2"},
  {"[1,2,1] | indices(1)", "[0,2]"}, {"-(1 + 2), -.size", "-3 -3"}, {"1 as $x | 2 as $y | [$x, $y, $x + $y]", "[1,2,3]"},
  {"[1,2,3] | any(.[]; . > 2), all(.[]; . > 2)", "true false"}, {"1 | until(. > 100; . * 2)", "128"},
  {"[1 | while(. < 10; . * 3)]", "[1,3,9]"}, {"[[1,2],[3]] | transpose", "[[1,3],[2,null]]"},
  {"[1,[2]] | walk(if type == \"number\" then . + 1 else . end)", "[2,[3]]"},
  {".items[1:] | .[0].id", "2"}, {".[\"items\"][0][\"id\"]", "1"}, {".items.[0].id", "1"},
}
for _, case in ipairs(CASES) do
  local got = all(case[1])
  assert(got == case[2], case[1] .. "\n got " .. got .. "\nwant " .. case[2])
end

-- One value is itself, several are a list, none and null are nil; query_all is always a list.
assert(JSON.query(data, ".size") == 3 and JSON:query(data, ".absent") == nil)
assert(#JSON.query(data, ".tags[]") == 3 and JSON.query(data, "empty") == nil)
assert(#JSON.query_all(data, ".size") == 1 and #JSON:query_all(data, "empty") == 0)
assert(JSON.query(nil, ".a") == nil and JSON.query(5, ". + 1") == 6 and JSON.query("x", ".") == "x")
assert(math.type(JSON.query(data, ".size")) == "integer" and math.type(JSON.query(2.0, ".")) == "float")
assert(JSON.query({1, JSON.null, 3}, ".[1]") == nil and JSON.query({a = JSON.null}, 'has("a")'))

-- An empty table of Lua is a list where a list is wanted.
for _, text in ipairs{"first", "sort_by(.x) | length", "min", "[.[]] | length", ". + [1] | length", ".[0]"} do
  assert(pcall(JSON.query, {}, text), text)
end
assert(JSON.query({}, "type") == "object" and JSON.query({}, ". + [1] | length") == 1)

-- What was asked of is left as it was.
local before = JSON.stringify(data)
JSON.query(data, ".items[].price |= 0 | del(.tags) | .x.y = 1")
assert(JSON.stringify(data) == before)

-- Errors say what is wrong, with the script's line.
local function refused(text, part, value)
  if value == nil then value = data end
  local ok, e = pcall(JSON.query, value, text)
  assert(not ok and type(e) == "string" and e:find(part, 1, true), tostring(e))
end
refused(".name.x", "string has no key x")
refused(".size[]", "number cannot be gone through")
refused(".a |", "an expression is missing at the end")
refused(".a b", 'expected the end, found "b" at 4')
refused("nosuch", "there is no nosuch with 0 arguments")
refused("map(1; 2)", "there is no map with 2 arguments")
refused("$x", "$x is not known")
refused("def f: 1; f", "def is not offered")
refused('test("a+")', "+ is not offered", "x")
refused("1 / 0", "division by zero")
refused('{} + 1', "object + number is not possible")
refused('"abc', "text without an end")
refused('error("mine")', "mine")
refused(("["):rep(100) .. ("]"):rep(100), "nested deeper than 64")
refused(("."):rep(9000), "longer than 8192 bytes")
refused("path(1)", "a path is wanted")
refused("[range(1; 2; 0)]", "steps other than 0")

-- It always ends.
refused("[range(100000000)] | length", "more than 2000000 steps")
refused("try [range(100000000)] catch 1", "more than 2000000 steps")
refused("[recurse(.)] | length", "while it runs")
refused("until(false; .)", "more than 2000000 steps", 1)
refused('"x" * 100000000', "text of more than")
refused("reduce range(100) as $i (\"x\"; . + .)", "text of more than")
local loop = {}
loop.loop = loop
assert(not pcall(JSON.query, loop, "[..] | length"))
assert(not pcall(JSON.query, {f = print}, ".f | type"))
assert(JSON.query({f = print, a = 1}, ".a") == 1)

-- No code of the script runs.
local loud = setmetatable({a = 1}, {__index = error, __len = error, __pairs = error, __lt = error})
assert(JSON.query(loud, ".a") == 1 and JSON.query({loud}, "sort | length") == 1)

return "done"
