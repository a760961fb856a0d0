-- What is known of how an agent does: counts of what it was asked and spent, its health, and alerts.

local kit = ...

local options = kit.options
local next, pcall, type = next, pcall, type

local watch = {}
kit.agent_watch = watch

local ALERTS_MAX, COOLDOWN_S, LASTING_S = 100, 300, 60

function watch.new()
  return {
    requests = 0, failed = 0, active = 0, tools = 0, took_ms = 0.0, input_tokens = 0,
    output_tokens = 0, cost_usd = 0.0, alerts = {}, told = kit.list({}),
  }
end

function watch.add(stats, usage, took_ms, tool_calls)
  stats.took_ms = stats.took_ms + took_ms
  stats.input_tokens = stats.input_tokens + usage.input_tokens
  stats.output_tokens = stats.output_tokens + usage.output_tokens
  stats.cost_usd = stats.cost_usd + usage.cost_usd
  stats.tools = stats.tools + tool_calls
end

-- numbers --------------------------------------------------------------------------------------

local function share(part, whole) return whole > 0 and part / whole or 0.0 end

-- Of the run's process: the share of a processor that it took since it began, in per cent.
local function cpu_percent()
  local ok, measured = pcall(kit.raw_call, "llmspell.runtime.Hooks/Measure", {})
  local elapsed = kit.elapsed()
  if not ok or elapsed <= 0 then return 0.0 end
  return (measured.cpu_s or 0) / elapsed * 100
end

-- {agent_id, requests_total, requests_failed, requests_active, tool_invocations, memory_bytes,
-- cpu_percent, input_tokens, output_tokens, cost_usd}; memory and processor are the whole run's.
function watch.metrics(record)
  local stats = record.stats
  return {
    agent_id = record.id, requests_total = stats.requests, requests_failed = stats.failed,
    requests_active = stats.active, tool_invocations = stats.tools,
    memory_bytes = kit.memory_bytes(), cpu_percent = cpu_percent(),
    input_tokens = stats.input_tokens, output_tokens = stats.output_tokens, cost_usd = stats.cost_usd,
  }
end

function watch.performance(record)
  local stats = record.stats
  local answered = stats.requests - stats.failed - stats.active
  return {
    total_executions = stats.requests, avg_execution_time_ms = share(stats.took_ms, answered),
    success_rate = share(answered, stats.requests - stats.active),
    error_rate = share(stats.failed, stats.requests - stats.active),
    total_cost_usd = stats.cost_usd, total_tokens = stats.input_tokens + stats.output_tokens,
  }
end

-- {status = healthy, degraded or unhealthy, message, timestamp}.
function watch.health(record)
  local status, message = "healthy", "It answers."
  local state, performance = record.life:state(), watch.performance(record)
  if not kit.agent_life.is_healthy(record) then
    status, message = "unhealthy", record.life.last_error or "It is in state " .. state .. "."
  elseif state == "Paused" then
    status, message = "degraded", "It is paused."
  elseif performance.error_rate >= 0.5 then
    status, message = "degraded", "Half of what it was asked failed, or more."
  end
  return {status = status, message = message, timestamp = kit.now(), state = state}
end

-- {active_agents, total_tools, performance{memory_usage_mb, cpu_usage_percent, uptime_seconds}}.
function watch.bridge(records, total_tools)
  local active = 0
  for _, record in next, records do
    if record.registered or kit.agent_life.is_healthy(record) then active = active + 1 end
  end
  return {
    active_agents = active, total_tools = total_tools,
    performance = {
      memory_usage_mb = kit.memory_bytes() / 1048576, cpu_usage_percent = cpu_percent(),
      uptime_seconds = kit.elapsed(),
    },
  }
end

-- alerts ---------------------------------------------------------------------------------------

local OPERATORS = {
  [">"] = function(a, b) return a > b end, [">="] = function(a, b) return a >= b end,
  ["<"] = function(a, b) return a < b end, ["<="] = function(a, b) return a <= b end,
  ["=="] = function(a, b) return a == b end, ["!="] = function(a, b) return a ~= b end,
}
for word, sign in next, {
  greater_than = ">", greater_than_or_equal = ">=", less_than = "<", less_than_or_equal = "<=",
  equals = "==", equal = "==", not_equals = "!=", gt = ">", gte = ">=", lt = "<", lte = "<=",
} do
  OPERATORS[word] = OPERATORS[sign]
