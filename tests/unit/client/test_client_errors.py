"""Statuses as exceptions, and what is tried again."""

import json
import socket
import time

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from llmspell import AsyncClient, Client, LLMSpellError, SetItem, errors
from llmspell._channel import service_config
from llmspell._contract import METHODS

from tests.fake_deployment import KEY, REQUEST_ID

FAMILIES = {
    "INVALID_ARGUMENT": errors.InvalidArgument,
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "ABORTED": errors.Conflict,
    "FAILED_PRECONDITION": errors.FailedPrecondition,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "RESOURCE_EXHAUSTED": errors.ResourceExhausted,
    "UNAVAILABLE": errors.Unavailable,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "CANCELLED": errors.Cancelled,
    "UNIMPLEMENTED": errors.Unimplemented,
    "DATA_LOSS": errors.DataLoss,
    "INTERNAL": errors.Internal,
}
NOT_REPEATABLE = {
    "AppendAudit",
    "SetPolicy",
    "CreateApiKey",
    "CreateBackup",
    "CreateCollection",
    "CreateSnapshot",
    "CreateTenant",
    "ExecuteTemplate",
    "ExecuteTool",
    "GrantAccess",
    "ImportTenant",
    "Interact",
    "RestoreBackup",
    "ResumeRun",
    "ResumeWorkflowRun",
    "RotateApiKey",
    "RotateTenantKey",
    "RunScript",
    "StartMigration",
    "StreamAgent",
    "StreamWorkflow",
    "TestProvider",
    "TransitionAgent",
}


@pytest.mark.parametrize("code", FAMILIES)
def test_status_becomes_its_family(client, deployment, code):
    """Each code has its exception, with reason, message, metadata and request id."""
    deployment.fail_next("WhoAmI", 3, grpc.StatusCode[code], "SOME_REASON")
    with pytest.raises(LLMSpellError) as caught:
        client.who_am_i()
    assert type(caught.value) is FAMILIES[code]
    assert caught.value.code == code
    assert caught.value.reason == "SOME_REASON"
    assert str(caught.value) == caught.value.message == "It was asked to fail."
    assert caught.value.request_id == REQUEST_ID


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.OUT_OF_RANGE])
def test_other_statuses_are_internal(client, deployment, code):
    """A code that the contract does not use is somebody's fault, not the caller's."""
    deployment.fail_next("WhoAmI", 1, code)
    with pytest.raises(errors.Internal):
        client.who_am_i()


