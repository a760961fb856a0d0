-- The hooks of a run and how a point's are asked: in order, each guarded, none inside itself.

local kit = ...

local breaker, results, phases = kit.hook_breaker, kit.hook_results, kit.point_phases
local error, next, pcall, setmetatable, type = error, next, pcall, setmetatable, type
local find, gsub, match, sub = string.find, string.gsub, string.match, string.sub
local insert = table.insert
local sethook, gethook = debug.sethook, debug.gethook

local HOOKS_MAX, DEPTH_MAX, REPORTS_MAX = 1000, 3, 20
-- VM instructions that take about a millisecond.
local INSTRUCTIONS = 300000

local chain = {at = {}, by_id = {}, made = 0, count = 0, on_change = function() end}
kit.hook_chain = chain

-- registry -------------------------------------------------------------------------------------

-- A point's name as it is kept: `Custom(name)` may be written custom:name as well.
function chain.point_of(text)
  local custom = match(text, "^[Cc]ustom%((.+)%)$") or match(text, "^[Cc]ustom:(.+)$")
  if custom then return "Custom(" .. custom .. ")", "custom" end
  return phases[text] and text, phases[text]
end

-- Lists are replaced and never changed: a point that is being asked keeps the list it began with.
local function with(list, hook)
  local longer, place = {}, 1
  for i = 1, #list do longer[i] = list[i] end
  while longer[place] and longer[place].priority <= hook.priority do place = place + 1 end
  insert(longer, place, hook)
  return longer
end

function chain.add(hook)
  if chain.count >= HOOKS_MAX then
    kit.refuse("LIMIT_EXCEEDED", "hooks", "A run may have " .. HOOKS_MAX .. " hooks.",
      {field = "hooks", limit = kit.tostring(HOOKS_MAX)})
  end
  chain.made, chain.count = chain.made + 1, chain.count + 1
  hook.number, hook.id = chain.made, "hook_" .. kit.tostring(chain.made)
  hook.breaker = breaker.new(hook.breaker)
  hook.calls, hook.failed, hook.left_out, hook.took_ms, hook.results = 0, 0, 0, 0, {}
  chain.by_id[hook.id] = hook
  chain.at[hook.point] = with(chain.at[hook.point] or {}, hook)
  chain.on_change()
end

