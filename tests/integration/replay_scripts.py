"""Fifty scripts that differ in what they observe, for tests of journals and replays.

Each may use the scope `custom:NAME` of its own, ARGS.scope. One whose name ends in `_fails` fails.
"""

_MANY_KEYS = " ".join(f'["k{number * 7919 % 997}"] = {number},' for number in range(300))

SCRIPTS = {
    "empty": "return",
    "prints": 'print("a", 1, 2.5, nil, true) io.write("x", 3, "\\n") return "done", 2',
    "random": "local t = {} for i = 1, 50 do t[i] = math.random(1 << 40) end return t",
    "random_floats": "for _ = 1, 20 do print(math.random(), math.random(6)) end",
    "random_reseeded": "print(math.random(1000)) math.randomseed(7) return math.random(1000)",
    "time": 'print(os.time(), os.date(), os.date("!%H:%M:%S")) return os.date("*t").sec',
    "clock": "local t = {} for i = 1, 30 do t[i] = os.clock() end return t",
    "spins": "local from, n = os.clock(), 0 while os.clock() - from < 0.05 do n = n + 1 end "
    "print(n)",
    "memory": 'local t = {} for i = 1, 50 do t[i] = ("x"):rep(i * 100) '
    'print(collectgarbage("count")) end',
    "text_keys": f"for key, value in pairs({{{_MANY_KEYS}}}) do print(key, value) end",
    "text_keys_by_next": f"local t = {{{_MANY_KEYS}}} local k, v = next(t) "
    "while k do io.write(k, '=', v, ' ') k, v = next(t, k) end",
    "mixed_keys": "local t = {10, 20, x = 1, y = 2, [true] = 3, [0.5] = 4, [-3] = 5, [100] = 6} "
    "for key, value in pairs(t) do print(key, value) end",
    "cleared_keys": f"local t = {{{_MANY_KEYS}}} for key in pairs(t) do "
    "if #key == 3 then t[key] = nil end end for key in pairs(t) do print(key) end return next(t)",
    "one_object_key": "local t = {[{}] = 1, x = 2} for key, value in pairs(t) do "
    "print(type(key), value) end",
    "sorts": "local t = {} for i = 1, 2000 do t[i] = {math.random(20), i} end "
    "table.sort(t, function(a, b) return a[1] < b[1] end) "
    "for i = 1, 2000, 50 do print(t[i][1], t[i][2]) end",
    "sorts_badly": "local t = {} for i = 1, 1000 do t[i] = i % 2 == 0 and i or -i end "
    "local n = 0 table.sort(t, function(a, b) n = n + 1 return a < b end) return n",
    "coroutines": "local make = coroutine.wrap(function() for i = 1, 9 do "
    "coroutine.yield(i * math.random(9)) end end) for _ = 1, 9 do print(make()) end",
    "closures": "local sum = 0 local function add(n) return function() sum = sum + n end end "
    "for i = 1, 100 do add(i)() end return sum",
    "metatables": "local t = setmetatable({}, {__index = function(_, k) return k .. '!' end, "
    "__tostring = function() return 'me' end}) print(t, t.a, #t) return tostring(t)",
    "texts": 'print(("%5.2f|%x|%q"):format(3.14159, 255, "a\\nb"), ("abc"):rep(3, "-")) '
    'for w in ("one two three"):gmatch("%a+") do print(w:upper()) end return ("x"):byte()',
    "loads": "local f = load('local a = ... return a * math.random(10)') return f(3), load('x x')",
    "big_output": 'for i = 1, 3000 do print(i, ("line "):rep(10)) end',
    "binary_output": 'io.write("\\0\\255\\254", "\\xff\\n") return "x"',
    "json": 'local v = JSON.parse(\'{"b": [1, 2.5, null, {"z": 1, "a": 2}], "a": "x"}\') '
    "print(JSON.stringify(v)) for k in pairs(v) do print(k) end return v",
    "streams": "local s = Streaming.create(function() for i = 1, 5 do "
    "coroutine.yield(math.random(100)) end end) return s:collect()",
    "errors_fails": 'local t = nil print("before") return t.x',
    "raises_table_fails": 'error({code = 7, message = "no " .. math.random(100)})',
    "raises_deep_fails": "local function f(n) if n == 0 then error('deep') end f(n - 1) end f(20)",
    "exits_fails": 'print("leaving") os.exit(3)',
    "exits": 'print("leaving well") os.exit(0)',
    "syntax_fails": "this is no Lua",
    "state": 'State.save(ARGS.scope, "a", {n = math.random(100), at = os.time()}) '
    'print(JSON.stringify(State.load(ARGS.scope, "a"))) State.delete(ARGS.scope, "a") '
    'return State.load(ARGS.scope, "a")',
    "state_counts": 'for i = 1, 20 do print(State.increment(ARGS.scope, "n", i)) end',
    "state_lists": "for i = 1, 25 do State.save(ARGS.scope, 'k' .. i, i) end "
    "local keys = State.list_keys(ARGS.scope) for _, key in ipairs(keys) do print(key) end "
    "return #keys",
    "state_batches": "return State.batch{{set = 'a', scope = ARGS.scope, value = 1}, "
    "{increment = 'b', scope = ARGS.scope, by = 2}}",
    "state_bytes": 'State.save(ARGS.scope, "t", ("y"):rep(200000)) '
    'return #State.load(ARGS.scope, "t")',
    "read_and_write": "for i = 1, 15 do local n = State.load(ARGS.scope, 'n') or 0 "
    "State.save(ARGS.scope, 'n', n + math.random(5)) end return State.load(ARGS.scope, 'n')",
    "call_refused": "local ok, why = pcall(State.save, 'no such scope!', 'k', 1) "
    "print(ok, why, type(why) == 'table' and why.reason)",
    "call_fails_at_last_fails": "State.save(ARGS.scope, 'k', 1) Session.get('nobody')",
    "not_offered": "print(pcall(State.migrate, '9.9.9'))",
    "sessions": "local id = Session.create{name = 'inner'} print(id) Session.save(id) "
    "Session.complete(id) return Session.get(id).status",
    "sessions_listed": "Session.create{name = 'listed'} "
    "for _, s in ipairs(Session.list{limit = 3}) do print(s.id, s.name, s.created_at) end "
    "return Session.get_current()",
    "artifacts": "local s = Session.get_current() local id = Artifact.store(s, 'user_input', "
    "'a.txt', 'text ' .. math.random(1000), {tags = {'x'}}) print(id.content_hash, id.sequence) "
    "return Artifact.get(s, id).content, #Artifact.list(s)",
    "events": "local sub = Event.subscribe('replay.*') Event.publish('replay.made', {n = 1}) "
    "local got = Event.receive(sub, 2000) print(got and got.type or 'none') "
    "return Event.unsubscribe(sub)",
    "documents": "RAG.ingest({content = 'Cats purr and sleep.', id = 'c'}, "
    "{scope = ARGS.scope}) local found = RAG.search('cats', {scope = ARGS.scope, k = 2}) "
    "for _, one in ipairs(found) do print(one.id, one.score, one.text) end return found.total",
    "tools": "for _, tool in ipairs(Tool.list()) do print(tool.name) end "
    "return Tool.exists('none')",
    "hooks": "Hook.register('BeforeStateWrite', function(context) return 'continue' end) "
    "State.save(ARGS.scope, 'hooked', 1) return State.load(ARGS.scope, 'hooked')",
    "config": "print(JSON.stringify(Config.get())) return Config.getDefaultEngine()",
    "debugs": "Debug.info('told') local t = Debug.timer('t') for i = 1, 1000 do end "
    "print(type(t:stop())) print(Debug.dump({b = 1, a = {2, 3}})) return Debug.getLevel()",
    "arguments": "for key, value in pairs(ARGS) do print(key, value) end return arg[1], ...",
    "agents": "local a = Agent.create{model = 'scripted/echo'} print(a.name) "
    "a:invokeStream('one two', function(c) print(c.type, c.text) end) "
    "print(JSON.stringify(a:execute('again'))) print(JSON.stringify(a:get_state_history())) "
    "return #a:get_conversation()",
}
