"""Runs tests/scripts/*.lua, which hold their own asserts, and checks what they asked the host."""

import pytest
import pytest_asyncio

from services.common.context import CallContext
from services.runtime.facts import facts_of
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.model import RunInfo
from services.runtime.pool import WorkerPool
from services.runtime.runs import RunLimits
from tests.unit.runtime.running import SCRIPTS, Host, run
from tests.unit.runtime.tooling import open_toolbox, tool_bridge

CALLER = CallContext(tenant="acme", principal="k1", permissions=("state.read",))

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(tmp_path_factory):
    """The real tools, asked as a run asks."""
    async with open_toolbox(tmp_path_factory.mktemp("tenants")) as toolbox:
        yield tool_bridge(toolbox)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.lua")), ids=lambda path: path.stem)
async def test_script(pool, tools, path):
    """The script's own asserts hold."""
    host = tools if path.stem.startswith("tool") else Host(page_size=2)
    facts = facts_of(CALLER, RunLimits())
    source = path.read_text("utf-8")
    given = {"positional": ("one", ""), "named": {"name": "Ann", "count": "5"}}
    async with Hosting.of_none().run(host, RunInfo(CALLER)) as hooked:
        ran = await run(pool, source, hooked, name=path.name, facts=facts, **given)
    assert ran.error is None, ran.error and (ran.error.message, ran.error.metadata)
    assert ran.value == "done"


async def asked(pool, source):
    """Tenant and arguments of the calls that a script makes, without the method's package."""
    host = Host()
    ran = await run(pool, source, host)
    assert ran.error is None, ran.error and ran.error.message
    return [(call.method.partition("/")[2], call.tenant, call.args) for call in host.calls]


SEARCHES = {
    "RAG.search('q')": {},
    "RAG:search('q')": {},
    "RAG.search{query = 'q'}": {},
    "RAG:search{query = 'q', k = 3}": {"limit": 3},
    "RAG.search('q', {k = 5})": {"limit": 5},
    "RAG.search('q', {top_k = 5.0})": {"limit": 5},
    "RAG.search('q', {limit = 5, unknown = print})": {"limit": 5},
    "RAG.search('q', {scope = 'session', scope_id = 'x'})": {"scope": "session:x"},
    "RAG.search('q', {scope = 'session:x'})": {"scope": "session:x"},
    "RAG.search('q', {scope = 'drafts'})": {"scope": "custom:drafts"},
    "RAG.search('q', {collection = 'c', provider = 'p'})": {"collection_id": "c", "provider": "p"},
    "RAG.search('q', {threshold = 1})": {"score_threshold": 1.0},
    "RAG.search('q', {exact = true})": {"exactness": "EXACT"},
    "RAG.search('q', {exact = false})": {"exactness": "APPROXIMATE"},
    "RAG.search('q', {filters = {}})": {},
    "RAG.search('q', {mode = 'lexical'})": {"mode": "LEXICAL"},
    "RAG.search('q', {mode = 'keyword'})": {"mode": "LEXICAL"},
    "RAG.search('q', {mode = 'vector'})": {"mode": "DENSE"},
    "RAG.search('q', {mode = 'hybrid'})": {"mode": "HYBRID"},
    "RAG.search('q', {fusion = 'weighted', weights = {vector = 1, keyword = 3}})": {
        "mode": "HYBRID",
        "fusion": {"weighted": True, "dense_weight": 1.0, "lexical_weight": 3.0},
    },
    "RAG.search('q', {weights = {keyword = 0.5}})": {
        "mode": "HYBRID",
        "fusion": {"reciprocal_rank_k": 0, "dense_weight": 0.0, "lexical_weight": 0.5},
    },
    "RAG.search('q', {fusion = {method = 'rrf', k = 10}})": {
        "mode": "HYBRID",
        "fusion": {"reciprocal_rank_k": 10},
    },
    "RAG.search('q', {mmr = true})": {"diversity": {"strength": 0.5}},
    "RAG.search('q', {diversity = 0.7})": {"diversity": {"strength": 0.7}},
    "RAG.search('q', {mmr = {strength = 1, candidates = 20}})": {
        "diversity": {"strength": 1.0, "candidates": 20}
    },
    "RAG.search('q', {mmr = false})": {},
    "RAG.search('q', {event_time = {from = 1, to = '2024-01-01T00:00:00Z'}})": {
        "event_time": {"start_time": 1, "end_time": "2024-01-01T00:00:00Z"}
    },
    "RAG.search('q', {ingest_time = {5, 6}, as_of = 7})": {
        "ingest_time": {"start_time": 5, "end_time": 6},
        "as_of": 7,
    },
    "RAG.search('q', {min_recall = 0.9})": {"min_recall": 0.9},
    "RAG.configure{k = 7, mode = 'hybrid', scope = 'user:u'} RAG.search('q')": {
        "limit": 7,
        "mode": "HYBRID",
        "scope": "user:u",
    },
    "RAG.configure{k = 7, scope = 'user', scope_id = 'u'} RAG.search('q', {limit = 2, "
    "scope = 'agent'})": {"limit": 2, "scope": "agent:default"},
    "RAG.configure{k = 7} RAG.configure{} RAG.search('q')": {},
}


