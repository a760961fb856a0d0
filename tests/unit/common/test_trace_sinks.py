"""Where spans go: files of JSON lines, and a collector that speaks the real protocol."""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.common import trace_sinks
from services.common.errors import ServiceError
from services.common.trace_sinks import Collector, TraceFile
from services.common.tracing import Span

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123"


def span(name="x", **attributes):
    made = Span(name, "a" * 32, "b" * 16, "c" * 16, is_kept=True, kind="server", end_ns=0)
    made.attributes = attributes
    made.end_ns = made.begin_ns + 1000
    return made


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_file_has_a_line_for_each_span(tmp_path):
    """Only its owner reads it; texts are cut, and what looks like a credential is taken out."""
    sink = TraceFile(tmp_path / "traces", "gateway")
    sink.put(
        span(tenant="acme", count=3, note=f"key {SECRET}", long="x" * 5000, odd="\ud800\n\x1b")
    )
    sink.put(span("y"))
    sink.close()
    file = tmp_path / "traces" / "gateway.jsonl"
    first, second = lines(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert (first["name"], second["name"]) == ("x", "y")
    assert (first["trace_id"], first["parent_id"], first["process"]) == (
        "a" * 32,
        "c" * 16,
        "gateway",
    )
    assert first["attributes"]["tenant"] == "acme"
    assert first["attributes"]["count"] == 3
    assert SECRET not in file.read_text()
    assert len(first["attributes"]["long"]) == 200
    assert first["attributes"]["odd"] == "?\n\x1b"
    assert "\x1b" not in file.read_text()


def test_a_large_file_is_put_aside(tmp_path, monkeypatch):
    """There are two of each process at most, so the disk does not fill up with them."""
    monkeypatch.setattr(trace_sinks, "TRACE_FILE_BYTES_MAX", 500)
    sink = TraceFile(tmp_path, "state")
    for name in "abcd":
        for _ in range(5):
            sink.put(span(name))
        time.sleep(0.25)
    sink.close()
    assert {file.name for file in tmp_path.iterdir()} == {"state.jsonl", "state.1.jsonl"}
    assert lines(tmp_path / "state.jsonl")[-1]["name"] == "d"
    assert sink.dropped == 0


def test_a_folder_that_goes_costs_spans_only(tmp_path, caplog):
    """They are counted, it is logged once, and later ones are written where it is back."""
    folder = tmp_path / "traces"
    sink = TraceFile(folder, "vector")
    (folder / "vector.jsonl").unlink()
    folder.rmdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sink.put(span())
            time.sleep(0.15)
    assert sink.dropped == 3
    assert [record.message for record in caplog.records] == ["traces cannot be written"]
    folder.mkdir()
    sink.put(span("back"))
    sink.close()
    assert [line["name"] for line in lines(folder / "vector.jsonl")] == ["back"]


def test_a_folder_that_cannot_be_made_is_an_error_at_the_start(tmp_path):
    """The process says so instead of keeping nothing."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="Traces cannot be written"):
        TraceFile(tmp_path / "file" / "traces", "gateway")


def test_more_than_there_is_room_for_is_dropped(tmp_path, monkeypatch):
    """Whoever ends a span never waits."""
    monkeypatch.setattr(trace_sinks, "SPANS_WAITING_MAX", 10)
    sink = TraceFile(tmp_path, "gateway")
    begin = time.monotonic()
    for _ in range(1000):
        sink.put(span())
    assert time.monotonic() - begin < 10
    sink.close()
    assert sink.dropped > 900
    assert len(lines(tmp_path / "gateway.jsonl")) == 1000 - sink.dropped


class Received(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector."""

    def __init__(self):
        self.spans = []
        self.resources = []

    def Export(self, request, context):  # noqa: N802
        """Remember what comes."""
        for each in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in each.resource.attributes})
            self.spans += [span for scope in each.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    """A real server of the protocol; gives its address and what it has received."""
    received = Received()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(received, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"http://127.0.0.1:{port}", received
        server.stop(0).wait()


def test_a_collector_gets_spans_as_they_are(collector):
    """Ids, parent, kind, times, attributes, error, and which process it was."""
    address, received = collector
    sink = Collector(address, "runtime")
    failed = span("chat", **{"gen_ai.request.model": "m", "n": 3, "note": SECRET})
    failed.error = "INTERNAL"
    sink.put(failed)
    sink.close()
    [told] = received.spans
    assert (told.trace_id.hex(), told.span_id.hex(), told.parent_span_id.hex()) == (
        "a" * 32,
        "b" * 16,
        "c" * 16,
    )
    assert (told.name, told.kind, told.end_time_unix_nano) == ("chat", 2, failed.end_ns)
    values = {each.key: each.value for each in told.attributes}
    assert values["gen_ai.request.model"].string_value == "m"
    assert values["n"].int_value == 3
    assert SECRET not in str(told)
    assert (told.status.code, told.status.message) == (2, "INTERNAL")
    assert received.resources[0]["service.name"] == "llmspell-runtime"
    assert sink.dropped == 0


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch):
    """Neither who ends spans nor the process's end; what is lost is counted."""
    monkeypatch.setattr(trace_sinks, "_CLOSE_S", 0.3)
    sink = Collector("http://127.0.0.1:9", "runtime")
    begin = time.monotonic()
    for _ in range(100):
        sink.put(span())
    assert time.monotonic() - begin < 5
    sink.close()
    assert time.monotonic() - begin < 10
    sink.close()
    assert sink.dropped in (0, 100)  # the try that was cut off may still be under way
