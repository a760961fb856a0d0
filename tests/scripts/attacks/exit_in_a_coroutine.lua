-- expects: null
coroutine.wrap(function() os.exit(true, true) end)()
