"""Bad input through the public door: one clear error, the service up, nothing kept."""

from __future__ import annotations

import json
import math
import struct
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import (
    rag_pb2,
    rag_pb2_grpc,
    script_pb2,
    script_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
    types_pb2,
    vector_pb2,
    vector_pb2_grpc,
)

from tests.integration.deployment import deployed, free_port

COLLECTION = "bad-input"


class Tenant:
    """The stubs, as one tenant."""

    def __init__(self, up, name: str) -> None:
        self._metadata = (("authorization", f"Bearer {up.keys[name]}"),)
        options = [("grpc.max_send_message_length", 64 * 2**20)]
        self._channel = grpc.insecure_channel(up.address, options=options)
        self.state = state_pb2_grpc.StateServiceStub(self._channel)
        self.vector = vector_pb2_grpc.VectorServiceStub(self._channel)
        self.rag = rag_pb2_grpc.RagServiceStub(self._channel)
        self.script = script_pb2_grpc.ScriptServiceStub(self._channel)

    def call(self, method, request):
        return method(request, metadata=self._metadata, timeout=30)

    def whole(self, method, request):
        """Call, and read a stream to its end."""
        answer = self.call(method, request)
        return answer if hasattr(answer, "DESCRIPTOR") else list(answer)

    def refused(self, method, request):
        """(code, reason, message, metadata) of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            self.whole(method, request)
        error = caught.value
        trailers = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        info = error_details_pb2.ErrorInfo()
        assert status.details, error
        assert status.details[0].Unpack(info)
        return error.code().name, info.reason, error.details(), dict(info.metadata)

    def run(self, source: str, **fields):
        """The reason, message and metadata of a script that must fail, and what it printed."""
        request = script_pb2.RunScriptRequest(source=source, **fields)
        return self.refused(self.script.RunScript, request)


@pytest.fixture(scope="module")
def acme(deployment):
    tenant = Tenant(deployment, deployment.tenant("initech"))
    create = vector_pb2.CreateCollectionRequest(collection_id=COLLECTION, dimension=3)
    tenant.call(tenant.vector.CreateCollection, create)
    return tenant


def vector(*values: float) -> types_pb2.Vector:
    return types_pb2.Vector(f32=struct.pack(f"<{len(values)}f", *values))


def upsert(*vectors: types_pb2.Vector, **fields) -> vector_pb2.UpsertVectorsRequest:
    records = [vector_pb2.VectorRecord(vector=each, **fields) for each in vectors]
    return vector_pb2.UpsertVectorsRequest(collection_id=COLLECTION, records=records)


GOOD = vector(1, 2, 3)
VECTORS = {
    "dimension": (vector(1, 2), "DIMENSION_MISMATCH"),
    "nan": (vector(1, math.nan, 3), "VECTOR_NOT_FINITE"),
    "infinity": (vector(1, 2, -math.inf), "VECTOR_NOT_FINITE"),
    "zero": (vector(0, 0, 0), "VECTOR_ZERO"),
    "empty": (types_pb2.Vector(), "FIELD_REQUIRED"),
    "odd bytes": (types_pb2.Vector(f32=b"12345"), "FIELD_INVALID"),
    "both forms": (types_pb2.Vector(f32=GOOD.f32, values=[1, 2, 3]), "FIELD_INVALID"),
}


@pytest.mark.parametrize("case", VECTORS)
def test_bad_vectors(acme, case):
    """A bad vector is refused in a search, and in a write with the good ones beside it."""
    bad, reason = VECTORS[case]
    code, got, message, _ = acme.refused(acme.vector.UpsertVectors, upsert(GOOD, bad))
    assert (code, got) == ("INVALID_ARGUMENT", reason), message
    search = vector_pb2.SearchRequest(collection_id=COLLECTION, vector=bad)
    code, got, message, _ = acme.refused(acme.vector.Search, search)
    assert (code, got) == ("INVALID_ARGUMENT", reason), message
    listed = vector_pb2.ListVectorsRequest(collection_id=COLLECTION)
    assert not acme.call(acme.vector.ListVectors, listed).records


def options(**fields) -> vector_pb2.SearchRequest:
    return vector_pb2.SearchRequest(
        collection_id=COLLECTION, vector=GOOD, options=vector_pb2.SearchOptions(**fields)
    )


DEEP = types_pb2.Filter(condition=types_pb2.Condition(field="a", exists=True))
for _ in range(9):
    DEEP = types_pb2.Filter(**{"not": DEEP})
RANGE = types_pb2.Condition(field="a", range=types_pb2.Range())
SEARCHES = {
    "negative k": (options(limit=-1), "FIELD_INVALID", "limit"),
    "k over the limit": (options(limit=1001), "LIMIT_EXCEEDED", "1000"),
    "empty filter": (options(filter=types_pb2.Filter()), "FILTER_INVALID", "filter"),
    "deep filter": (options(filter=DEEP), "FILTER_INVALID", "8"),
    "range without bounds": (
        options(filter=types_pb2.Filter(condition=RANGE)),
        "FILTER_INVALID",
        "range",
    ),
    "unknown scope": (
        vector_pb2.SearchRequest(scope="planet:x", collection_id=COLLECTION, vector=GOOD),
        "SCOPE_INVALID",
        "planet:x",
    ),
    "another tenant as scope": (
        vector_pb2.SearchRequest(scope="tenant:globex", collection_id=COLLECTION, vector=GOOD),
        "SCOPE_INVALID",
        "tenant:globex",
    ),
    "unknown collection": (
        vector_pb2.SearchRequest(collection_id="nosuch", vector=GOOD),
        "COLLECTION_NOT_FOUND",
        "nosuch",
    ),
    "a name that is a path": (
        vector_pb2.SearchRequest(collection_id="../x", vector=GOOD),
        "FIELD_INVALID",
        "collection_id",
    ),
}


@pytest.mark.parametrize("case", SEARCHES)
def test_bad_searches(acme, case):
    """Each bad search says which field it is about and what the limit is."""
    request, reason, word = SEARCHES[case]
    _, got, message, _ = acme.refused(acme.vector.Search, request)
    assert got == reason, message
    assert word in message


def item(key="k", json_text="1", **fields) -> state_pb2.SetStateRequest:
    return state_pb2.SetStateRequest(key=key, value=state_pb2.Payload(json=json_text), **fields)


STATE = {
    "no key": (item(key=""), "FIELD_REQUIRED"),
    "key too long": (item(key="k" * 257), "LIMIT_EXCEEDED"),
    "key with NUL": (item(key="a\0b"), "FIELD_INVALID"),
    "unknown scope": (item(scope="nowhere"), "SCOPE_INVALID"),
    "scope with a slash": (item(scope="session:a/b"), "SCOPE_INVALID"),
    "scope without a name": (item(scope="session:"), "SCOPE_INVALID"),
    "not JSON": (item(json_text="{oops"), "FIELD_INVALID"),
    "NaN": (item(json_text="NaN"), "FIELD_INVALID"),
    "too large": (item(json_text='"' + "x" * 2**20 + '"'), "LIMIT_EXCEEDED"),
    "no value": (state_pb2.SetStateRequest(key="k"), "FIELD_REQUIRED"),
    "negative ttl": (item(ttl=Duration(seconds=-1)), "FIELD_INVALID"),
}


@pytest.mark.parametrize("case", STATE)
def test_bad_state(acme, case):
    """Each bad write of state is refused, and nothing is there after it."""
    request, reason = STATE[case]
    code, got, message, _ = acme.refused(acme.state.SetState, request)
    assert (code, got) == ("INVALID_ARGUMENT", reason), message
    listed = state_pb2.ListStateRequest(prefix="k")
    assert not acme.call(acme.state.ListState, listed).items


def documents(*texts: str) -> rag_pb2.IngestDocumentsRequest:
    each = [rag_pb2.Document(document_id=str(n), text=text) for n, text in enumerate(texts)]
    return rag_pb2.IngestDocumentsRequest(collection_id="bad-documents", documents=each)


DOCUMENTS = {
    "none": (documents(), "FIELD_REQUIRED"),
    "empty text": (documents("fine", ""), "FIELD_REQUIRED"),
    "blank text": (documents("fine", " \n"), "FIELD_REQUIRED"),
    "over 4 MiB": (documents("fine", "x" * (4 * 2**20 + 1)), "LIMIT_EXCEEDED"),
    "a 10 MB document": (documents("word " * 2_000_000), "MESSAGE_TOO_LARGE"),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_bad_documents(acme, case):
    """A bad document is refused with those beside it; no collection and no record is left."""
    request, reason = DOCUMENTS[case]
    _, got, message, _ = acme.refused(acme.rag.IngestDocuments, request)
    assert got == reason, message
    stats = vector_pb2.GetVectorStatsRequest()
    assert acme.call(acme.vector.GetVectorStats, stats).record_count == 0


def test_another_embedding_is_refused(acme):
    """Vectors of the caller's own making cannot be searched by text."""
    request = rag_pb2.RetrieveDocumentsRequest(collection_id=COLLECTION, text="hello")
    code, reason, _, _ = acme.refused(acme.rag.RetrieveDocuments, request)
    assert (code, reason) == ("FAILED_PRECONDITION", "EMBEDDING_MISMATCH")


