"""Errors on the wire: code, reason, metadata, and nothing that does not fit."""

import urllib.parse

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import errors_pb2

from services.common.errors import Reason, ServiceError, reason_name
from services.common.status import DETAILS_KEY, from_trailer, short, status_code, to_trailer

TRAILER_BYTES_MAX = 8 * 1024
"""What gRPC lets through for certain (`grpc.max_metadata_size`)."""


def there_and_back(error):
    key, details = to_trailer(error)
    assert key == DETAILS_KEY
    return from_trailer(status_code(error.reason), short(error.message), details)


@pytest.mark.parametrize("reason", errors_pb2.Reason.values()[1:])
def test_every_reason_crosses(reason):
    """Reason, message and metadata of each entry of the catalogue come back."""
    back = there_and_back(ServiceError(reason, "Why.", field="f", limit=3))
    assert back.reason == reason
    assert back.message == "Why."
    assert back.metadata == {"field": "f", "limit": "3"}


@pytest.mark.parametrize("reason", errors_pb2.Reason.values())
def test_every_reason_has_a_code_that_is_an_error(reason):
    """The contract gives each reason a status; none of them is OK or UNKNOWN."""
    assert status_code(reason) not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}


def test_a_second_hop_changes_nothing():
    """What a relay passes on is what it got, byte for byte."""
    error = ServiceError(Reason.LIMIT_EXCEEDED, "k is 5; the limit is 3.", field="k", limit=3)
    assert to_trailer(there_and_back(error)) == to_trailer(error)


@pytest.mark.parametrize("text", ["a", "é", "漢", "\n", "%", "\x00", "💥", '"', "\ud800"])
@pytest.mark.parametrize("entries", [0, 1, 50])
def test_the_longest_error_fits(text, entries):
    """Whatever the text, message and details together stay under what gRPC lets through."""
    metadata = {f"m{number}": text * 5000 for number in range(entries)}
    error = ServiceError(Reason.SCRIPT_FAILED, text * 100_000, **metadata)
    _, details = to_trailer(error)
    message = urllib.parse.quote(short(error.message), safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    assert len(message) + len(details) * 4 / 3 < TRAILER_BYTES_MAX
    assert there_and_back(error).reason == Reason.SCRIPT_FAILED


def test_a_short_message_stays_as_it_is():
    """Only what is too long is cut, and one sees that it was."""
    assert short("a" * 2000) == "a" * 2000
    assert short("a" * 2001) == "a" * 2000 + "…"
    assert short("") == ""


def test_status_and_details_say_the_same():
    """grpc_status refuses a call whose message differs from the one in its details."""
    error = ServiceError(Reason.SCRIPT_FAILED, "漢" * 3000)
    status = status_pb2.Status.FromString(to_trailer(error)[1])
    assert status.message == short(error.message)
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.SERVICE_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE),
        (grpc.StatusCode.CANCELLED, Reason.CANCELLED),
        (grpc.StatusCode.UNIMPLEMENTED, Reason.NOT_IMPLEMENTED),
        (grpc.StatusCode.UNKNOWN, Reason.INTERNAL),
        (grpc.StatusCode.INTERNAL, Reason.INTERNAL),
    ],
)
def test_a_status_of_the_transport_loses_its_text(code, reason):
    """Texts of the transport name addresses and exceptions; only the code is believed."""
    error = from_trailer(code, "ipv4:10.0.0.7:50063: secret", None)
    assert error.reason == reason
    assert "10.0.0.7" not in error.message
    assert "secret" not in error.message
    assert status_code(error.reason) == code or error.reason == Reason.INTERNAL


def test_details_that_are_not_ours_are_not_believed():
    """An unknown reason or an unknown detail counts for nothing; the code decides."""
    strange = any_pb2.Any()
    strange.Pack(error_details_pb2.ErrorInfo(reason="ELSEWHERE", domain="else"))
    status = status_pb2.Status(code=5, message="x", details=[strange])
    error = from_trailer(grpc.StatusCode.UNAVAILABLE, "x", status.SerializeToString())
    assert reason_name(error.reason) == "SERVICE_UNAVAILABLE"


def test_credentials_do_not_travel():
    """Neither in the message nor in metadata, by form or by name; the rest stays."""
    key = "sk-abcdefghijklmnopqrstuvwxyz012345"
    error = ServiceError(
        Reason.ITEM_NOT_FOUND,
        f"There is no item {key!r} in scope global.",
        key=key,
        password="hunter2",
        scope="global",
    )
    details = to_trailer(error)[1]
    assert key.encode() not in details
    assert b"hunter2" not in details
    read = from_trailer(grpc.StatusCode.NOT_FOUND, short(error.message), details)
    assert read.message == "There is no item '[REDACTED]' in scope global."
    redacted = "[REDACTED]"
    assert read.metadata == {"key": redacted, "password": redacted, "scope": "global"}
