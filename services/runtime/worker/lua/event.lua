-- `Event`: facts that are told after they are true. A subscription is a place in the tenant's events
-- that this run holds; receiving asks for what comes after it, so nothing between two calls is lost.

local kit = ...

local call, json, options, required = kit.call, kit.json, kit.options, kit.required
local next, error, type = next, error, type
local floor, remove = math.floor, table.remove
local format = string.format

local PUBLISH = "llmspell.v1.EventService/PublishEvents"
local POLL, STATS = "llmspell.v1.EventService/PollEvents", "llmspell.v1.EventService/GetEventStats"
local TIMEOUT_MS, WAIT_S_MAX, AT_ONCE = 5000, 20, 100

local PUBLISHING = {
  language = options.text, correlation_id = options.text, source = options.text,
  ttl_seconds = options.seconds,
}
local SUBSCRIBING = {language = options.text, after = options.count(0)}

local Event = {}
kit.env.Event = Event

-- id → {id, pattern, language, after, waiting = events that came and were not received yet}.
local subscriptions, made = {}, 0

local function text_of(value, name)
  if value == nil then required(name) end
  if type(value) ~= "string" then kit.invalid(name, "must be text, not a " .. type(value)) end
  return value
end

local function find(id)
  local subscription = subscriptions[text_of(id, "subscription_id")]
  if not subscription then
    kit.refuse("FIELD_INVALID", "subscription_id", "subscription_id is not that of a subscription.")
  end
  return subscription
end

-- An event as scripts see it.
local function event_of(event)
  local ok, data = json.decode(event.json)
  if not ok then error("Event: the data cannot be read: " .. data, 0) end
  local ttl = event.expire_time and event.expire_time - event.event_time
  return {
    id = format("%d", event.sequence), event_type = event.type, data = data,
    timestamp = event.event_time, sequence = event.sequence,
    correlation_id = event.correlation_id, own = event.own, ttl = ttl, language = "lua",
    target_language = "Lua", serialization_version = "1.0",
    metadata = {
      correlation_id = event.correlation_id, source = event.source, ttl = ttl, tags = kit.list({}),
      priority = "normal",
    },
  }
end

--| `Event.publish(type, data, options)`
--- `true` once it is on disk; also `Event.emit`. Options: `correlation_id`, `source`,
--- `ttl_seconds`, `language`.
-- Event.publish(type, data, {correlation_id, source, ttl_seconds, language}?) → true. It is on disk.
Event.publish = kit.either_way(Event, function(event_type, data, given)
  local set = options.read(given, PUBLISHING)
  local ok, document = json.encode(data, "data", true)
  if not ok then kit.refuse("FIELD_INVALID", "data", document .. ".") end
  call(PUBLISH, {events = kit.list({{
    type = text_of(event_type, "type"), json = document, correlation_id = set.correlation_id,
    source = set.source, ttl = set.ttl_seconds,
  }})})
  return true
end)

-- Under its name of old.
Event.emit = Event.publish

--| `Event.subscribe(pattern, options)`
--- An id. From now on, or with `options.after` after a sequence. `*` stands for any text in any
--- position.
-- Event.subscribe(pattern, {language, after}?) → id. From now on, or after a sequence.
Event.subscribe = kit.either_way(Event, function(pattern, given)
  local set = options.read(given, SUBSCRIBING)
  text_of(pattern, "pattern")
  local begun = call(POLL, {pattern = pattern, after = set.after, limit = 1})
  made = made + 1
  local id = format("sub_%d", made)
  subscriptions[id] = {
    id = id, pattern = pattern, language = set.language or "lua",
    after = set.after or begun.sequence, waiting = {},
  }
  return id
end)

--| `Event.receive(id, timeout_ms)`
--- The next event, waited for 5000 ms where nothing is said, or `nil`. An id that is not known
--- raises.
-- Event.receive(id, timeout_ms = 5000) → the next event, or nil when the time is over.
Event.receive = kit.either_way(Event, function(id, timeout_ms)
  local subscription = find(id)
  local left_s = options.number(timeout_ms or TIMEOUT_MS, "timeout_ms") / 1000
  if left_s < 0 then kit.invalid("timeout_ms", "must not be negative") end
  while #subscription.waiting == 0 do
    local wait_s = left_s < WAIT_S_MAX and left_s or WAIT_S_MAX
    local answer = call(POLL, {
      pattern = subscription.pattern, after = subscription.after, limit = AT_ONCE, wait = wait_s,
    })
    subscription.after, subscription.waiting = answer.sequence, answer.events or {}
    left_s = left_s - wait_s
    if left_s <= 0 then break end
  end
  local event = remove(subscription.waiting, 1)
  return event and event_of(event)
end)

--| `Event.unsubscribe(id)`
--- Whether there was one.
-- Event.unsubscribe(id) → whether there was one.
Event.unsubscribe = kit.either_way(Event, function(id)
  local known = subscriptions[text_of(id, "subscription_id")] ~= nil
  subscriptions[id] = nil
  return known
end)

--| `Event.list_subscriptions()`
--- This run's: `id`, `pattern`, `language`.
-- Event.list_subscriptions() → this run's: {id, pattern, language}, the oldest first.
Event.list_subscriptions = kit.either_way(Event, function()
  local found = {}
  for number = 1, made do
    local one = subscriptions[format("sub_%d", number)]
    if one then
      found[#found + 1] = {id = one.id, pattern = one.pattern, language = one.language}
    end
  end
  return kit.list(found)
end)

--| `Event.get_stats()`
--- `event_bus_stats` of the tenant's published events, `bridge_stats` of this run's subscriptions.
-- Event.get_stats() → counts of the tenant's published events and of this run's subscriptions.
Event.get_stats = kit.either_way(Event, function()
  local stats = call(STATS, {})
  local count, by_language = 0, {}
  for _, one in next, subscriptions do
    count = count + 1
    by_language[one.language] = (by_language[one.language] or 0) + 1
  end
  return {
    event_bus_stats = {
      events_processed = floor(stats.published_count),
      rate_limit_violations = floor(stats.refused_count),
      buffer_size = floor(stats.kept_count),
    },
    bridge_stats = {active_subscriptions = count, subscriptions_by_language = by_language},
  }
end)
