-- Replay: modes, configurations, modifications, schedules, comparison.

for _, name in ipairs{"exact", "modified", "simulate", "debug"} do
  local mode = Replay.modes[name]
  assert(mode:name() == name and tostring(mode) == name and "is " .. mode == "is " .. name)
end

local config = Replay.create_config(Replay.modes.modified)
assert(config:get_mode() == Replay.modes.modified and config:get_mode():name() == "modified")
assert(config:should_compare_results() and config:get_timeout_seconds() == 300)
assert(not config:should_stop_on_error() and #config:get_modifications() == 0)
config:set_compare_results(false):set_timeout_seconds(5):set_stop_on_error(true)
assert(not config:should_compare_results() and config:get_timeout_seconds() == 5)
assert(config:should_stop_on_error())
assert(Replay:create_config("debug", {timeout_seconds = 9}):get_timeout_seconds() == 9)
assert(Replay.create_config():get_mode():name() == "exact")

local change = Replay.create_modification("GetState.item", {a = 1})
assert(change:get_path() == "GetState.item" and change:get_value().a == 1 and change:is_enabled())
change:set_enabled(false)
assert(not change:is_enabled())
config:add_modification("3.answer", 5, false)
config:add_modification(change)
local all = config:get_modifications()
assert(#all == 2 and all[1]:get_value() == 5 and not all[1]:is_enabled() and all[2] == change)

-- Schedules tell when something is due, in UTC.
local function moment(text)
  local y, mo, d, h, mi = text:match("(%d+)-(%d+)-(%d+) (%d+):(%d+)")
  return os.time({year = y, month = mo, day = d, hour = h, min = mi, sec = 0})
end
local function due(expr, after, wanted)
  local schedule = Replay.schedules.cron(expr)
  assert(schedule:type_name() == "cron")
  local got = schedule:next(moment(after))
  local text = got and os.date("%Y-%m-%d %H:%M", got)
  assert(text == wanted, expr .. ": " .. tostring(text))
end
due("*/15 * * * *", "2024-02-28 23:50", "2024-02-29 00:00")
due("0 9 * * mon-fri", "2024-03-01 09:00", "2024-03-04 09:00")
due("30 6 1 jan *", "2024-01-01 06:30", "2025-01-01 06:30")
due("0 0 29 2 *", "2024-02-29 00:00", "2028-02-29 00:00")
due("0 0 13 * 5", "2024-09-01 00:00", "2024-09-06 00:00")
due("@daily", "1999-12-31 12:00", "2000-01-01 00:00")
due("5,10-20/5 * * * 7", "2024-06-01 00:00", "2024-06-02 00:05")
due("0 0 30 2 *", "2024-01-01 00:00", nil)
due("59 23 31 12 *", "1969-12-31 00:00", "1969-12-31 23:59")
local hours = Replay.schedules.cron("@hourly"):next_times(3, moment("2024-01-01 00:30"))
assert(#hours == 3 and hours[3] - hours[1] == 7200)

local once = Replay.schedules.once(60)
local now = os.time()
assert(once:type_name() == "once" and once:next() - now >= 59 and once:next() - now <= 62)
assert(once:next(now + 100) == nil and #once:next_times(5) == 1)
local every = Replay.schedules.interval(10, 5, 3)
assert(every:type_name() == "interval" and #every:next_times(10) == 3)
local first, second = table.unpack(every:next_times(2))
assert(second - first == 5 and every:next(first) == second and tostring(every) == "interval(10, 5)")

for _, wrong in ipairs{
  {Replay.schedules.cron, "* * * *"}, {Replay.schedules.cron, "60 * * * *"},
  {Replay.schedules.cron, "* * * * */0"}, {Replay.schedules.cron, "5-1 * * * *"},
  {Replay.schedules.cron, "x * * * *"}, {Replay.schedules.cron, 5},
  {Replay.schedules.once, 0}, {Replay.schedules.interval, -1, 5}, {Replay.schedules.interval, 1, 0},
  {Replay.create_config, "quick"}, {Replay.create_modification, ""},
  {Replay.create_modification, "p", print},
} do
  local ok, e = pcall(wrong[1], table.unpack(wrong, 2))
  assert(not ok and e.reason == "FIELD_INVALID", tostring(e))
end

-- Comparison of JSON texts or of values.
local comparator = Replay.create_comparator()
local same = comparator:compare_json('{"a": [1, 2], "b": null}', '{"b": null, "a": [1, 2]}')
assert(same.identical and same.similarity_score == 1 and same.summary == "identical" and #same.differences == 0)
local differ = comparator:compare_json({a = 1, b = {x = 1, y = 2}, c = 3}, {a = 1, b = {x = 9}, d = {1, 2}})
assert(not differ.identical and differ.similarity_score == 1 / 6)
local paths = {}
for _, one in ipairs(differ.differences) do paths[#paths + 1] = one.path .. " " .. one.kind end
assert(table.concat(paths, ",") == "$.b.x changed,$.b.y removed,$.c removed,$.d added")
assert(differ.differences[1].description == "changed: 1 became 9")
assert(differ.summary == "4 differences; 1 of 6 places are the same", differ.summary)
assert(not comparator:compare_json("[1]", '{"a": 1}').identical)
assert(not comparator:compare_json("[]", "{}").identical and comparator:compare_json({}, "{}").identical)
assert(comparator:compare_json("plain", "plain").identical and comparator:compare_json(1, 1.0).identical)
assert(not comparator:compare_json(1, "x").identical and not comparator:compare_json(nil, 1).identical)
local loop = {}
loop.loop = loop
assert(comparator:compare_json(loop, loop).identical)

return "done"
