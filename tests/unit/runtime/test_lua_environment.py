"""Everything a script can reach, walked from its globals."""

import asyncio

import pytest
import pytest_asyncio

from services.runtime.pool import WorkerPool
from services.runtime.worker import vm
from tests.unit.runtime.running import Host, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALLOWED = {
    "_G": """
        assert collectgarbage error getmetatable ipairs load next pairs pcall print rawequal rawget
        rawlen rawset require select setmetatable tonumber tostring type xpcall
    """,
    "coroutine": "close create isyieldable resume running status wrap yield",
    "io": "write",
    "math": """
        abs acos asin atan ceil cos deg exp floor fmod log max min modf rad random randomseed sin
        sqrt tan tointeger type ult
    """,
    "os": "clock date difftime exit getenv time",
    "string": """
        byte char find format gmatch gsub len lower match pack packsize rep reverse sub unpack upper
    """,
    "table": "concat insert move pack remove sort unpack",
    "utf8": "char codepoint codes len offset",
    "Artifact": "delete get list query store store_file",
    "Config": "addAllowedPath get getDefaultEngine getLimits getPermissions getProvider getSection "
    "getSecurity getTools isFileAccessAllowed isNetworkAccessAllowed listProviders restoreSnapshot "
    "set setProvider setSecurity snapshot toJson",
    "Debug": "addAdvancedFilter addModuleFilter clearCaptured clearModuleFilters debug dump "
    "dumpCompact dumpVerbose dumpWithOptions error flameGraph getCapturedEntries getFilterSummary "
    "getLevel info isEnabled jsonReport log logWithData memorySnapshot memoryStats "
    "performanceReport profile recordEvent removeModuleFilter resetTimers setDefaultFilterEnabled "
    "setEnabled setLevel stackTrace stackTraceJson timer trace warn",
    "Logger": "debug error info trace warn",
    "Metrics": "all counter gauge get histogram increment observe reset time timer",
    "Replay": "create_comparator create_config create_modification",
    "Replay.schedules": "cron interval once",
    "Utils": "copy equals keys merge split trim values",
    "JSON": "decode encode parse query query_all stringify",
    "Streaming": "create yield",
    "RAG": "cleanup_scope configure configure_session create_session_collection create_tenant "
    "delete documents end_reembedding get_stats get_tenant_usage ingest ingest_batch "
    "list_providers reembed reembedding save search workflow_builder",
    "Event": "emit get_stats list_subscriptions publish receive subscribe unsubscribe",
    "Hook": "fire join list metrics points register stats unregister",
    "Session": "archive builder can_replay checkpoint checkpoints complete create delete fail get "
    "get_current get_replay_metadata journal list list_replayable load replay restore resume runs "
    "save set_current suspend",
    "State": "agent_get agent_list agent_set batch cleanup_backups clear copy copy_scope "
    "create_backup delete get get_migration_status get_schema_versions get_storage_usage increment "
    "list_backups list_keys load migrate move move_scope resolve "
    "restore_backup save set tool_get tool_list tool_set validate_backup workflow_get "
    "workflow_list workflow_set",
    "Tool": "categories discover execute exists get invoke list search",
    "Agent": "builder create create_child_context create_composite create_context "
    "create_from_template discover discover_by_capability get get_context_data get_details "
    "get_hierarchy get_info get_shared_memory list list_capabilities list_instances "
    "list_templates register registered remove_context set_shared_memory unregister "
    "update_context wrap_as_tool",
    "Workflow": "builder clear conditional debug enableDebug get isDebugEnabled list loop parallel "
    "rag register remove sequential setDefaultErrorHandler types",
    "Template": "estimate_cost execute info list schema search",
    "Provider": "get getCapabilities isAvailable list models test",
    "LocalLLM": "info list pull status",
}