-- Whether it was there.
function chain.drop(hook)
  if chain.by_id[hook.id] ~= hook then return false end
  chain.by_id[hook.id], chain.count = nil, chain.count - 1
  local rest = {}
  for _, one in next, chain.at[hook.point] do
    if one ~= hook then rest[#rest + 1] = one end
  end
  chain.at[hook.point] = #rest > 0 and rest or nil
  chain.on_change()
  return true
end

-- filters --------------------------------------------------------------------------------------

-- Whether a text has the form of a pattern in which * is any text.
local function like(text, pattern)
  if type(text) ~= "string" then return false end
  if not find(pattern, "*", 1, true) then return text == pattern end
  local form = gsub(gsub(pattern, "[^%w%*]", "%%%0"), "%*+", ".*")
  return find(text, "^" .. form .. "$") ~= nil
end

local function fits(filter, subject)
  local component = subject.component
  if filter.component and filter.component ~= component.type then return false end
  if filter.name and not like(component.name, filter.name) then return false end
  if filter.tool and not (component.type == "tool" and like(component.name, filter.tool)) then
    return false
  end
  if filter.scope and not like(subject.args and subject.args.scope, filter.scope) then
    return false
  end
  if filter.tag then
    for _, tag in next, subject.tags or {} do
      if like(tag, filter.tag) then return true end
    end
    return false
  end
  return true
end

-- running --------------------------------------------------------------------------------------

-- The hooks that run now, the innermost last.
local open, depth = {}, 0
local ticks, ticks_max = 0, 0

-- Stops a hook that runs for long, unless it catches errors; the run's own limits hold anyway.
local function tick()
  ticks = ticks + 1
  if ticks > ticks_max then error("it took longer than " .. kit.tostring(ticks_max) .. " ms", 0) end
end

local entering, context_given, returned

-- Called through gsub, across which no coroutine can yield: a hook that is left half way would
-- seem to run for ever.
local function enter()
  local fn, context = entering, context_given
  returned = fn(context)
end

local function is_open(hook)
  for i = 1, depth do
    if open[i] == hook then return true end
  end
  return false
end

-- Whether it ended well, what it gave or raised, and how long it took in about milliseconds.
local function run(hook, context)
  local mine, before, most = depth + 1, ticks, ticks_max
  local old, mask, count = gethook()
  open[mine], depth, ticks, ticks_max = hook, mine, 0, hook.timeout_ms
  entering, context_given, returned = hook.fn, context, nil
  sethook(tick, "", INSTRUCTIONS)
  local ok, problem = pcall(gsub, "x", "x", enter)
  if old then sethook(old, mask, count) else sethook() end
  local took, given = ticks, returned
  depth, ticks, ticks_max, returned = mine - 1, before + took, most, nil
  open[mine] = nil
  if ok then return true, given, took end
  if problem == "not enough memory" then error(problem, 0) end
  return false, problem, took
end

-- What was raised may be anything, and may raise again when it is looked at.
local function text_of(problem)
  if type(problem) == "string" then return sub(problem, 1, 500) end
  if kit.is_failure(problem) then
    local ok, text = pcall(kit.tostring, problem)
    if ok then return sub(text, 1, 500) end
  end
  return "it raised a " .. type(problem)
end

local reported = 0

-- Tells the host, which makes an event of it; few times, since each is one of the run's calls.
local function report(hook, event, text)
  if reported >= REPORTS_MAX then return end
  reported = reported + 1
  pcall(kit.raw_call, "llmspell.runtime.Hooks/Report", {
    event = event, hook = hook.id, point = hook.point, text = text,
  })
end

local function failed(hook, problem)
  local text = text_of(problem)
  hook.failed, hook.problem = hook.failed + 1, text
  local opened = breaker.failed(hook.breaker)
  if hook.failed == 1 then report(hook, "hook.failed", text) end
  if opened then report(hook, "hook.opened", text) end
  if hook.point ~= "EventHandlerError" then
    chain.tell("EventHandlerError", {hook = hook.id, hook_point = hook.point, message = text})
  end
end

local CONTINUE = {kind = "continue"}

-- The result of one hook, read; nil where it failed, which breaks nothing.
local function ask(hook, context, phase)
  hook.calls = hook.calls + 1
  local ok, given, took = run(hook, context)
  hook.took_ms = hook.took_ms + took
  if not ok then return failed(hook, given) end
  local result = CONTINUE
  if given ~= nil and given ~= "continue" then
    -- Looking at what was given may run the script's own metamethods.
    local read, found, wrong = pcall(results.read, given, phase)
    if not read then return failed(hook, found) end
    if not found then return failed(hook, wrong) end
    result = found
  end
  local one = hook.breaker
  if (took >= one.slow_ms or one.state ~= "closed") and breaker.succeeded(one, took) then
    report(hook, "hook.opened", "it was slow")
  end
  hook.results[result.kind] = (hook.results[result.kind] or 0) + 1
  return result
end

-- contexts -------------------------------------------------------------------------------------

-- What is behind a context; a hook that does not look at the data does not pay for them.
local behind = setmetatable({}, {__mode = "k"})
local LAZY = {}

function LAZY.data(context)
  local one = behind[context]
  return results.shown(one.subject, one.phase)
end

function LAZY.timestamp() return kit.now() end

-- The run's id, which its host's events and log lines have too.
function LAZY.correlation_id() return kit.run_id end

local Context = {}

function Context.__index(context, name)
  local make = LAZY[name]
  if not make then return nil end
  local value = make(context)
  context[name] = value
  return value
end

local current

local function context_of(point, phase, subject)
  local context = setmetatable({
    point = point, component_id = subject.component, operation = subject.operation or point,
    metadata = {phase = phase, attempts = subject.attempts}, language = "lua",
    parent_context = current,
  }, Context)
  behind[context] = {subject = subject, phase = phase}
  return context
end

-- asking ---------------------------------------------------------------------------------------

local PUT = {
  before = results.put_arguments, after = results.put_answer, error = results.put_message,
  custom = function(subject, data) subject.data = results.copy(data) end,
}

local TAKE = {}

-- Each gives the result that ends the point, nothing to go on, or false and what is wrong.

function TAKE.modified(result, subject, phase)
  local wrong = PUT[phase](subject, result.data)
  if wrong then return false, wrong end
end

function TAKE.replace(result, subject, phase)
  if phase == "custom" then
    subject.data = results.copy(result.data)
    return result
  end
  local wrong = results.put_answer(subject, result.data)
  if wrong then return false, wrong end
  return result
end

function TAKE.redirect(result, subject, phase)
  if phase == "custom" then
    if type(result.target) ~= "string" then return false, "a target here is a custom point's name" end
    return result
  end
  local wrong = results.put_target(subject, result.target)
  if wrong then return false, wrong end
  return result
end

-- Before a call it is how often to make it; afterwards, to make it again.
function TAKE.retry(result, subject, phase)
  if phase ~= "before" then return result end
  subject.retry = result
end

function TAKE.cache(result, subject, phase)
  local place, now = subject.method or subject.operation, breaker.now()
  if phase == "after" then
    results.keep(place, result.key, subject.answer, now + result.ttl_s)
    return
  end
  local found, value = results.kept(place, result.key, now)
  if not found then
    subject.cache = {place = place, key = result.key, expires = now + result.ttl_s}
    return
  end
  if phase == "custom" then subject.data = value else subject.answer = value end
  return {kind = "replace"}
end

function TAKE.fork(result)
  local ok, answer = pcall(kit.raw_call, "llmspell.runtime.Hooks/Fork", result)
  if not ok then return false, text_of(answer) end
end

function TAKE.cancel(result) return result end

-- What one hook gave, put into effect; the result that ends the point, or nil.
local function take(hook, result, subject, phase)
  local how = TAKE[result.kind]
  if not how then return nil end
  local ok, ending, wrong = pcall(how, result, subject, phase)
  if not ok then
    if ending == "not enough memory" then error(ending, 0) end
    return failed(hook, ending)
  end
  if ending == false then return failed(hook, wrong) end
  return ending
end

-- Asks the hooks of a point; gives the result that ends it and keeps the others from being asked.
function chain.consult(point, phase, subject)
  local hooks = chain.at[point]
  if not hooks or depth >= DEPTH_MAX then return nil end
  local outer, context = current, context_of(point, phase, subject)
  for i = 1, #hooks do
    local hook = hooks[i]
    if chain.by_id[hook.id] and not is_open(hook)
      and (not hook.filter or fits(hook.filter, subject)) then
      if not breaker.lets(hook.breaker) then
        hook.left_out = hook.left_out + 1
      else
        current = context
        local result = ask(hook, context, phase)
        current = outer
        local ending = result and take(hook, result, subject, phase)
        if ending then return ending end
        if result and result.kind == "modified" then context.data = nil end
      end
    end
  end
end

local SYSTEM = {type = "system", name = "run"}

-- Fires a point on which nothing hangs.
function chain.tell(point, data, component)
  if chain.at[point] then
    chain.consult(point, "notice", {data = data, component = component or SYSTEM})
  end
end

-- Whether hooks of a call made now would be asked.
function chain.listens() return depth < DEPTH_MAX end