end

local CONDITION = {
  type = options.text, metric_name = options.text, operator = options.one_of(OPERATORS),
  threshold = options.number, duration_seconds = function(value, name)
    if options.number(value, name) < 0 then kit.invalid(name, "must not be negative") end
    return value
  end,
  status = options.text, rate_percent = options.number,
}

local ALERT = {
  name = options.text, severity = options.text, enabled = options.flag,
  condition = function(value, name) return options.read(value, CONDITION, name) end,
  cooldown_seconds = function(value, name)
    if options.number(value, name) < 0 then kit.invalid(name, "must not be negative") end
    return value
  end,
}

local NEEDED = {
  metric_threshold = {"metric_name", "threshold"}, health_status = {"status"},
  error_rate = {"rate_percent"},
}

local function alert_of(given, field)
  local alert = options.read(given, ALERT, field, true)
  local condition = alert.condition
  if not condition then kit.required(field .. ".condition") end
  local needed = NEEDED[condition.type]
  if not needed then
    kit.invalid(field .. ".condition.type", "must be metric_threshold, health_status or error_rate")
  end
  for _, name in next, needed do
    if condition[name] == nil then kit.required(field .. ".condition." .. name) end
  end
  alert.name = alert.name or condition.type
  alert.severity = alert.severity or "warning"
  return alert
end

-- One alert, or a list of them; one of the same name is replaced.
function watch.configure(record, given)
  options.table(given, "alerts")
  local list = given.condition == nil and #given > 0 and given or {given}
  for i = 1, #list do
    local alert = alert_of(list[i], #list > 1 and "alerts[" .. i .. "]" or "alert")
    local alerts, place = record.stats.alerts, #record.stats.alerts + 1
    for at, one in next, alerts do
      if one.name == alert.name then place = at end
    end
    alerts[place] = alert
  end
end

local MET = {}

-- It must have been so for a while, which begins when it is first seen.
function MET.metric_threshold(record, alert, now)
  local condition = alert.condition
  local value = watch.metrics(record)[condition.metric_name]
  if value == nil then value = watch.performance(record)[condition.metric_name] end
  local compare = condition.operator or OPERATORS[">"]
  if type(value) ~= "number" or not compare(value, condition.threshold) then
    alert.met_since = nil
    return nil
  end
  alert.met_since = alert.met_since or now
  if now - alert.met_since < (condition.duration_seconds or LASTING_S) then return nil end
  return condition.metric_name .. " is " .. kit.tostring(value)
end

function MET.health_status(record, alert)
  local health = watch.health(record)
  if health.status == alert.condition.status then return "It is " .. health.status .. ": " .. health.message end
end

function MET.error_rate(record, alert)
  local rate = watch.performance(record).error_rate * 100
  if record.stats.requests > 0 and rate >= alert.condition.rate_percent then
    return kit.tostring(rate) .. " % of what it was asked failed"
  end
end

-- Looks whether alerts are met; each tells again only after a while.
function watch.check(record)
  local stats = record.stats
  if #stats.alerts == 0 then return end
  local now = kit.now()
  for _, alert in next, stats.alerts do
    local is_quiet = alert.told_at and now - alert.told_at < (alert.cooldown_seconds or COOLDOWN_S)
    local message = alert.enabled ~= false and not is_quiet and MET[alert.condition.type](record, alert, now)
    if message and #stats.told < ALERTS_MAX then
      alert.told_at = now
      stats.told[#stats.told + 1] = {
        name = alert.name, severity = alert.severity, message = message, timestamp = now,
      }
    end
  end
end

function watch.alerts(record)
  watch.check(record)
  local shown = kit.list({})
  for i, one in next, record.stats.told do
    shown[i] = {name = one.name, severity = one.severity, message = one.message,
      timestamp = one.timestamp}
  end
  return shown
end