@pytest.mark.parametrize(("source", "expected"), SEARCHES.items())
async def test_search_arguments(pool, source, expected):
    """Each way of calling is one request."""
    default = {"text": "q", "scope": "global"}
    assert await asked(pool, source) == [("RetrieveDocuments", None, default | expected)]


@pytest.mark.parametrize(
    "options",
    ["tenant_id = 'x'", "scope = 'tenant:x'", "scope = 'tenant', scope_id = 'x'"],
)
async def test_another_tenant_is_asked_for_beside_the_arguments(pool, options):
    """A tenant is never a field of the request."""
    [(_, tenant, args)] = await asked(pool, f"RAG.search('q', {{{options}}})")
    assert (tenant, args) == ("x", {"text": "q", "scope": "global"})


def condition(field, **test):
    """A condition of the contract."""
    return {"condition": {"field": field, **test}}


FILTERS = {
    "{lang = 'en'}": condition("lang", equals="en"),
    "{n = 1, m = 2.5}": {
        "all": {"filters": [condition("m", equals=2.5), condition("n", equals=1)]}
    },
    "{year = {gte = 2000, lt = 2010}}": condition("year", range={"gte": 2000, "lt": 2010}),
    "{tag = {['in'] = {'a', 'b'}}}": condition("tag", **{"in": ["a", "b"]}),
    "{tag = {'a'}}": condition("tag", **{"in": ["a"]}),
    "{tag = {['in'] = {}}}": condition("tag", **{"in": []}),
    "{author = {exists = true}}": condition("author", exists=True),
    "{lang = {ne = 'en'}}": {"not": condition("lang", equals="en")},
    "{['not'] = {lang = 'en'}}": {"not": condition("lang", equals="en")},
    "{any = {{a = 1}, {b = 2}}}": {
        "any": {"filters": [condition("a", equals=1), condition("b", equals=2)]}
    },
    "{all = {}}": {"all": {"filters": []}},
    "{tag = {except = {'a'}}}": condition("tag", **{"except": ["a"]}),
    "{name = {prefix = 'a'}}": condition("name", prefix="a"),
    "{tags = {is_empty = true}}": condition("tags", is_empty=True),
    "{t = {after = 1, ['until'] = '2024-01-01T00:00:00Z'}}": condition(
        "t", time={"gt": 1, "lte": "2024-01-01T00:00:00Z"}
    ),
    "{t = {since = 1, before = 2}}": condition("t", time={"gte": 1, "lt": 2}),
    "{at_least = {count = 2, filters = {{a = 1}, {b = 2}, {c = 3}}}}": {
        "clauses": {
            "should": [condition(name, equals=n) for n, name in enumerate("abc", start=1)],
            "min_should": 2,
        }
    },
    "{nested = {field = 'cities', filter = {name = 'x', n = 1}}}": {
        "nested": {
            "field": "cities",
            "filter": {
                "all": {"filters": [condition("n", equals=1), condition("name", equals="x")]}
            },
        }
    },
    "{must = {{key = 'city', match = {value = 'x'}}}}": {
        "clauses": {"must": [condition("city", equals="x")]}
    },
    "{should = {{key = 'a', match = {any = {1, 2}}}, {key = 'b', match = {except = {3}}}}, "
    "must_not = {{is_empty = {key = 'c'}}, {is_null = {key = 'd'}}}, min_should = 2}": {
        "clauses": {
            "should": [condition("a", **{"in": [1, 2]}), condition("b", **{"except": [3]})],
            "must_not": [condition("c", is_empty=True), condition("d", exists=False)],
            "min_should": 2,
        }
    },
    "{min_should = {min_count = 1, conditions = {{a = 1}}}}": {
        "clauses": {"should": [condition("a", equals=1)], "min_should": 1}
    },
    "{must = {key = 'n', range = {gte = 1}}}": {
        "clauses": {"must": [condition("n", range={"gte": 1})]}
    },
    "{must = {{key = 't', range = {lt = '2024-01-01T00:00:00Z'}}}}": {
        "clauses": {"must": [condition("t", time={"lt": "2024-01-01T00:00:00Z"})]}
    },
    "{must = {{nested = {key = 'a', filter = {must = {{b = 1}}}}}, {must_not = {c = 1}}}}": {
        "clauses": {
            "must": [
                {
                    "nested": {
                        "field": "a",
                        "filter": {"clauses": {"must": [condition("b", equals=1)]}},
                    }
                },
                {"clauses": {"must_not": [condition("c", equals=1)]}},
            ]
        }
    },
    "{n = {gt = 1, exists = true}}": {
        "all": {"filters": [condition("n", exists=True), condition("n", range={"gt": 1})]}
    },
}


