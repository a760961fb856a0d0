-- Template: finding one, knowing it, what it would cost, and executing one that asks no model.

-- Finding.
local listed = Template.list()
assert(#listed == 10 and #listed == #Template:list())
for i, template in ipairs(listed) do
  assert(template.id and template.name and template.description and template.version)
  assert(template.author and #template.requires > 0 and #template.tags > 0)
  assert(i == 1 or listed[i - 1].id < template.id)
end
local research = Template.list("research")
assert(#research == 2 and research[1].id == "knowledge-management")
assert(Template.search("citations", "Research")[2].id == "research-assistant")
assert(#Template.search("no such words") == 0)

-- Knowing.
local info = Template.info("code-review", true)
assert(info.metadata.id == "code-review" and info.source:find("Agent.builder", 1, true))
assert(Template.info("code_review").schema == nil)
local schema, by_name = Template.schema("content-generation"), {}
assert(schema.version == "1.0.0" and schema.result.properties.content)
for _, parameter in ipairs(schema.parameters) do by_name[parameter.name] = parameter end
assert(schema.parameters[1].name == "topic" and by_name.topic.required)
assert(by_name.max_iterations.param_type == "integer" and by_name.max_iterations.max == 10)
assert(by_name.content_type.allowed_values[1] == "article" and by_name.tone.default == "professional")
assert(by_name.session_id.default == nil and by_name.memory_enabled.default == true)
assert(by_name.context_budget.default == 2000 and by_name.provider_name)

-- Costing: sources × 500 + 3000 tokens; a model on one's own machine costs nothing.
local cost = Template.estimate_cost("research-assistant", {
  topic = "cats", max_sources = 4, model = "openai/no-such-model",
})
assert(cost.estimated_tokens == 5000 and cost.estimated_duration_ms > 0)
assert(math.abs(cost.estimated_cost_usd - 5000 * 0.10 / 1e6) < 1e-12 and cost.confidence > 0)
assert(Template.estimate_cost("research-assistant", {topic = "cats"}).estimated_cost_usd == 0)
assert(Template.estimate_cost("file-classification", {source_path = "x"}).estimated_tokens == 0)

-- Executing.
for name, text in pairs({
  ["notes.md"] = "# Notes", ["table.csv"] = "a,b\n1,2\n", ["letter.txt"] = "Invoice 7: amount due 5",
}) do
  if not Tool.execute("file-operations", {operation = "exists", path = "inbox"}).result.exists then
    Tool.execute("file-operations", {operation = "create_dir", path = "inbox"})
  end
  assert(Tool.execute("file-operations", {
    operation = "write", path = "inbox/" .. name, input = text,
  }).success)
end
local done = Template.execute("file-classification", {source_path = "inbox"})
assert(done.result_type == "structured" and done.result.dry_run and done.result.done == 0)
assert(done.result.counts.notes == 1 and done.result.counts.spreadsheets == 1)
assert(done.result.counts.invoices == 1 and #done.result.files == 3)
assert(done.metadata.template_id == "file-classification" and done.metadata.template_version)
assert(done.metadata.parameters.source_path == "inbox" and done.metadata.executed_at > 0)
assert(done.metrics.duration_ms > 0 and done.metrics.tokens_used == 0)
assert(done.metrics.cost_usd == 0 and done.metrics.agents_invoked == 0 and #done.artifacts == 0)

done = Template:execute("file-classification", {
  source_path = "inbox", action = "move", destination_base = "sorted", dry_run = false,
})
assert(done.result.done == 3)
assert(Tool.execute("file-operations", {
  operation = "read", path = "sorted/invoices/letter.txt",
}).result.input == "Invoice 7: amount due 5")

local kept = Template.execute("knowledge-management", {
  operation = "ingest", collection = "cats", content = "Cats sleep most of the day.",
  document_id = "cats",
})
assert(kept.result.chunks == 1)
local answered = Template.execute("knowledge-management", {
  operation = "query", collection = "cats", query = "How long do cats sleep?",
})
assert(answered.result.text:find("sleep most of the day", 1, true))
assert(#Template.execute("knowledge-management", {
  operation = "list", collection = "cats",
}).result.documents == 1)

-- Refusals.
local function refused(reason, ...)
  local ok, failure = pcall(Template.execute, ...)
  assert(not ok and failure.reason == reason, tostring(failure))
  return failure
end
assert(refused("TEMPLATE_NOT_FOUND", "code-revie").message:find("code-review", 1, true))
assert(refused("FIELD_REQUIRED", "code-review", {code_path = "x"}).metadata.field == "language")
assert(refused("FIELD_INVALID", "research-assistant", {topic = "ab"}).metadata.field == "topic")
assert(refused("FIELD_INVALID", "research-assistant", {topics = "cats"}).message:find("topic?"))
assert(tostring(refused("SCRIPT_FAILED", "knowledge-management", {
  operation = "query", collection = "cats",
})):find("Template execution failed: ", 1, true))
assert(not pcall(Template.execute) and not pcall(Template.schema, 5))

return "done"