def test_status_without_details_has_a_reason(client, deployment):
    """What a proxy answers has the family's usual reason, and keeps the transport's text aside."""
    deployment.fail_next("WhoAmI", 1, grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(errors.PermissionDenied) as caught:
        client.who_am_i()
    assert caught.value.reason == "PERMISSION_DENIED"
    assert caught.value.metadata == {"transport": "asked to fail"}


@pytest.mark.parametrize("details", [b"\xff\xff", "text", None, b""])
def test_malformed_details_are_no_crash(details):
    """Details that are no Status are as good as none."""

    class Failed(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.NOT_FOUND

        def details(self):
            return "gone"

        def trailing_metadata(self):
            return [("grpc-status-details-bin", details)] if details is not None else None

    error = errors.from_rpc(Failed(), "h:1")
    assert type(error) is errors.NotFound
    assert "gone" in error.message


def test_item_not_found_is_none_but_others_are_not(client, deployment):
    """Only the missing item is None: a missing tenant is an error."""
    deployment.fail_next("GetState", 1, grpc.StatusCode.NOT_FOUND, "TENANT_NOT_FOUND")
    with pytest.raises(errors.NotFound):
        client.get_state("a")


def test_repeatable_calls_are_tried_three_times(client, deployment):
    """Two times UNAVAILABLE are not noticed by a reader; three are."""
    deployment.fail_next("ListState", 2, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert list(client.list_state()) == []
    assert deployment.calls["ListState"] == 3
    deployment.fail_next("SetState", 3, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    with pytest.raises(errors.Unavailable):
        client.set_state("a", 1)
    assert deployment.calls["SetState"] == 3


def test_large_calls_are_repeated_too(client, deployment):
    """A message of some MiB stays in the buffer for its second try."""
    deployment.fail_next("SetState", 1, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    client.set_state("a", "x" * 3_000_000)
    assert deployment.calls["SetState"] == 2


def test_numbered_calls_are_repeated_under_one_id(client, deployment):
    """What would count twice has an id under which it counts once, another one each call."""
    deployment.fail_next("IncrementState", 2, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    client.increment_state("a")
    client.increment_state("a")
    client.batch([SetItem("b", 1)])
    ids = [request.request_id for request in deployment.requests]
    assert all(ids)
    assert [len(set(ids[:3])), len(set(ids))] == [1, 3]


def test_other_calls_are_not_repeated(client, deployment):
    """What would happen twice is tried once."""
    deployment.fail_next("RunScript", 1, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    with pytest.raises(errors.Unavailable):
        list(client.run("print(1)"))
    assert deployment.calls == {"RunScript": 1}


@pytest.mark.parametrize("code", ["INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"])
def test_other_failures_are_not_repeated(client, deployment, code):
    """Only UNAVAILABLE is worth another try."""
    deployment.fail_next("GetState", 1, grpc.StatusCode[code], "SOME_REASON")
    with pytest.raises(FAMILIES[code]):
        client.get_state("a")
    assert deployment.calls["GetState"] == 1


def test_retry_rule_is_the_contracts():
    """The service config names exactly the methods that the contract marks as repeatable."""
    every, rule = json.loads(service_config())["methodConfig"]
    assert every == {"name": [{}], "waitForReady": False}
    named = {entry["method"] for entry in rule["name"]}
    assert {method.name for method in METHODS.values()} - named == NOT_REPEATABLE
    assert rule["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert rule["retryPolicy"]["maxAttempts"] == 3


async def test_asyncio_client_retries_alike(async_client, deployment):
    """The same rule holds for the asyncio client."""
    deployment.fail_next("GetState", 2, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert await async_client.get_state("a") is None
    assert deployment.calls["GetState"] == 3


@pytest.fixture
def silent_address():
    """A port at which nobody answers what is said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed_address():
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"127.0.0.1:{port}"


def test_nobody_there_is_unavailable(closed_address):
    """Where nothing listens the error names the address."""
    with Client(closed_address, KEY) as client:
        with pytest.raises(errors.Unavailable, match=f"Nothing answers at {closed_address}"):
            client.who_am_i()
        with pytest.raises(errors.Unavailable):
            client.health()


async def test_nobody_there_is_unavailable_in_asyncio(closed_address):
    """Likewise for the asyncio client, in streams too."""
    async with AsyncClient(closed_address, KEY) as client:
        with pytest.raises(errors.Unavailable):
            await client.who_am_i()
        with pytest.raises(errors.Unavailable):
            await anext(client.run("x"))
        with pytest.raises(errors.Unavailable):
            await client.health()


def test_no_answer_is_a_deadline(silent_address):
    """A server that never answers costs no more than the timeout."""
    with (
        Client(silent_address, KEY, timeout_s=0.2) as client,
        pytest.raises(errors.DeadlineExceeded, match="in time"),
    ):
        client.who_am_i()


def test_message_too_large_is_told(client):
    """What is larger than a message may be is refused here, with the limit."""
    with pytest.raises(errors.ResourceExhausted, match="8 MiB") as caught:
        client.set_state("a", "x" * (9 * 1024 * 1024))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_error_repr_names_family_and_reason():
    """A log line of an error says what it was."""
    error = errors.NotFound("No.", reason="ITEM_NOT_FOUND", metadata={"key": "a"})
    assert repr(error) == "NotFound(ITEM_NOT_FOUND, 'No.', {'key': 'a'})"


def refused_until(deployment, name, times, retry_after_s, reason="QUOTA_EXCEEDED"):
    """Let the next calls of a method be refused with RetryInfo."""

    def fail(context):
        status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="llmspell"))
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(retry_after_s * 1000))
        status.details.add().Pack(retry)
        details = ("grpc-status-details-bin", status.SerializeToString())
        context.set_trailing_metadata((details,))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Not now.")

    deployment.failures[name] = [fail] * times


def test_a_refusal_that_says_when_is_waited_for(client, deployment):
    """Whatever the call, since nothing was done; and not before that time."""
    refused_until(deployment, "CreateTenant", 2, 0.1)
    begin = time.monotonic()
    client.create_tenant("patient")
    assert time.monotonic() - begin >= 0.2
    assert deployment.calls["CreateTenant"] == 3


async def test_asyncio_waits_alike(async_client, deployment):
    """The same rule."""
    refused_until(deployment, "WhoAmI", 2, 0.1)
    begin = time.monotonic()
    await async_client.who_am_i()
    assert time.monotonic() - begin >= 0.2


def test_what_does_not_fit_is_raised_at_once(client, deployment):
    """With the time, so that the caller may decide."""
    refused_until(deployment, "WhoAmI", 1, 60)
    begin = time.monotonic()
    with pytest.raises(errors.ResourceExhausted) as caught:
        client.who_am_i()
    assert time.monotonic() - begin < 20
    assert caught.value.retry_after_s == 60


def test_what_may_have_been_done_is_not_done_again(client, deployment):
    """Another reason, and a call that may not be repeated."""
    refused_until(deployment, "CreateTenant", 1, 0.01, reason="PROVIDER_RATE_LIMITED")
    with pytest.raises(errors.ResourceExhausted):
        client.create_tenant("once")
    assert deployment.calls["CreateTenant"] == 1
