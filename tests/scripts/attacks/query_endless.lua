-- expects: held, RUN_TIME_LIMIT
-- limits: wall=3
-- A query that recurses, repeats or builds without end stops by its own count.
for _, query in ipairs{
  "def f: f; f", "repeat(.)", "[range(1000000000)]", "[recurse(.)]", "last(range(1e12))",
  "reduce range(1e12) as $x (0; . + 1)", "[limit(1e9; repeat(1))]", "..|..|..|..",
  ("["):rep(5000), ("."):rep(100000), "\"\\(" .. ("1+"):rep(50000) .. "1)\"",
} do
  local ok, value = pcall(JSON.query, {a = {b = {c = {1, 2, 3}}}}, query)
  assert(not ok or type(value) ~= "function", query)
end
return "held"
