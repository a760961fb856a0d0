-- The life of an agent: its states and the moves between them. An agent of the run has it here; one that
-- the tenant has registered has it in the host, where every run sees the same.

local kit = ...

local options = kit.options
local next, setmetatable = next, setmetatable
local lower, sub, upper = string.lower, string.sub, string.upper

local SERVICE = "llmspell.v1.AgentService/"
local RECOVERIES_MAX, HISTORY_MAX = 3, 100

local life = {}
kit.agent_life = life

local function set(words)
  local found = {}
  for _, word in next, words do found[word] = true end
  return found
end

-- From each state, where it may go.
local LEGAL = {
  Uninitialized = set{"Initializing", "Error"},
  Initializing = set{"Ready", "Error", "Terminating"},
  Ready = set{"Running", "Paused", "Terminating", "Error"},
  Running = set{"Ready", "Paused", "Terminating", "Error"},
  Paused = set{"Ready", "Running", "Terminating", "Error"},
  Error = set{"Recovering", "Terminating", "Terminated"},
  Recovering = set{"Ready", "Error", "Terminating"},
  Terminating = set{"Terminated", "Error"},
  Terminated = {},
}

local function illegal(name, from, to)
  kit.refuse("AGENT_STATE", "state",
    "The agent " .. name .. " cannot go from " .. from .. " to " .. to .. ".",
    {agent = name, from = from, to = to})
end

-- of this run ----------------------------------------------------------------------------------

local Own = {}
Own.__index = Own

function life.new(name)
  local now = kit.now()
  return setmetatable({
    name = name, current = "Uninitialized", moves = {}, move_count = 0, since = now, made = now,
    errors = 0, recoveries = 0, spent_in = {},
  }, Own)
end

function Own:state() return self.current end

function Own:move(to, reason)
  local from = self.current
  if not LEGAL[from][to] then illegal(self.name, from, to) end
  local now = kit.now()
  local elapsed = now - self.since
  self.spent_in[from] = (self.spent_in[from] or 0) + elapsed
  self.current, self.since, self.move_count = to, now, self.move_count + 1
  self.moves[#self.moves + 1] = {
    from = from, to = to, timestamp = now, elapsed = elapsed, reason = reason,
  }
  if #self.moves > HISTORY_MAX then
    local rest = {}
    for i = 2, #self.moves do rest[i - 1] = self.moves[i] end
    self.moves = rest
  end
  if to == "Error" then self.errors = self.errors + 1 end
end

function Own:history()
  local shown = kit.list({})
  for i, one in next, self.moves do
    shown[i] = {from = one.from, to = one.to, timestamp = one.timestamp, elapsed = one.elapsed,
      reason = one.reason}
  end
  return shown
end

function Own:metrics()
  local now, in_states = kit.now(), {}
  for state, seconds in next, self.spent_in do in_states[state] = seconds end
  in_states[self.current] = (in_states[self.current] or 0) + now - self.since
  return {
    current_state = self.current, total_transitions = self.move_count, error_count = self.errors,
    recovery_attempts = self.recoveries, uptime = now - self.made,
    last_transition = self.move_count > 0 and self.since or nil, state_time_distribution = in_states,
  }
end

-- What save_state keeps and load_state puts back.
function Own:kept()
  return {state = self.current, moves = self:history(), move_count = self.move_count,
    errors = self.errors, recoveries = self.recoveries, last_error = self.last_error}
end

function Own:restore(kept)
  self.current, self.moves = kept.state, kept.moves or {}
  self.move_count, self.errors = kept.move_count or 0, kept.errors or 0
  self.recoveries, self.last_error = kept.recoveries or 0, kept.last_error
  self.since = kit.now()
end

-- registered -----------------------------------------------------------------------------------

local Registered = {}
Registered.__index = Registered

local function name_of(state)
  return upper(sub(state, 1, 1)) .. lower(sub(state, 2))
end

