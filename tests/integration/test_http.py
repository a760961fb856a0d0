"""Calls by HTTP, as curl makes them: the same door, the same handlers, for two tenants."""

import http.client
import json
import struct
import subprocess
import time

import pytest
from llmspell import Client

PREFIX = "/llmspell.v1."


@pytest.fixture(scope="module")
def call(deployment):
    """A function that posts JSON as a tenant and gives status, headers and what came."""

    def post(tenant, path, body, *, form="application/json", **headers):
        connection = http.client.HTTPConnection(deployment.http_address, timeout=20)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = deployment.keys.get(tenant, tenant)
        told = {"authorization": f"Bearer {key}", "content-type": form}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("POST", PREFIX + path, data, told)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    return post


def reason(answer):
    """Status, reason and metadata of an error."""
    status, _, body = answer
    told = json.loads(body)
    [detail] = told["details"]
    assert detail["type"] == "google.rpc.ErrorInfo"
    return status, detail["debug"]["reason"], detail["debug"].get("metadata", {})


def framed(message):
    """One message of a stream, as Connect puts it on the wire."""
    body = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(body)) + body


def events(body):
    """The messages of a stream, the last one is its end."""
    found = []
    while body:
        _, size = struct.unpack(">BI", body[:5])
        found.append(json.loads(body[5 : 5 + size]))
        body = body[5 + size :]
    return found


def test_each_tenant_reads_its_own(call):
    """What one wrote by HTTP the other does not see, under the same key."""
    for tenant in ("acme", "globex"):
        value = {"key": "http", "value": {"text": tenant}}
        assert call(tenant, "StateService/SetState", value)[0] == 200
    for tenant in ("acme", "globex"):
        status, headers, body = call(tenant, "StateService/GetState", {"key": "http"})
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert len(headers["llmspell-request-id"]) == 32
        assert json.loads(body)["item"]["value"] == {"text": tenant}


def test_what_is_written_by_http_is_read_by_grpc(call, deployment):
    """There is one store and one tenant, whichever way a call comes."""
    call("acme", "StateService/SetState", {"key": "http/grpc", "value": {"json": "[1]"}})
    assert json.loads(deployment.cli("state", "get", "http/grpc", tenant="acme").stdout) == [1]


def test_a_script_streams(call):
    """Events come framed, and the stream's end says that nothing went wrong."""
    body = framed({"source": 'print("one") return {answer = 42}'})
    answer = call("acme", "ScriptService/RunScript", body, form="application/connect+json")
    assert answer[0] == 200
    started, output, result, end = events(answer[2])
    assert set(started) == {"started"}
    assert output == {"output": {"data": "b25lCg=="}}
    assert json.loads(result["result"]["json"]) == {"answer": 42}
    assert end == {}


def test_a_script_that_fails_says_so_at_the_streams_end(call):
    """With its reason and where it was."""
    body = framed({"source": "error('no')"})
    answer = call("acme", "ScriptService/RunScript", body, form="application/connect+json")
    error = events(answer[2])[-1]["error"]
    assert error["code"] == "failed_precondition"
    assert error["details"][0]["debug"]["reason"] == "SCRIPT_FAILED"


