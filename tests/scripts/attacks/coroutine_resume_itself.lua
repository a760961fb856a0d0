-- expects: held
local co
co = coroutine.create(function()
  local ok = coroutine.resume(co)
  assert(not ok)
  assert(not pcall(coroutine.close, co))
  return true
end)
assert(coroutine.resume(co))
local main = coroutine.running()
assert(not coroutine.resume(main))
assert(not pcall(coroutine.close, main))
return "held"
