"""The blocking client against servers of the contract."""

from array import array
from datetime import UTC, datetime

import pytest
from llmspell import (
    CheckItem,
    Conflict,
    DeleteItem,
    Document,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Record,
    RunLimits,
    RunLog,
    RunMetrics,
    RunOutput,
    RunResult,
    RunStarted,
    SetItem,
    Unauthenticated,
)
from llmspell.client import Client
from llmspell.v1 import rag_pb2, vector_pb2

from tests.fake_deployment import KEY, REQUEST_ID


def test_state_round_trip(client):
    """What is set is got, with its revision and encoding; what is deleted is gone."""
    revision = client.set_state("a", {"x": [1, 2.5]}, scope="user:anna", ttl_s=60)
    item = client.get_state("a", scope="user:anna")
    assert (item.key, item.value, item.encoding) == ("a", {"x": [1, 2.5]}, "json")
    assert item.revision == revision
    assert item.expire_time == datetime(2023, 11, 14, 22, 14, 20, tzinfo=UTC)
    assert client.get_state("a") is None
    assert client.delete_state("a", scope="user:anna") is True
    assert client.delete_state("a", scope="user:anna") is False


def test_tenants_do_not_meet(client):
    """The tenant travels with the call; another one's items are not seen."""
    client.set_state("a", 1)
    other = client.with_options(tenant="globex")
    assert other.get_state("a") is None
    assert client.get_state("a").value == 1


def test_state_conditions(client):
    """A condition that does not hold is a Conflict; revision 0 is a condition too."""
    revision = client.set_state("a", 1, if_absent=True)
    client.set_state("a", 2, if_revision=revision)
    for condition in ({"if_absent": True}, {"if_revision": revision}, {"if_revision": 0}):
        with pytest.raises(Conflict) as caught:
            client.set_state("a", 3, **condition)
        assert caught.value.metadata == {"key": "a"}
    with pytest.raises(Conflict):
        client.set_state("b", 1, if_present=True)
    assert client.get_state("a").value == 2


def test_state_takes_one_condition(client):
    """Two conditions at once are a mistake."""
    with pytest.raises(InvalidArgument, match="at most one"):
        client.set_state("a", 1, if_absent=True, if_revision=3)


def test_state_list_goes_through_its_pages(client, deployment):
    """A list of five comes in order from three pages, and only as they are needed."""
    for key in ("k3", "k1", "k2", "k5", "k4", "other"):
        client.set_state(key, key)
    items = client.list_state("k", keys_only=True)
    assert deployment.calls["ListState"] == 0
    assert next(items).key == "k1"
    assert deployment.calls["ListState"] == 1
    assert [item.key for item in items] == ["k2", "k3", "k4", "k5"]
    assert deployment.calls["ListState"] == 3
    assert client.list_state("k").__next__().value == "k1"


def test_state_increment_keeps_the_kind(client):
    """A whole number stays whole."""
    assert client.increment_state("n") == 1
    assert repr(client.increment_state("n", -2)) == "-2"
    assert repr(client.increment_state("n", 0.5)) == "0.5"
    with pytest.raises(InvalidArgument, match="delta"):
        client.increment_state("n", 2**63)


def test_state_batch(client, deployment):
    """Checks and writes keep their order and their conditions."""
    done = client.batch(
        [CheckItem("a", revision=0), SetItem("b", "t", text=True, ttl_s=1), DeleteItem("c")]
    )
    assert done.deleted_count == 1
    request = deployment.requests[-1]
    assert request.checks[0].precondition.WhichOneof("kind") == "revision"
    assert [write.WhichOneof("write") for write in request.writes] == ["set", "delete"]
    assert request.writes[0].set.text == "t"


def test_state_check_must_say_what(client):
    """A check without a condition would always hold; it is refused."""
    with pytest.raises(InvalidArgument, match="'a'"):
        client.batch([CheckItem("a")])


