-- Every function of Event, on a real deployment.

local id = Event.subscribe("surface.*", {language = "lua"})
assert(Event.publish("surface.paid", {n = 7}, {correlation_id = "c1", ttl_seconds = 60}) == true)
local event = Event.receive(id, 5000)
assert(event.event_type == "surface.paid" and event.data.n == 7 and event.correlation_id == "c1")
assert(Event.emit("surface.emitted", {1, 2}) == true)
event = Event:receive(id, 5000)
assert(event.event_type == "surface.emitted" and event.data[2] == 2)
assert(Event.receive(id, 0) == nil)
local all = Event.list_subscriptions()
assert(#all == 1 and all[1].id == id and all[1].pattern == "surface.*")
local stats = Event.get_stats()
assert(stats.event_bus_stats.events_processed >= 2 and stats.bridge_stats.active_subscriptions == 1)
assert(Event.unsubscribe(id) and not Event.unsubscribe(id))
assert(not pcall(Event.receive, id))

return "done"
