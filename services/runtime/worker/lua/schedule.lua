-- When something is due: once, at intervals, or as a cron line says. A schedule is arithmetic; what it
-- says is done by whoever asks it. All times are UTC, in seconds since 1970.

local kit = ...

local options = kit.options
local error, setmetatable, tonumber, type = error, setmetatable, tonumber, type
local floor, gmatch, lower, match, sub = math.floor, string.gmatch, string.lower, string.match, string.sub
local format = string.format

local COUNT_MAX, YEARS_MAX, DAY_S = 1000, 9, 86400

local Schedule = {__name = "schedule", __metatable = false}
Schedule.__index = Schedule
local states = setmetatable({}, {__mode = "k"})

local function state_of(schedule, method)
  local state = type(schedule) == "table" and states[schedule]
  if not state then error("schedule:" .. method .. ": call it with a colon on a schedule", 3) end
  return state
end

-- schedule:type_name() → once, interval or cron.
function Schedule:type_name() return state_of(self, "type_name").kind end

function Schedule:__tostring()
  return state_of(self, "tostring").text
end

-- schedule:next(after?) → the first time it is due after a moment (now unless said), or nil.
function Schedule:next(after)
  local state = state_of(self, "next")
  return state.next(after == nil and kit.now() or options.number(after, "after"))
end

-- schedule:next_times(count, after?) → the next times it is due, at most a thousand.
function Schedule:next_times(count, after)
  local state = state_of(self, "next_times")
  options.count(1, COUNT_MAX)(count, "count")
  local found, moment = {}, after == nil and kit.now() or options.number(after, "after")
  while #found < count do
    moment = state.next(moment)
    if not moment then break end
    found[#found + 1] = moment
  end
  return kit.list(found)
end

local function make(kind, text, next_time)
  local schedule = setmetatable({}, Schedule)
  states[schedule] = {kind = kind, text = text, next = next_time}
  return schedule
end

-- Cron -----------------------------------------------------------------------------------------

local MONTHS = {
  jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6, jul = 7, aug = 8, sep = 9, oct = 10,
  nov = 11, dec = 12,
}
local DAYS = {sun = 0, mon = 1, tue = 2, wed = 3, thu = 4, fri = 5, sat = 6}
local FIELDS = {
  {name = "minute", least = 0, most = 59}, {name = "hour", least = 0, most = 23},
  {name = "day", least = 1, most = 31}, {name = "month", least = 1, most = 12, words = MONTHS},
  {name = "weekday", least = 0, most = 7, words = DAYS},
}
local SHORT = {
  ["@yearly"] = "0 0 1 1 *", ["@annually"] = "0 0 1 1 *", ["@monthly"] = "0 0 1 * *",
  ["@weekly"] = "0 0 * * 0", ["@daily"] = "0 0 * * *", ["@midnight"] = "0 0 * * *",
  ["@hourly"] = "0 * * * *",
}

local function refuse(field, part)
  kit.invalid("expr", format("has %q as %s, which is none", part, field.name))
end

local function number_of(field, text)
  local value = field.words and field.words[lower(text)] or match(text, "^%d+$") and tonumber(text)
  if not value or value < field.least or value > field.most then refuse(field, text) end
  return value
end

-- The values of one field: *, 5, 1-5, */15, 1-30/5, and lists of these.
local function values_of(field, text)
  local found = {}
  for part in gmatch(text .. ",", "([^,]*),") do
    local span, every = match(part, "^([^/]+)/(%d+)$")
    span = span or part
    local by = every and tonumber(every) or 1
    if by < 1 then refuse(field, part) end
    local first, last = match(span, "^(%w+)%-(%w+)$")
    if span == "*" then
      first, last = field.least, field.most
    elseif first then
      first, last = number_of(field, first), number_of(field, last)
    else
      first = number_of(field, span)
      last = every and field.most or first
    end
    if first > last then refuse(field, part) end
    for value = first, last, by do found[value] = true end
  end
  if field.words == DAYS and found[7] then found[0] = true end
  return found
end

-- Days since 1970 of a date, and the date of such a day.
-- https://howardhinnant.github.io/date_algorithms.html
local function days_of(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = year // 400
  local year_of_era = year - era * 400
  local day_of_year = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
  return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
end

local function date_of(days)
  days = days + 719468
  local era = days // 146097
  local day_of_era = days - era * 146097
  local year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
  local day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
  local shifted = (5 * day_of_year + 2) // 153
  local month = shifted + (shifted < 10 and 3 or -9)
  return year_of_era + era * 400 + (month <= 2 and 1 or 0), month,
    day_of_year - (153 * shifted + 2) // 5 + 1
end

-- As cron has it: where both day and weekday are limited, either is enough.
local function is_day(fields, days)
  local _, month, day = date_of(days)
  if not fields.month[month] then return false end
  local by_day, by_weekday = fields.day[day], fields.weekday[(days + 4) % 7]
  if fields.any_day then return by_weekday end
  if fields.any_weekday then return by_day end
  return by_day or by_weekday
end

local function cron_next(fields, after)
  local minute = floor(after / 60) + 1
  local year = date_of(minute // 1440)
  local last = days_of(year + YEARS_MAX, 1, 1)
  for days = minute // 1440, last do
    if is_day(fields, days) then
      local from = days == minute // 1440 and minute % 1440 or 0
      for of_day = from, 1439 do
        if fields.hour[of_day // 60] and fields.minute[of_day % 60] then
          return days * DAY_S + of_day * 60
        end
      end
    end
  end
  return nil
end

local function parse_cron(text)
  if type(text) ~= "string" then kit.invalid("expr", "must be text, not a " .. type(text)) end
  local words, fields = {}, {}
  for one in gmatch(SHORT[text] or text, "%S+") do words[#words + 1] = one end
  if #words ~= #FIELDS then
    kit.invalid("expr", "must have five fields: minute hour day month weekday")
  end
  for i = 1, #FIELDS do fields[FIELDS[i].name] = values_of(FIELDS[i], words[i]) end
  fields.any_day = sub(words[3], 1, 1) == "*"
  fields.any_weekday = sub(words[5], 1, 1) == "*"
  return fields
end

-- ----------------------------------------------------------------------------------------------

local schedules = {}
kit.schedules = schedules

-- Once, `seconds` from now.
function schedules.once(seconds)
  local due = kit.now() + options.seconds(seconds, "seconds")
  return make("once", format("once(%g)", seconds), function(after)
    return due > after and due or nil
  end)
end

-- First after `initial` seconds, then each `interval` seconds, at most `most` times.
function schedules.interval(initial, interval, most)
  options.number(initial, "initial")
  if initial < 0 then kit.invalid("initial", "must not be negative") end
  options.seconds(interval, "interval")
  if most ~= nil then options.count(1)(most, "max") end
  local first = kit.now() + initial
  return make("interval", format("interval(%g, %g)", initial, interval), function(after)
    local number = after < first and 0 or floor((after - first) / interval) + 1
    if most and number >= most then return nil end
    return first + number * interval
  end)
end

function schedules.cron(text)
  local fields = parse_cron(text)
  return make("cron", "cron(" .. text .. ")", function(after) return cron_next(fields, after) end)
end