GET = "StateService/GetState"
REFUSED = {
    "absent": (GET, {"key": "http/absent"}, {}, 404, "ITEM_NOT_FOUND"),
    "no key": (GET, {}, {}, 400, "FIELD_REQUIRED"),
    "another tenant": (
        GET,
        {"key": "http"},
        {"llmspell_tenant": "globex"},
        403,
        "PERMISSION_DENIED",
    ),
    "an unknown field": (GET, {"nokey": "k"}, {}, 400, "MESSAGE_MALFORMED"),
    "no JSON": (GET, b"{", {}, 400, "MESSAGE_MALFORMED"),
    "no UTF-8": (GET, b'{"key":"\xff"}', {}, 400, "MESSAGE_MALFORMED"),
    "deep JSON": (GET, b'{"key":' + b"[" * 5000 + b"]" * 5000 + b"}", {}, 400, "MESSAGE_MALFORMED"),
    "no protobuf": (GET, b"\xff\xff", {"form": "application/proto"}, 400, "MESSAGE_MALFORMED"),
    "gRPC": (GET, b"", {"form": "application/grpc"}, 415, "FIELD_INVALID"),
    "text": (GET, b"{}", {"form": "text/plain"}, 415, "FIELD_INVALID"),
    "no such method": ("StateService/Nothing", {}, {}, 404, "NOT_IMPLEMENTED"),
    "a path": ("../../etc/passwd", {}, {}, 404, "NOT_IMPLEMENTED"),
    "a method of streams": ("ScriptService/Interact", {}, {}, 404, "NOT_IMPLEMENTED"),
    "an operator's method": ("TenantService/ListTenants", {}, {}, 403, "PERMISSION_DENIED"),
    "a page of others": (GET, {}, {"origin": "https://evil.example"}, 403, "PERMISSION_DENIED"),
    "no time": (GET, {"key": "http"}, {"connect_timeout_ms": "0"}, 504, "DEADLINE_EXCEEDED"),
    "odd time": (GET, {"key": "http"}, {"connect_timeout_ms": "soon"}, 400, "MESSAGE_MALFORMED"),
    "two keys": (GET, {"key": "k"}, {"Authorization": "Bearer x"}, 401, "CREDENTIAL_INVALID"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_errors_are_json_with_a_reason(call, case):
    """Whatever is wrong, at whichever layer."""
    path, body, more, status, why = case
    assert reason(call("acme", path, body, **more))[:2] == (status, why)


def test_a_stranger_is_refused_before_the_message_is_read(call):
    """A key of nobody, none at all; what else is wrong with the request is not told."""
    assert reason(call("llms_no_" + "a" * 32, GET, b"{"))[:2] == (401, "CREDENTIAL_INVALID")
    assert reason(call("", GET, b"{"))[:2] == (401, "CREDENTIAL_INVALID")


def test_a_request_that_is_too_large_is_refused(call):
    """With the limit, and another call is served."""
    large = {"key": "http", "value": {"text": "x" * 13_000_000}}
    status, why, metadata = reason(call("acme", "StateService/SetState", large))
    assert (status, why, metadata["limit"]) == (429, "MESSAGE_TOO_LARGE", "12582912")
    assert call("acme", GET, {"key": "http"})[0] in {200, 404}


def test_pages_of_an_allowed_origin_may_read_answers(call, deployment):
    """And are told so before they ask; without an origin no such header is sent."""
    page = "https://app.example.com"
    _, headers, _ = call("acme", GET, {"key": "http"}, origin=page)
    assert headers["access-control-allow-origin"] == page
    connection = http.client.HTTPConnection(deployment.http_address, timeout=20)
    connection.request("OPTIONS", PREFIX + GET, headers={"origin": page})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("access-control-allow-origin")) == (204, page)
    assert "authorization" in answer.getheader("access-control-allow-headers")
    connection.close()
    _, headers, _ = call("acme", GET, {"key": "http"})
    assert not any(name.startswith("access-control") for name in headers)


def test_calls_by_http_are_audited(call, deployment):
    """By the same door: what was denied stands in the audit log, with who and where from."""
    request_id = "http-denied-1"
    call("globex", "TenantService/ListTenants", {}, llmspell_request_id=request_id)
    with Client(deployment.address, deployment.operator_key, tenant="globex") as operator:
        for _ in range(100):
            entries = list(operator.list_audit(method="TenantService/ListTenants"))
            found = [entry for entry in entries if entry.request_id == request_id]
            if found:
                break
            time.sleep(0.1)
    assert (found[0].decision, found[0].tenant_id, found[0].peer) == (
        "denied",
        "globex",
        "127.0.0.1",
    )


def test_curl_needs_no_more_than_a_key_and_json(deployment):
    """As the guide has it."""
    done = subprocess.run(
        [
            *("curl", "-sS", f"http://{deployment.http_address}{PREFIX}StateService/GetState"),
            *("-H", f"Authorization: Bearer {deployment.keys['acme']}"),
            *("--json", '{"key": "http/absent"}'),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["code"] == "not_found"