WALK = """
local found, seen = {}, {}
local function walk(value, path)
  local kind = type(value)
  if kind == "function" then found[#found + 1] = path end
  if kind == "userdata" or kind == "thread" then error(path .. " is a " .. kind) end
  if kind ~= "table" or seen[value] then return end
  seen[value] = true
  for key, inner in next, value do
    walk(key, path .. ".<key>")
    walk(inner, path .. "." .. tostring(key))
  end
  walk(getmetatable(value), path .. ".<meta>")
end
-- Only what is in _G too.
for name, value in next, package.loaded do assert(_G[name] == value, name) end
seen[package.loaded] = true
walk(_G, "_G")
-- What comes back from calls is reachable too.
for name, value in next, {
  error = select(2, pcall(RAG.search)), json = JSON.parse('{"a":[1,{"b":null}]}'),
  search = RAG.search("q"), stats = RAG.get_stats(), now = os.date("*t"), args = ARGS, arg = arg,
  write = io.write(""),
} do walk(value, name) end
walk(getmetatable(""), "strings")
table.sort(found)
return found
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        yield made


async def test_nothing_but_the_allow_list_is_reachable(pool):
    """Every function has its name in the list, every name its function, and nothing is userdata."""
    ran = await run(pool, WALK, Host())
    assert ran.error is None, ran.error and ran.error.message
    expected = {
        f"_G.{name}" if owner == "_G" else f"_G.{owner}.{name}"
        for owner, names in ALLOWED.items()
        for name in names.split()
    }
    assert set(ran.value) == expected


async def test_no_lua_object_reaches_python():
    """The callback sees bytes only, whatever a script passes to whatever it can call."""
    seen = []

    def callback(*arguments):
        seen.append(arguments)
        return 1, b"\x80"

    _, prepare, go = vm.build(callback)
    source = b"""
      local hostile = {{}, print, coroutine.create(print), 1.5, nil, true, "\\xff"}
      for _, name in ipairs{"search", "ingest", "get_stats", "cleanup_scope", "list_providers"} do
        for i = 1, 7 do
          pcall(RAG[name], hostile[i]) pcall(RAG[name], "x", hostile[i])
          coroutine.wrap(function() pcall(RAG[name], hostile[i], hostile[i], hostile[i]) end)()
        end
      end
      for _, name in ipairs{"save", "load", "get", "set", "delete", "list_keys"} do
        for i = 1, 7 do
          pcall(State[name], hostile[i]) pcall(State[name], "x", hostile[i])
          pcall(State[name], "x", "y", hostile[i], hostile[i])
        end
      end
      for _, name in ipairs{"store", "get", "list", "query", "delete", "store_file"} do
        for i = 1, 7 do
          pcall(Artifact[name], hostile[i]) pcall(Artifact[name], "x", hostile[i])
          pcall(Artifact[name], "x", "y", hostile[i], hostile[i], hostile[i])
          pcall(Artifact[name], "x", "y", "z", "c", hostile[i])
        end
      end
      for i = 1, 7 do pcall(io.write, hostile[i]) pcall(print, hostile[i]) end
      return hostile
    """
    numbers = (100_000, 1 << 20, 64, 1000)
    prepare(source, b"n", b"\x80", False, *numbers, b"", 1, 2, b"")  # noqa: FBT003 - Lua's
    go()
    assert len(seen) > 50
    assert {tuple(map(type, arguments)) for arguments in seen} == {(bytes, bytes)}
    assert {operation for operation, _ in seen} <= {b"o", b"c", b"a", b"r", b"f"}


async def test_workers_of_one_second_differ(pool):
    """Random numbers of two workers forked together have nothing in common."""
    source = "local t = {} for i = 1, 20 do t[i] = math.random(1 << 40) end return t"
    runs = await asyncio.gather(*(run(pool, source) for _ in range(4)))
    numbers = [set(ran.value) for ran in runs]
    assert len(set.union(*numbers)) == 80


@pytest.mark.parametrize(
    "source",
    [
        "setmetatable(_G, {__index = error, __newindex = error}) RAG.search('q')",
        "setmetatable(_G, {__index = function() while true do end end}) RAG.search('q')",
        "debug = {traceback = error} RAG.search('q') State.get('x')",
        "_G.debug = {traceback = function() return 'spoofed' end} error('e', 0)",
        "local g = _G for k in pairs(g) do if k ~= 'RAG' then g[k] = nil end end RAG.search('q')",
        "string.format, table.concat, tostring, pcall = error, error, error, error RAG.search('q')",
        "for k in pairs(string) do string[k] = nil end RAG.search('q') State.get('x')",
        "local t = {} t[1] = t print(t) RAG.search('q')",
    ],
)
async def test_breaking_the_globals_breaks_only_the_script(pool, source):
    """Lupa and our own Lua use nothing that a script can replace."""
    ran = await run(pool, source, Host(), wall_s=5.0)
    assert ran.reason in {None, "SCRIPT_FAILED"}
    if ran.error:
        assert ran.error.message in {"demo.lua:1: e", "e"}
        assert "spoofed" not in ran.error.metadata["traceback"]


async def test_an_iteration_that_changes_its_table_is_an_error(pool):
    """Lua's own complaint, not the end of the process."""
    ran = await run(pool, "local t = {1} next(t, 'absent')")
    assert ran.reason == "SCRIPT_FAILED"


BOMBS = {
    "nested calls": "return " + "f(" * 30_000 + ")" * 30_000,
    "nested tables": "return " + "{" * 60_000 + "}" * 60_000,
    "nested blocks": "do " * 30_000 + "end " * 30_000,
    "many constants": "return {" + "1.5," * 60_000 + "}",
    "many locals": "local a\n" * 20_000,
    "long name": "x" * 200_000,
    "concatenations": "return " + "''.." * 50_000 + "''",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
async def test_the_parser_survives_its_bombs(pool, source):
    """A source made to hurt the compiler is an error or runs."""
    ran = await run(pool, source)
    assert ran.reason in {"SCRIPT_SYNTAX", "SCRIPT_FAILED", "RUN_MEMORY_LIMIT", None}


PATTERNS = {
    "recursion in a pattern": "return pcall(string.find, ('a'):rep(300000), ('a?'):rep(250000))",
    "recursion in gsub": "local f f = function(s) return s:gsub('.', f) end return pcall(f, 'x')",
    "recursion in metamethods": """
        local t = setmetatable({}, {})
        getmetatable(t).__index = function(s, k) return s[k .. 1] end
        return pcall(function() return t.x end)
    """,
    "recursion in coroutines": """
        local function f() return coroutine.wrap(f)() end return pcall(f)
    """,
    "recursion in pcall": "local function f() return pcall(f) end return f()",
    "recursion in sort": """
        local function f() table.sort({1, 2, 3}, f) end return pcall(f)
    """,
    "recursion in tostring": """
        local t = setmetatable({}, {__tostring = function(s) return tostring(s) end})
        return pcall(tostring, t)
    """,
    "a lying comparison": """
        local t = {} for i = 1, 500 do t[i] = i end
        return pcall(table.sort, t, function() return true end)
    """,
    "yield across the host": """
        return pcall(coroutine.wrap(function() ('x'):gsub('x', coroutine.yield) end))
    """,
}


@pytest.mark.parametrize("source", PATTERNS.values(), ids=PATTERNS)
async def test_recursion_of_any_kind_is_a_clean_error(pool, source):
    """C stack, Lua stack and pattern matcher stop with an error the script can catch."""
    ran = await run(pool, source, wall_s=10)
    assert ran.reason in {None, "RUN_MEMORY_LIMIT"}, ran.error