def test_vector_calls(client, deployment):
    """Collections and records go and come with all their fields."""
    made = client.create_collection("c", 3, metric="l2", scope="user:anna")
    assert (made.collection_id, made.scope, made.dimension) == ("c", "user:anna", 3)
    assert (made.metric, made.embedding, made.create_time) == ("l2", None, None)
    records = [Record("r", [1, 2, 3], {"lang": "en"}, "text", ttl_s=5), Record(vector=[0, 0, 1])]
    assert client.upsert("c", records) == ["r", "made-1"]
    sent = deployment.requests[-1].records[0]
    assert (sent.text, sent.ttl.seconds, len(sent.vector.f32)) == ("text", 5, 12)
    found = client.get_vectors("c", ["a", "absent", "b"])
    assert [record.record_id for record in found] == ["a", "b"]
    assert (found[0].metadata, found[0].revision) == ({"lang": "en"}, 3)
    assert [record.record_id for record in client.list_vectors("c")] == ["a", "b", "c"]
    assert [one.collection_id for one in client.list_collections()] == ["a", "b", "c"]
    assert client.delete_vectors("c", ["a", "b"]) == 2
    kept = client.get_collection("c", scope="user:anna")
    assert (kept.scope, kept.metric, kept.embedding.model) == ("user:anna", "dot", "m")
    assert (client.delete_collection("c"), client.delete_scope("user:anna")) == (7, 8)
    assert client.stats("user:anna").record_count == 21
    assert deployment.requests[-1].scope == "user:anna"
    assert client.stats().record_count == 21
    assert deployment.requests[-1].scope == ""


@pytest.mark.parametrize(("metric", "dimension"), [("euclid", 3), ("cosine", -1), ("l2", 2**32)])
def test_collection_mistakes(client, metric, dimension):
    """An unknown metric, or a dimension that cannot travel, is refused."""
    with pytest.raises(InvalidArgument, match=r"metric|dimension"):
        client.create_collection("c", dimension, metric=metric)


def test_record_must_have_a_vector(client):
    """A record without a vector is named by its place."""
    with pytest.raises(InvalidArgument, match=r"records\[1\]\.vector"):
        client.upsert("c", [Record("a", [1]), Record("b")])


def test_search(client, deployment):
    """A search carries its settings and answers like a list."""
    found = client.search(
        "c", [1, 2], 3, filter={"lang": "en"}, threshold=0.5, exact=True, with_vectors=True
    )
    assert len(found) == 1
    assert found[0].metadata == {"name": "itself", "year": 1999}
    assert found[0].vector == array("f", [1, 2])
    assert (found.exact, found.revision, [hit.record_id for hit in found]) == (True, 5, ["r1"])
    options = deployment.requests[-1].options
    assert (options.limit, options.score_threshold) == (3, 0.5)
    assert options.exactness == vector_pb2.EXACTNESS_EXACT
    assert (options.mask.vector, options.mask.metadata, options.mask.text) == (True, True, True)
    assert options.filter.condition.field == "lang"


def test_search_defaults(client, deployment):
    """Unset stays unset: a threshold of 0 differs from none."""
    client.search("c", [1])
    options = deployment.requests[-1].options
    assert not options.HasField("score_threshold")
    assert not options.HasField("filter")
    assert options.exactness == vector_pb2.EXACTNESS_UNSPECIFIED
    client.search("c", [1], threshold=0, exact=False)
    options = deployment.requests[-1].options
    assert options.HasField("score_threshold")
    assert options.exactness == vector_pb2.EXACTNESS_APPROXIMATE


def test_batch_search(client):
    """One result for each vector, in order."""
    results = client.batch_search("c", [[1.0], [2.0]])
    assert [result[0].vector[0] for result in results] == [1.0, 2.0]


def test_search_numbers_that_do_not_fit_are_named(client):
    """A k beyond the wire's range is refused; what is merely wrong is the service's to say."""
    with pytest.raises(InvalidArgument, match="k is too large"):
        client.search("c", [1], k=2**31)
    client.search("c", [1], k=-1)


def test_rag_calls(client, deployment):
    """Documents go with their metadata and settings; passages come back."""
    done = client.ingest(
        [Document("the kettle", "d1", {"source": "x"}), "plain text"],
        chunk_unit="sentences",
        chunk_size=100,
        overlap=0,
    )
    assert (done.document_ids, done.chunk_count) == (["d1", ""], 2)
    chunking = deployment.requests[-1].chunking
    assert (chunking.unit, chunking.size) == (rag_pb2.CHUNK_UNIT_SENTENCES, 100)
    assert chunking.HasField("overlap")
    (passage,) = client.retrieve("kettle", 3, threshold=0.1)
    assert (passage.document_id, passage.metadata) == ("d1", {"source": "x"})
    assert len(client.with_options(tenant="globex").retrieve("kettle")) == 0
    assert client.delete_documents(["d1"]) == 1
    assert client.embedding_providers()[0].embedding.dimension == 384


