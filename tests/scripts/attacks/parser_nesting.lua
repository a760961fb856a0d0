-- expects: held
for _, part in ipairs{"(", "{", "f(", "not ", "a[", "function() return ", "do ", "if a then "} do
  assert(load("return " .. part:rep(30000)) == nil, part)
end
return "held"
