-- Workflow: every function, builder method and instance method, each doing what its name says.

local function fails(reason, fn, ...)
  local ok, failure = pcall(fn, ...)
  assert(not ok, "it did not fail")
  assert(failure.reason == reason, tostring(failure))
  return failure
end

local function same(a, b) return JSON.stringify(a) == JSON.stringify(b) end

-- sequential: tools, functions, interpolation, conditions, compensation -------------------------

local seen = {}
local w = Workflow.sequential{
  name = "sum_up", description = "Adds.", inputs = {a = {type = "number"}, b = true},
  shared_data = {factor = 2},
  steps = {
    {name = "add", type = "tool", tool = "calculator", input = {input = "{{inputs.a}} + {{inputs.b}}"},
      save_as = "sum"},
    {name = "double", type = "function", input = {n = "{{steps.add.output.result}}", by = "{{shared.factor}}"},
      fn = function(given, context)
        seen.path = context.path
        return given.n * given.by
      end},
    {name = "left_out", tool = "calculator", input = {input = "1"}, condition = "shared.factor > 5"},
    {name = "say", type = "tool", tool = "text-manipulator",
      input = {operation = "uppercase", input = "sum {{steps.double.output}}"}},
  },
}
assert(w.type == "sequential" and w.name == "sum_up" and w.id:find("^workflow_"))
local info = w:get_info()
assert(info.id == w.id and info.name == "sum_up" and info.type == "sequential")
local checked = w:validate()
assert(checked.valid and checked.workflow_id == w.id and #checked.errors == 0, tostring(checked.errors[1]))

local before, after
assert(w:on_before_execute(function(told)
  before = told.input.a
  return {a = told.input.a, b = 4}
end).hook_type == "before_execute")
assert(w:on_after_execute(function(result) after = result.success end).workflow_id == w.id)
assert(w:get_execution_id() == nil)
local r = w:execute{a = 3}
assert(r.success and r.status == "completed" and r.text ~= "")
assert(before == 3 and after == true)
assert(r.outputs.add.result == 7.0 and r.outputs.double == 14 and seen.path == "double")
assert(r.outputs.say.result == "SUM 14", JSON.stringify(r.outputs.say))
assert(r.output.result == "SUM 14")
assert(#r.media == 0 and #r.tool_calls == 0 and r.transfer_to == nil)
local extra = r.metadata.extra
assert(extra.workflow_type == "sequential" and extra.workflow_name == "sum_up")
assert(extra.execution_id == r.execution_id and extra.workflow_id == w.id)
assert(extra.total_steps == 4 and extra.failed_steps == 0, JSON.stringify(extra))
assert(r.metadata.execution_time_ms >= 0 and r.spent.cost_usd == 0)
assert(#r.steps == 4 and r.steps[3].status == "skipped" and r.steps[1].type == "tool")
assert(r.shared_data.sum.result == 7.0)

assert(w:get_execution_id() == r.execution_id)
assert(State.workflow_get(r.execution_id, "double") == 14 and State.workflow_get(w.id, "double") == 14)
assert(same(State.workflow_list(r.execution_id), {"add", "double", "left_out", "say"}))
assert(State.workflow_get(r.execution_id, "nothing") == nil)
assert(w:get_output("double") == 14 and w:get_output("nothing") == nil)
assert(w:get_all_outputs().double == 14)
assert(same(w:list_outputs(), {"add", "double", "say"}), JSON.stringify(w:list_outputs()))
local metrics = w:get_metrics()
assert(metrics.executions_total == 1 and metrics.executions_succeeded == 1 and metrics.steps_skipped == 1)
assert(metrics.last_duration_ms > 0 and metrics.average_duration_ms == metrics.total_duration_ms)
local debugged = w:debug()
assert(debugged.last_status == "completed" and #debugged.steps == 4)
w:set_state("mark", {n = 1})
assert(w:get_state("mark").n == 1 and w:get_state("none") == nil)
w:set_shared_data("factor", 10)
assert(w:get_shared_data("factor") == 10)
assert(w:execute{a = 3}.outputs.double == 70)
local heard = Event.subscribe("surface.workflow")
assert(same(w:emit("surface.workflow", {n = 5}),
  {success = true, workflow_id = w.id, event_name = "surface.workflow"}))
assert(Event.receive(heard, 2000).data.n == 5)
assert(w:clear_outputs().deleted == 4 and w:get_output("add") == nil and #w:list_outputs() == 0)

assert(w:estimate_cost{a = 1}.most.cost_usd == 0)
local asking = Workflow.sequential{name = "asking", steps = {
  {name = "ask", agent = Agent.create{name = "echoes", model = "scripted/echo"}, input = "{{inputs.question}}"},
}}
local estimate = asking:estimate_cost{question = "how much?"}
assert(estimate.likely.model_calls >= 1 and estimate.confidence > 0, JSON.stringify(estimate))
r = asking:execute{question = "how much?"}
assert(r.output:find("how much?", 1, true) and r.spent.model_calls == 1)
assert(r.metadata.extra.agent_outputs.ask == r.output)

-- failures carry what was done ------------------------------------------------------------------

local undone, handled = nil, {}
local failing = Workflow.sequential{
  name = "failing", rollback = true,
  steps = {
    {name = "first", fn = function() return "made" end, input = {},
      compensation = {fn = function(given) undone = given.of end, input = {of = "{{steps.first.output}}"}}},
    {name = "second", type = "custom", ["function"] = "always_fail", parameters = {message = "no luck"}},
    {name = "third", fn = function() error("never") end, input = {}},
  },
}
Workflow.setDefaultErrorHandler(function(failure, workflow) handled.default = workflow.name .. failure.reason end)
local failure = fails("WORKFLOW_STEP_FAILED", failing.execute, failing)
assert(failure.step == "second" and failure.status == "failed", JSON.stringify(failure.metadata))
assert(failure.outputs.first == "made" and tostring(failure):find("no luck"), tostring(failure))
assert(undone == "made" and handled.default == "failingWORKFLOW_STEP_FAILED")
assert(failing:on_error(function(raised) handled.own = raised.step end).hook_type == "on_error")
handled.default = nil
fails("WORKFLOW_STEP_FAILED", failing.execute, failing)
assert(handled.own == "second" and handled.default == nil)
Workflow.setDefaultErrorHandler(nil)
assert(failing:get_metrics().executions_failed == 2)

local going_on = Workflow.sequential{
  name = "going_on", error_strategy = "continue",
  steps = {
    {name = "bad", type = "custom", ["function"] = "fail"},
    {name = "good", fn = function() return 1 end, input = {}, condition = {type = "step_failed", step = "bad"}},
  },
}
r = going_on:execute()
assert(not r.success and r.status == "partially_completed" and r.outputs.good == 1)

local tries = 0
r = Workflow.sequential{name = "again", steps = {{
  name = "third_time", retry = {max_attempts = 3, delay_ms = 1}, input = {},
  fn = function()
    tries = tries + 1
    if tries < 3 then error("not yet") end
    return tries
  end,
}}}:execute()
assert(r.output == 3 and r.steps[1].attempts == 3)

-- parallel --------------------------------------------------------------------------------------

local p = Workflow.parallel{name = "both", max_concurrency = 2, branches = {
  {name = "left", steps = {{name = "l", tool = "calculator", input = {input = "1 + 1"}}}},
  {name = "right", steps = {{name = "r", fn = function() return "R" end, input = {}}}},
}}
r = p:execute()
assert(r.success and r.metadata.extra.total_branches == 2 and r.metadata.extra.successful_branches == 2)
assert(p:get_output("left/l").result == 2.0 and p:get_output("right/r") == "R")

-- conditional -----------------------------------------------------------------------------------

local function choice(condition)
  return Workflow.conditional{name = "choice", shared_data = {color = "red"}, branches = {
    {name = "yes", condition = condition, steps = {{name = "y", fn = function() return "yes" end, input = {}}}},
  }, default_branch = {steps = {{name = "n", fn = function() return "no" end, input = {}}}}}:execute().output
end
for _, condition in ipairs{
  true, "always", {type = "always"}, {type = "shared_data_equals", key = "color", value = "red"},
  {type = "shared_data_exists", key = "color"}, "shared.color == 'red'", {shared_data_exists = "color"},
  {type = "and", conditions = {true, "shared.color == 'red'"}},
  {type = "or", conditions = {false, true}}, {type = "not", condition = false},
  function() return true end,
} do
  assert(choice(condition) == "yes", type(condition) == "function" or JSON.stringify(condition))
end
for _, condition in ipairs{
  "never", {type = "never"}, {type = "shared_data_equals", key = "color", value = "blue"},
  {type = "shared_data_exists", key = "size"}, function() return false end,
} do
  assert(choice(condition) == "no")
end
assert(choice(false) == "no")

-- loops -----------------------------------------------------------------------------------------

local counted = Workflow.loop{name = "count", iterator = {range = {start = 1, ["end"] = 5}}, body = {
  {name = "square", fn = function(given) return given.n * given.n end, input = {n = "{{loop_value}}"}},
}}
r = counted:execute()
assert(same(r.output, {1, 4, 9, 16}), JSON.stringify(r.output))
assert(r.metadata.extra.total_iterations == 4 or r.metadata.extra.completed_iterations == 4)

r = Workflow.loop{name = "over", iterator = {collection = {"a", "b", "c"}}, aggregation = {last_n = 2},
  break_conditions = {{type = "shared_data_equals", key = "loop_value", value = "b"}},
  body = {{name = "upper", tool = "text-manipulator",
    input = {operation = "uppercase", input = "{{loop_value}}"}}}}:execute()
assert(#r.output == 2 and r.metadata.extra.break_reason ~= nil, JSON.stringify(r.metadata.extra))

local left = 3
r = Workflow.loop{name = "while_left", iterator = {while_condition = function() return left > 0 end},
  body = {{name = "take", fn = function() left = left - 1 return left end, input = {}}}}:execute()
assert(same(r.output, {2, 1, 0}))

-- nested, with functions that share data ---------------------------------------------------------

local inner = Workflow.sequential{name = "inner", steps = {
  {name = "twice", fn = function(given) return given.n * 2 end, input = {n = "{{inputs.n}}"}},
}}
local outer
outer = Workflow.sequential{name = "outer", steps = {
  {name = "share", fn = function() outer:set_shared_data("word", "hello") return 21 end, input = {}},
  {name = "nested", type = "workflow", workflow = inner, input = {n = "{{steps.share.output}}"}},
  {name = "by_name", type = "workflow", workflow = "inner", input = {n = 1}},
  {name = "call", type = "call", method = "StateService/SetState",
    request = {scope = "custom:surface", key = "word", value = {json = "\"{{shared.word}}\""}}},
  {name = "sum", type = "custom", ["function"] = "aggregation",
    parameters = {input = {1, 2, "{{steps.nested.output}}"}, type = "sum"}},
}}
r = outer:execute()
assert(r.outputs.sum == 45, JSON.stringify(r.outputs))
assert(State.load("custom:surface", "word") == "hello")
assert(outer:get_output("nested/twice") == 42)

-- functions of old ------------------------------------------------------------------------------

r = Workflow.sequential{name = "old", steps = {
  {name = "transform", type = "custom", ["function"] = "data_transform",
    parameters = {input = {3, 1, 2}, operation = "sort"}},
  {name = "check", type = "custom", ["function"] = "validation",
    parameters = {input = {n = 5}, required = {"n"}, fields = {n = {type = "number", max = 3}}}},
  {name = "wait", type = "custom", ["function"] = "delay", parameters = {ms = 5}},
  {name = "sleep", type = "custom", ["function"] = "sleep", parameters = {ms = 1}},
  {name = "fine", type = "custom", ["function"] = "success", parameters = {a = 1}},
}}:execute()
assert(same(r.outputs.transform, {1, 2, 3}) and r.outputs.check.valid == false)
assert(r.outputs.wait.waited_ms == 5 and r.outputs.fine.a == 1)

-- the builder -----------------------------------------------------------------------------------

local function builder(name) return Workflow.builder():name(name):description("Built.") end
r = builder("b_seq"):sequential():error_strategy("fail_fast"):timeout_ms(20000)
  :add_step{name = "one", fn = function() return 1 end, input = {}}:build():execute()
assert(r.output == 1)
local b = builder("b_cond"):conditional():condition{type = "shared_data_equals", key = "go", value = true}
  :add_then_step{name = "t", fn = function() return "then" end, input = {}}
  :add_else_step{name = "e", fn = function() return "else" end, input = {}}:build()
assert(b:execute().output == "else")
b:set_shared_data("go", true)
assert(b:execute().output == "then")
r = builder("b_branch"):conditional()
  :add_branch({type = "never"}, {{name = "no", fn = function() return "no" end, input = {}}})
  :add_branch("always", {{name = "yes", fn = function() return "yes" end, input = {}}}):build():execute()
assert(r.output == "yes")
local function body() return {name = "v", fn = function(given) return given.v end, input = {v = "{{loop_value}}"}} end
assert(same(builder("b_range"):loop():with_range{start = 1, ["end"] = 6, step = 2}:add_step(body()):build():execute().output, {1, 3, 5}))
assert(same(builder("b_list"):loop_workflow():with_collection{"x", "y"}:add_step(body()):build():execute().output, {"x", "y"}))
local index = {name = "i", fn = function(given) return given.i end, input = {i = "{{iteration}}"}}
assert(#builder("b_while"):loop():with_while("true"):max_iterations(2):add_step(index):build():execute().output == 2)
local rounds = 0
r = builder("b_fn"):loop():loop_condition(function() rounds = rounds + 1 return rounds < 3 end):add_step(index):build():execute()
assert(#r.output == 2)
r = builder("b_par"):parallel():max_concurrency(2):add_branch("one", {{name = "x", fn = function() return 1 end, input = {}}})
  :add_step{name = "two", fn = function() return 2 end, input = {}}:build():execute()
assert(r.metadata.extra.total_branches == 2)
local templated = builder("b_template"):sequential():add_template_step("sort_files", "file-classification", {source_path = "."}):build()
assert(templated:get_info().definition.sequential.steps[1].template.template_id == "file-classification")
fails("FIELD_REQUIRED", function() Workflow.builder():sequential():build() end)

-- what is wrong is named ------------------------------------------------------------------------

assert(fails("FIELD_INVALID", Workflow.sequential, {name = "x", steps = {{name = "s", tool = "t", inptu = {}}}})
  .metadata.nearest == "input")
fails("FIELD_INVALID", Workflow.sequential, {name = "x", steps = {{name = "s", type = "tul"}}})
fails("FIELD_REQUIRED", Workflow.loop, {name = "x", body = {}})
local wrong = Workflow.sequential{name = "wrong", steps = {
  {name = "a", tool = "calculator", input = {input = "{{steps.b.output}}"}},
  {name = "b", tool = "no-such-tool"},
}}:validate()
assert(not wrong.valid and #wrong.errors >= 2, JSON.stringify(wrong))
assert(tostring(wrong.errors[1]):find("a", 1, true))

-- the registry ----------------------------------------------------------------------------------

assert(same(Workflow.types(), {"sequential", "conditional", "loop", "parallel"}))
local id = Workflow.register("sequential", {name = "kept", steps = {
  {name = "add", tool = "calculator", input = {input = "{{inputs.n}} + 1"}},
}}, {replace = true})
assert(id == "kept")
fails("FIELD_INVALID", Workflow.register, counted)
Workflow.clear()
local listed = {}
for _, one in ipairs(Workflow.list()) do listed[one.name] = one.type end
assert(listed.kept == "registered" and listed.sum_up == nil)
assert(Workflow.get("kept"):execute{n = 1}.output.result == 2.0)
assert(Workflow.get("loop").type == "loop" and Workflow.get("nowhere") == nil)
assert(Workflow.remove("kept") == true and Workflow.get("kept") ~= nil == false)
Workflow.clear()
local again = Workflow.sequential{name = "listed", steps = {}}
assert(#Workflow.list() >= 1 and Workflow.get(again.id) == again)
assert(Workflow.remove(again.id) and Workflow.get(again.id) == nil)

-- debugging, hooks ------------------------------------------------------------------------------

assert(Workflow.isDebugEnabled() == false)
Workflow.enableDebug(true)
assert(Workflow.isDebugEnabled() and Workflow.debug().enabled)
Workflow.enableDebug(false)

local points = {}
for _, point in ipairs{"BeforeWorkflowStart", "BeforeWorkflowStage", "AfterWorkflowStage",
  "WorkflowStageTransition", "WorkflowCheckpoint", "AfterWorkflowComplete", "WorkflowError",
  "WorkflowRollback"} do
  Hook.register(point, function(context)
    points[point] = (points[point] or 0) + 1
    if point == "BeforeWorkflowStart" and context.component_id.name == "hooked" then
      local data = context.data
      data.inputs.n = 5
      return {type = "modified", data = data}
    end
  end)
end
local hooked = Workflow.sequential{name = "hooked", steps = {
  {name = "a", fn = function(given) return given.n end, input = {n = "{{inputs.n}}"}},
  {name = "b", tool = "calculator", input = {input = "{{steps.a.output}} * 2"}},
}}
local events = {}
r = hooked:execute({n = 1}, {on_event = function(event) events[#events + 1] = event.type end})
assert(r.outputs.b.result == 10.0)
assert(points.BeforeWorkflowStart == 1 and points.AfterWorkflowComplete == 1 and points.WorkflowError == nil)
assert(points.BeforeWorkflowStage == 2 and points.AfterWorkflowStage == 2, JSON.stringify(points))
assert(points.WorkflowStageTransition == 1 and points.WorkflowCheckpoint == 2)
assert(#events == 4 and events[1] == "step_started")
fails("WORKFLOW_STEP_FAILED", failing.execute, failing)
assert(points.WorkflowError == 1 and points.WorkflowRollback == 1)

-- documents -------------------------------------------------------------------------------------

for _, made in ipairs{Workflow.rag(), RAG.workflow_builder()} do
  local rag = made:name("docs"):with_vector_storage{collection = "surface"}
    :with_embedding_generation("local"):with_document_ingestion{chunking = {strategy = "sentences", chunk_size = 200}}
    :with_retrieval{k = 1}:build()
  r = rag:execute{documents = {{id = "sky", content = "The sky is blue."}, "Grass is green."}, query = "color of the sky"}
  assert(r.success and r.outputs.retrieve.passages[1].document_id == "sky", JSON.stringify(r.outputs))
end

return "done"