@pytest.mark.parametrize("unit", ["words", ""])
def test_rag_chunk_unit_is_checked(client, unit):
    """An unknown unit is refused with those there are."""
    with pytest.raises(InvalidArgument, match="sentences"):
        client.ingest(["x"], chunk_unit=unit)


def test_run_streams_its_events(client, deployment):
    """A run begins, prints and ends with its value; arguments and limits travel."""
    events = list(
        client.run("print(1)", args=["a"], named={"k": "v"}, limits=RunLimits(wall_s=2.5))
    )
    assert events == [RunStarted("run-1"), RunOutput(b"print(1)"), RunResult(2, 1.5, 2, 0)]
    request = deployment.requests[-1]
    assert (list(request.positional_arguments), dict(request.named_arguments)) == (
        ["a"],
        {"k": "v"},
    )
    assert request.limits.wall_time.nanos == 500_000_000
    assert not request.limits.HasField("cpu_time")


def test_a_run_tells_its_log_and_what_it_measured(client):
    """Between what it prints and its result."""
    events = list(client.run("log"))
    assert events[2] == RunLog("warn", "low", "db", {"n": 1})
    assert events[3] == RunMetrics({"jobs": 2}, {}, {})


def test_run_failure_comes_after_its_output(client):
    """What was printed is had before the error; the error knows name and line."""
    events = client.run("fail", name="job.lua")
    assert next(events) == RunStarted("run-1")
    assert next(events) == RunOutput(b"fail")
    with pytest.raises(FailedPrecondition) as caught:
        next(events)
    assert (caught.value.reason, caught.value.metadata) == (
        "SCRIPT_FAILED",
        {"name": "job.lua", "line": "2"},
    )


def test_run_can_be_left(client):
    """A run whose events are no longer wanted ends without a word."""
    events = client.run("print(1)")
    next(events)
    events.close()
    assert list(events) == []


def test_check_compiles_only(client):
    """A script that compiles is None, another an error with its line."""
    assert client.check("return 1") is None
    with pytest.raises(InvalidArgument) as caught:
        client.check("syntax error")
    assert caught.value.metadata["line"] == "1"


@pytest.mark.parametrize("count", [0, -1, 2**64])
def test_run_limits_are_checked(client, count):
    """A limit of 0 would mean none; it is refused."""
    with pytest.raises(InvalidArgument, match=r"limits\.memory_bytes"):
        client.run("x", limits=RunLimits(memory_bytes=count))


def test_tenants_and_keys(client):
    """Tenants and keys are made, listed over pages and ended; a key's repr hides it."""
    for name in ("b", "a", "c"):
        client.create_tenant(name, display_name=name.upper())
    assert [tenant.tenant_id for tenant in client.list_tenants()] == ["a", "b", "c"]
    assert client.get_tenant("a").display_name == "A"
    created = [client.create_key("a", roles=["reader"]) for _ in range(3)]
    assert created[0].key not in repr(created[0])
    assert created[0].api_key.roles == ("reader",)
    assert [key.key_id for key in client.list_keys("a")] == ["k0", "k1", "k2"]
    assert client.revoke_key("k0") is True
    assert client.revoke_key("k0") is False
    assert client.delete_tenant("a").item_count == 3
    with pytest.raises(NotFound) as caught:
        client.get_tenant("a")
    assert caught.value.reason == "TENANT_NOT_FOUND"


def test_who_am_i_and_processes(client):
    """The caller and the four processes."""
    assert client.who_am_i().tenant_id == "acme"
    names = [process.name for process in client.processes()]
    assert names == ["gateway", "runtime", "vector", "state"]
    assert client.processes()[0].status == "SERVING"


def test_health_needs_no_key(address):
    """Health is told to everyone; an unknown name is said to be so."""
    with Client(address) as stranger:
        assert stranger.health() == "SERVING"
        assert stranger.health("llmspell.v1.Nothing") == "SERVICE_UNKNOWN"
        with pytest.raises(Unauthenticated) as caught:
            stranger.who_am_i()
    assert caught.value.reason == "CREDENTIAL_MISSING"
    assert caught.value.request_id == REQUEST_ID


def test_options_share_the_connection(client):
    """Another tenant or timeout leaves the first client as it was."""
    other = client.with_options(tenant="globex", timeout_s=1)
    assert other.who_am_i().tenant_id == "globex"
    assert client.who_am_i().tenant_id == "acme"
    assert KEY not in repr(client._connection)