@pytest.mark.parametrize(("filters", "expected"), FILTERS.items())
async def test_filters_in_short_form(pool, filters, expected):
    """A short filter becomes the contract's tree, under either name."""
    source = f"RAG.search('q', {{filters = {filters}}})"
    [(_, _, args)] = await asked(pool, source)
    assert args["filter"] == expected
    [(_, _, again)] = await asked(pool, source.replace("{filters", "{metadata_filter"))
    assert again == args


async def test_documents_are_shaped_and_long_lists_split(pool):
    """Times go to their fields; 256 documents or 1 MiB of text are one call."""
    source = """
      RAG.ingest({content = "a", id = "i", metadata = {timestamp = 5, ttl_seconds = 60, k = {1}}},
        {chunking = {chunk_size = 100, overlap = 0, strategy = "tokens"}, scope = "user:u"})
      local many = {}
      for i = 1, 600 do many[i] = "text " .. i end
      local result = RAG.ingest(many, {collection = "c"})
      assert(result.documents_processed == 600 and result.vectors_created == 600)
      assert(result.total_tokens == 1800 and result.success and #result.document_ids == 600)
      RAG.ingest{documents = {("x"):rep(600000), {text = ("y"):rep(600000)}}}
    """
    calls = [args for _, _, args in await asked(pool, source)]
    metadata = {"timestamp": 5, "ttl_seconds": 60, "k": [1]}
    document = {
        "document_id": "i",
        "text": "a",
        "metadata": metadata,
        "event_time": 5,
        "ttl": 60,
    }
    assert calls[0] == {
        "scope": "user:u",
        "documents": [document],
        "chunking": {"unit": "TOKENS", "size": 100, "overlap": 0},
    }
    assert [len(args["documents"]) for args in calls[1:]] == [256, 256, 88, 1, 1]
    assert calls[1]["collection_id"] == "c"


async def test_the_rest_of_rag(pool):
    """Stats, clean-up and providers name their methods and scopes."""
    source = """
      RAG.get_stats() RAG.get_stats("session", "x") RAG.get_stats("tenant", "t")
      RAG.cleanup_scope("session", "x") RAG.cleanup_scope("tenant:t") RAG:list_providers()
    """
    assert await asked(pool, source) == [
        ("GetVectorStats", None, {}),
        ("GetVectorStats", None, {"scope": "session:x"}),
        ("GetVectorStats", "t", {}),
        ("DeleteScope", None, {"scope": "session:x"}),
        ("DeleteScope", "t", {"scope": "global"}),
        ("ListEmbeddingProviders", None, {}),
    ]


async def test_documents_are_deleted_and_listed(pool):
    """By their ids, a thousand a call; page by page, to the end or to a limit."""
    source = """
      assert(RAG.delete("a") == 2 and RAG.delete({"a", "b"}, {collection = "c"}) == 4)
      assert(RAG.delete({}) == 0)
      local many = {}
      for i = 1, 1500 do many[i] = "d" .. i end
      assert(RAG.delete(many, {scope = "user:u", tenant_id = "t"}) == 3000)
      assert(#RAG.documents() == 3 and RAG.documents()[3].id == "d2")
      assert(#RAG.documents{limit = 2, collection = "c"} == 2)
    """
    calls = await asked(pool, source)
    deletions = [(tenant, args) for name, tenant, args in calls if name == "DeleteDocuments"]
    assert deletions[0] == (None, {"scope": "global", "document_ids": ["a"]})
    assert deletions[1][1]["collection_id"] == "c"
    assert [len(args["document_ids"]) for _, args in deletions] == [1, 2, 1000, 500]
    assert {(tenant, args["scope"]) for tenant, args in deletions[2:]} == {("t", "user:u")}
    listings = [args for name, _, args in calls if name == "ListDocuments"]
    assert listings[-1] == {"scope": "global", "collection_id": "c", "page_size": 2}