def test_empty_question(acme):
    """A question without text is refused."""
    request = rag_pb2.RetrieveDocumentsRequest(text="  ")
    assert acme.refused(acme.rag.RetrieveDocuments, request)[1] == "FIELD_REQUIRED"


def limits(**fields) -> dict:
    return {"limits": script_pb2.RunLimits(**fields)}


SHORT = limits(wall_time=Duration(nanos=400_000_000))
SCRIPTS = {
    "syntax": ("local x = 1\nif x then\n  x = = 2\nend", {}, "SCRIPT_SYNTAX"),
    "loop": ("while true do end", SHORT, "RUN_TIME_LIMIT"),
    "loop in pcall": ("while true do pcall(error) end", SHORT, "RUN_TIME_LIMIT"),
    "pattern": ("return (('a'):rep(300)):find(('a-'):rep(30) .. 'b')", SHORT, "RUN_TIME_LIMIT"),
    "processor": ("while true do end", limits(cpu_time=Duration(seconds=1)), "RUN_CPU_LIMIT"),
    "memory": (
        "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
        {},
        "RUN_MEMORY_LIMIT",
    ),
    "recursion": ("local function f() return 1 + f() end return f()", {}, "RUN_MEMORY_LIMIT"),
    "output": ("while true do print(('x'):rep(1000)) end", {}, "RUN_OUTPUT_LIMIT"),
    "calls": ("while true do State.load('global', 'x') end", {}, "RUN_CALL_LIMIT"),
    "error": ("local t = nil\nreturn t.x", {}, "SCRIPT_FAILED"),
    "bytecode": ("\x1bLuaT", {}, "FIELD_INVALID"),
    "empty": ("  ", {}, "FIELD_REQUIRED"),
    "too long": ("-- " + "x" * 256 * 1024, {}, "LIMIT_EXCEEDED"),
    "more than allowed": ("return 1", limits(memory_bytes=2**40), "LIMIT_EXCEEDED"),
    "a function as result": ("return print", {}, "SCRIPT_FAILED"),
    "another tenant": ("RAG.search('x', {tenant_id = 'globex'})", {}, "SCRIPT_FAILED"),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_bad_scripts(acme, case):
    """Each bad script ends with its reason, and the next one runs."""
    source, fields, reason = SCRIPTS[case]
    _, got, message, _ = acme.run(source, name="bad.lua", **fields)
    assert got == reason, message
    events = acme.call(acme.script.RunScript, script_pb2.RunScriptRequest(source="return 1 + 1"))
    assert [event.result.json for event in events][-1] == "2"


def test_a_syntax_error_names_file_line_and_text(acme):
    """The message says where it is, and what Lua does not understand."""
    source, _, _ = SCRIPTS["syntax"]
    _, _, message, metadata = acme.run(source, name="bad.lua")
    assert metadata["line"] == "3"
    assert message == "bad.lua:3: unexpected symbol near '='"


def test_output_before_a_failure_is_kept(acme):
    """What a script printed before it failed has reached the caller."""
    request = script_pb2.RunScriptRequest(source="print('before') error('after')")
    events = acme.call(acme.script.RunScript, request)
    printed = [next(events), next(events)][-1].output.data
    assert printed == b"before\n"
    with pytest.raises(grpc.RpcError):
        next(events)


def test_a_host_error_is_a_table(acme):
    """A refused call arrives in Lua as a table with code, reason, message and metadata."""
    source = """
      local ok, e = pcall(RAG.search, 'x', {k = 1001})
      return {ok = ok, code = e.code, reason = e.reason, message = e.message}
    """
    events = acme.call(acme.script.RunScript, script_pb2.RunScriptRequest(source=source))
    result = json.loads([event.result.json for event in events][-1])
    assert result["ok"] is False
    assert (result["code"], result["reason"]) == ("INVALID_ARGUMENT", "LIMIT_EXCEEDED")
    assert "1000" in result["message"]


def test_cancelling_ends_the_run(deployment, acme):
    """A caller that goes away takes its script with it: all places are free again at once."""
    request = script_pb2.RunScriptRequest(source="print('on') while true do end")
    for _ in range(20):
        run = acme.call(acme.script.RunScript, request)
        next(event for event in run if event.output.data)
        run.cancel()
    started = time.monotonic()
    events = acme.call(acme.script.RunScript, script_pb2.RunScriptRequest(source="return 7"))
    assert [event.result.json for event in events][-1] == "7"
    assert time.monotonic() - started < 10


UP = {
    "unknown key": ("[vector]\nlisten_on = 'x'\n", "vector.listen_on"),
    "wrong type": ("[vector]\nexact_threshold = 'many'\n", "vector.exact_threshold"),
    "unknown table": ("[vectors]\n", "vectors"),
    "not TOML": ("vector = [\n", "TOML"),
}


@pytest.mark.parametrize("case", UP)
def test_bad_configuration(deployment, tmp_path, case):
    """A bad setting is named with its file, by the check and by the start alike."""
    text, word = UP[case]
    file = tmp_path / "bad.toml"
    file.write_text(text)
    for arguments in (
        ("config", "check", str(file)),
        ("up", "--config", str(file), "--data", str(tmp_path / "d"), "--port", str(free_port())),
    ):
        done = deployment.cli(*arguments)
        assert done.returncode == 8, done.stderr
        assert word in done.stderr
        assert "bad.toml" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(deployment, tmp_path):
    """Starting on the port of another deployment says so and stops."""
    port = deployment.address.rpartition(":")[2]
    done = deployment.cli("up", "--data", str(tmp_path), "--port", port)
    assert done.returncode == 8, done.stderr
    assert port in done.stderr


def test_a_data_folder_that_is_held(deployment):
    """Starting on the data folder of another deployment says so and stops."""
    done = deployment.cli("up", "--data", str(deployment.data), "--port", str(free_port()))
    assert done.returncode == 8, done.stderr
    assert str(deployment.data) in done.stderr


def test_a_data_folder_that_cannot_be_made(deployment, tmp_path):
    """A file where the folder should be is named."""
    (tmp_path / "file").write_text("x")
    done = deployment.cli("up", "--data", str(tmp_path / "file" / "d"), "--port", str(free_port()))
    assert done.returncode == 8, done.stderr
    assert "file" in done.stderr


@pytest.mark.slow
def test_a_newer_schema_is_refused(deployment, tmp_path):
    """Data of a newer release is refused in those words, and not touched."""
    from services.common.store import Schema, Store, exit_on_fatal

    with deployed(tmp_path):
        pass
    for name in ("state", "vector"):
        folder = tmp_path / "data" / name
        Store(
            folder,
            Schema(name, 999, (), dict.fromkeys(range(999), lambda _: None)),
            on_fatal=exit_on_fatal,
        ).close()
        before = (folder / "data.mdb").read_bytes()
        done = deployment.cli("up", "--data", str(tmp_path / "data"), "--port", str(free_port()))
        assert done.returncode == 8, done.stderr
        assert "newer release" in done.stderr
        assert (folder / "data.mdb").read_bytes() == before
