-- Tool: what scripts of old look for in a result, tool by tool. It runs against a real toolbox.

-- A file: `text` and `content` are what it holds, `data` too where that is JSON.
local path = "results.json"
local r = Tool.invoke("file_operations", {operation = "write", path = path, content = '{"n": 5}'})
assert(r.success and r.text:find(path, 1, true) and r.status == "success")
r = Tool.invoke("file_operations", {operation = "read", path = path})
assert(r.text == '{"n": 5}' and r.content == r.text and r.data.n == 5)
assert(r.metadata.operation == "read" and r.metadata.response.result.input == r.text)
Tool.execute("file-operations", {operation = "write", path = "plain.txt", input = "plain [text"})
r = Tool.execute("file-operations", {operation = "read", path = "plain.txt"})
assert(r.text == "plain [text" and rawget(r, "data") == nil)
r = Tool.execute("file-operations", {operation = "list_dir", path = "."})
assert(r.text == r.message and #r.entries >= 2)
assert(Tool.execute("file-operations", {operation = "exists", path = "no.txt"}).result.exists == false)

-- What a tool does not do is an answer, with an error that reads as its message.
r = Tool.execute("calculator", {operation = "evaluate", expression = "1 / nonsense"})
assert(r.success == false and r.status == "error" and type(r.error.message) == "string")
assert(tostring(r.error) == r.error.message and ("why: " .. r.error) == "why: " .. r.error.message)
assert(r.message and JSON.parse(r._raw_text).error.message == r.error.message)
r = Tool.calculator:execute({input = "2 * 21"})
assert(r.success and r.error == nil and r.result.result == 42)
r = Tool.execute("file-operations", {operation = "write", path = "../out.txt", input = "x"})
assert(r.success == false and r.error.details.error_type == "security_violation")

-- Bare answers: `data` is the value, `text` its JSON.
r = Tool.execute("json-processor", {operation = "query", input = {items = {1, 2}}, query = ".items"})
assert(#r.data == 2 and r.data[2] == 2 and JSON.parse(r.text)[1] == 1)
r = Tool.execute("json_processor", {input = '{"name": "x"}', query = ".name"})
assert(r.text == "x" and r.data == "x" and r.result == "x")
r = Tool.execute("csv-analyzer", {operation = "analyze", input = "a,b\n1,2\n3,4\n"})
assert(r.data.row_count == 2 and r.row_count == 2 and r.metadata.response.success)
r = Tool.execute("uuid-generator", {operation = "validate", uuid = "nonsense"})
assert(r.data.valid == false and r.valid == false)

-- Others by the names that scripts use.
assert(#Tool.execute("hash-calculator", {operation = "hash", data = "x"}).hash == 64)
r = Tool.execute("text-manipulator", {operation = "uppercase", text = "loud"})
assert(r.result.result == "LOUD" and r.output == "LOUD" and r.text ~= nil)
r = Tool.execute("template-creator", {template = "Hi {{ name }}", context = {name = "you"}})
assert(r.rendered == "Hi you" and r.content == "Hi you" and r.output == "Hi you")
r = Tool.base64_encoder:execute({operation = "decode", input = "aGk="})
assert(r.decoded == "hi" and r.encoded == nil)

-- A result is a value like others: it can be written, changed and gone through.
r.extra = 1
assert(r.extra == 1 and JSON.parse(JSON.stringify(r)).result.output == "hi")
local seen = {}
for key in pairs(r) do seen[key] = true end
assert(seen.result and seen.success and not seen.decoded and not seen._raw_text)

return "done"