async def test_sessions_name_scopes_and_times(pool):
    """A session's collection is in its scope; its end is the scope's."""
    source = """
      RAG.create_session_collection("s1", 60)
      RAG.create_session_collection("s1", 60, {collection = "c", provider = "p"})
      RAG.configure_session{session_id = "s1"}
      RAG.configure_session{session_id = "s1", vector_ttl = 5, ttl = 9}
    """
    ensure, configure = "EnsureDocumentCollection", "ConfigureScope"
    place = {"scope": "session:s1"}
    assert await asked(pool, source) == [
        (ensure, None, {**place, "ttl": 60}),
        (ensure, None, {**place, "ttl": 60, "collection_id": "c", "provider": "p"}),
        (configure, None, {**place, "record_ttl": 3600}),
        (configure, None, {**place, "record_ttl": 5, "ttl": 9}),
    ]


async def test_care_of_a_collection(pool):
    """Saving and re-embedding name the collection, and take the run's defaults."""
    source = """
      RAG.save() RAG.configure{collection = "c", tenant_id = "t"} RAG.save()
      RAG.reembed("openai") RAG.reembedding{collection = "d"} RAG.end_reembedding()
    """
    place = {"scope": "global", "collection_id": "c"}
    assert await asked(pool, source) == [
        ("CheckpointIndex", None, {"scope": "global", "collection_id": "documents"}),
        ("CheckpointIndex", "t", place),
        ("ReembedCollection", "t", {**place, "provider": "openai"}),
        ("GetReembedding", "t", {**place, "collection_id": "d"}),
        ("EndReembedding", "t", place),
    ]


async def test_documents_carry_times_and_chunking_of_their_own(pool):
    """An option of the document wins over its metadata, and that over the call's."""
    source = """
      local chunking = {strategy = "code", language = "go", size = 9}
      local metadata = {timestamp = 3, ttl_seconds = 4}
      RAG.ingest({{text = "a", event_time = 1, ttl = 2, metadata = metadata},
        {text = "b", metadata = {ttl_seconds = 4}}, "c"},
        {ttl = 5, chunking = chunking, batch_size = 2, provider = "p"})
    """
    calls = [args for _, _, args in await asked(pool, source)]
    assert [len(args["documents"]) for args in calls] == [2, 1]
    documents = [document for args in calls for document in args["documents"]]
    assert [document["ttl"] for document in documents] == [2, 4, 5]
    assert documents[0]["event_time"] == 1
    assert calls[0]["chunking"] == {"unit": "CODE", "language": "go", "size": 9}
    assert calls[0]["provider"] == "p"


SCOPES = {
    "'global'": "global",
    "''": "global",
    "nil": "global",
    "'agent:a'": "agent:a",
    "'custom'": "custom:default",
    "'workflow'": "workflow:default",
    "'foo'": "custom:foo",
    "'foo:bar'": "custom:foo:bar",
}


@pytest.mark.parametrize(("scope", "expected"), SCOPES.items())
async def test_state_scopes(pool, scope, expected):
    """What a script calls a scope, and what the host is asked for."""
    [(name, tenant, args)] = await asked(pool, f"State.save({scope}, ':k:x', {{a = 1}})")
    value = {"json": '{"a":1}'}
    assert (name, tenant) == ("SetState", None)
    assert args == {"scope": expected, "key": "k:x", "value": value}


async def test_state_keeps_its_time_to_live_and_tenant(pool):
    """A ttl is seconds; a tenant's scope goes beside the arguments."""
    source = "State.set('tenant:t', 'k', 1, {ttl = 1.5}) State.save('s', 'k', nil)"
    assert await asked(pool, source) == [
        ("SetState", "t", {"scope": "global", "key": "k", "value": {"json": "1"}, "ttl": 1.5}),
        ("DeleteState", None, {"scope": "custom:s", "key": "k"}),
    ]


