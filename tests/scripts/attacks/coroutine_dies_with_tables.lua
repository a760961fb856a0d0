-- expects: held
-- What a dead coroutine gave to the host would be freed memory, were it not bytes.
for _ = 1, 200 do
  local co = coroutine.create(function()
    pcall(State.set, "k", {a = {b = "c"}})
    pcall(State.set, {}, function() end)
    error({})
  end)
  coroutine.resume(co)
  co = nil
end
return "held"