function life.registered(name)
  return setmetatable({name = name, recoveries = 0}, Registered)
end

local function get(one) return kit.call(SERVICE .. "GetAgent", {name = one.name}).agent end

function Registered:state() return name_of(get(self).state) end

function Registered:move(to, reason)
  kit.call(SERVICE .. "TransitionAgent", {name = self.name, to = lower(to), reason = reason})
end

local function history_of(agent)
  local shown, before = kit.list({}), agent.create_time or 0
  for i, one in next, agent.history or {} do
    local time = one.time or before
    shown[i] = {from = name_of(one.from), to = name_of(one.to), timestamp = time,
      elapsed = time - before, reason = one.reason}
    before = time
  end
  return shown
end

function Registered:history() return history_of(get(self)) end

function Registered:metrics()
  local agent, now = get(self), kit.now()
  local moves, errors, recoveries, in_states = history_of(agent), 0, 0, {}
  for _, one in next, moves do
    in_states[one.from] = (in_states[one.from] or 0) + one.elapsed
    if one.to == "Error" then errors = errors + 1 end
    if one.to == "Recovering" then recoveries = recoveries + 1 end
  end
  local last, made = moves[#moves], agent.create_time or now
  local state = name_of(agent.state)
  in_states[state] = (in_states[state] or 0) + now - (last and last.timestamp or made)
  return {
    current_state = state, total_transitions = #moves, error_count = errors,
    recovery_attempts = recoveries, uptime = now - made,
    last_transition = last and last.timestamp, state_time_distribution = in_states,
  }
end

function Registered:kept() return {state = self:state()} end
function Registered:restore() end

-- moves by name --------------------------------------------------------------------------------

local function own(one, to, reason)
  return function(record)
    record.life:move(one, reason)
    if to then record.life:move(to, reason) end
  end
end

local function ready(record)
  if record.life:state() == "Uninitialized" then life.initialize(record) end
end

life.initialize = own("Initializing", "Ready", "initialize")

function life.start(record)
  ready(record)
  record.life:move("Running", "start")
end

function life.pause(record) record.life:move("Paused", "pause") end

-- To where it was before it was paused.
function life.resume(record)
  if record.life:state() ~= "Paused" then illegal(record.name, record.life:state(), "Running") end
  record.life:move("Running", "resume")
end

function life.stop(record) record.life:move("Ready", "stop") end

-- Hooks see it pass as the removal of an agent.
function life.terminate(record)
  kit.call(SERVICE .. "DeleteAgent", {name = record.name}, nil, function()
    if record.life:state() == "Uninitialized" then life.initialize(record) end
    own("Terminating", "Terminated", "terminate")(record)
    return {deleted = true}
  end)
end

function life.set_error(record, message)
  message = message == nil and "set_error" or options.text(message, "message")
  record.life:move("Error", message)
  record.life.last_error = message
end

function life.recover(record)
  local one = record.life
  if one.recoveries >= RECOVERIES_MAX then
    kit.refuse("AGENT_STATE", "recover", "The agent " .. record.name .. " was recovered "
      .. kit.tostring(RECOVERIES_MAX) .. " times already.", {agent = record.name})
  end
  one:move("Recovering", "recover")
  one.recoveries = one.recoveries + 1
  one:move("Ready", "recover")
  one.last_error = nil
end

-- Before it is executed: ready or running; gives what puts it back.
function life.enter(record)
  if record.registered then return function() end end
  ready(record)
  local state = record.life:state()
  if state == "Running" then return function() end end
  -- One that is paused answers nobody until it is resumed.
  if state ~= "Ready" then illegal(record.name, state, "Running") end
  record.life:move("Running", "execute")
  return function()
    if record.life:state() == "Running" then record.life:move("Ready", "done") end
  end
end

function life.is_healthy(record)
  local state = record.life:state()
  return state ~= "Error" and state ~= "Terminated" and state ~= "Terminating"
end