async def test_state_marks_what_is_sensitive(pool):
    """The mark goes with the value, of each way to write."""
    source = """
      State.save("user:u", "k", 1, {sensitive = true})
      State.agent_set("a", "k", 1, {sensitive = true, ttl = 2})
      State.set("user:u", "k", 1, {sensitive = false})
    """
    marked = {"json": "1", "sensitive": True}
    calls = await asked(pool, source)
    assert [args.get("ttl") for _, _, args in calls] == [None, 2, None]
    assert [args["value"] for _, _, args in calls] == [
        marked, marked, {"json": "1", "sensitive": False},
    ]  # fmt: skip


BATCH = """
  local done = State.batch{
    {check = "k", absent = true}, {check = ":l", scope = "user:u", revision = 0},
    {set = "k", value = {a = 1}, ttl = 2, sensitive = true}, {increment = "n"},
    {increment = "n", by = "0.10", scope = "workflow:w"}, {increment = "n", by = 0.5},
    {delete = "d"},
  }
  assert(done.revision == 4 and done.deleted_count == 1)
  assert(done.sums[1] == 3 and done.sums[2] == "0.3" and done.sums[3] == 1.5 and done.sums[4] == 0)
"""


async def test_state_makes_batches(pool):
    """Each part becomes a check or a write, in order."""
    ((name, tenant, args),) = await asked(pool, BATCH)
    assert (name, tenant) == ("BatchState", None)
    assert args["checks"] == [
        {"scope": "global", "key": "k", "precondition": {"absent": True}},
        {"scope": "user:u", "key": "l", "precondition": {"revision": 0}},
    ]
    value = {"json": '{"a":1}', "sensitive": True}
    assert args["writes"] == [
        {"scope": "global", "key": "k", "set": value, "ttl": 2},
        {"scope": "global", "key": "n", "increment": {"int_delta": 1}},
        {"scope": "workflow:w", "key": "n", "increment": {"decimal_delta": "0.10"}},
        {"scope": "global", "key": "n", "increment": {"double_delta": 0.5}},
        {"scope": "global", "key": "d", "delete": True},
    ]


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ("5", "parts"),
        ("{5}", "parts[1]"),
        ("{{}}", "parts[1]"),
        ("{{value = 1}}", "parts[1]"),
        ("{{set = 'k', value = 1}, {set = 'k', delete = 'k'}}", "parts[2]"),
        ("{{set = 'k', valu = 1}}", "parts[1].valu"),
        ("{{set = 'k', value = 1, ttl = 0}}", "parts[1].ttl"),
        ("{{check = 'k'}}", "parts[1]"),
        ("{{check = 'k', absent = true, present = true}}", "parts[1]"),
        ("{{increment = 'k', by = {}}}", "by"),
        ("{{delete = 'a'}, {delete = 'b', scope = 'tenant:t'}}", "parts[2].scope"),
    ],
)
async def test_a_wrong_batch_is_refused(pool, parts, field):
    """The part that is wrong is named, and nothing is asked."""
    ran = await run(
        pool, f"local ok, e = pcall(State.batch, {parts}) return ok, e.reason, e.metadata.field"
    )
    assert ran.value == [False, "FIELD_INVALID", field]


async def test_a_call_s_arguments_are_limited_in_lua(pool):
    """What cannot be sent is an error in the script, with the place named."""
    ran = await run(
        pool,
        """
        local ok, e = pcall(RAG.ingest, {content = "x", metadata = {a = {b = print}}})
        local ok2, e2 = pcall(RAG.ingest, {content = ("x"):rep(3000000)})
        local t = {} t.t = t
        local ok3, e3 = pcall(RAG.ingest, {content = "x", metadata = t})
        local ok4, e4 = pcall(RAG.ingest, {content = "x", metadata = {x = 0/0}})
        return {e.message, e2.message, e3.message, e4.message}, e.reason, e.code
        """,
        Host(),
    )
    messages, reason, code = ran.value
    place = "call.args.documents[1].metadata"
    assert messages[0] == f"{place}.a.b is a function, which cannot leave the script."
    assert "the limit is 2093056" in messages[1]
    assert messages[2] == f"{place}.t contains itself ({place}.t → {place})."
    assert messages[3] == f"{place}.x is not a finite number."
    assert (reason, code) == ("FIELD_INVALID", "INVALID_ARGUMENT")
