"""Which calls of a journal an export does not tell."""

import pytest
from llmspell.v1 import session_pb2, state_pb2, types_pb2

from services.state.backup.journal_lines import call_form
from services.state.backup.lines import is_withheld
from services.state.journal_model import Entry
from services.state.layout import journals as layout
from services.state.servicers.journal_privacy import tells_secret

SET = "llmspell.v1.StateService/SetState"
CREATE = "llmspell.v1.SessionService/CreateSession"
KEY = "sk-abcdefghijklmnopqrstuvwxyz012345"


def set_state(key="k", **payload):
    """A request."""
    value = state_pb2.Payload(**payload)
    return state_pb2.SetStateRequest(scope="global", key=key, value=value)


def session_with(**metadata):
    """Another one, with a map of values."""
    request = session_pb2.CreateSessionRequest(session_id="s")
    for name, value in metadata.items():
        request.metadata[name].CopyFrom(value)
    return request


TEXT = types_pb2.Value(string_value="the kettle")
INNER = types_pb2.Value()
INNER.map_value.fields["password"].string_value = "the kettle"


@pytest.mark.parametrize(
    ("method", "request_", "secret"),
    [
        (SET, set_state(text="the kettle"), False),
        (SET, set_state(text="the kettle", sensitive=True), True),
        (SET, set_state("api_key", text="the kettle"), True),
        (SET, set_state(text=f"use {KEY}"), True),
        (SET, set_state(json='{"user": "ann", "password": "the kettle"}'), True),
        (SET, set_state(json='{"user": "ann", "token_count": 3}'), False),
        (SET, set_state(raw=f"use {KEY}".encode()), True),
        (CREATE, session_with(note=TEXT), False),
        (CREATE, session_with(token=TEXT), True),
        (CREATE, session_with(token=types_pb2.Value(int_value=3)), False),
        (CREATE, session_with(inner=INNER), True),
    ],
)
def test_a_call_with_a_secret_is_withheld_whole(method, request_, secret):
    """By mark, by name at any depth, by form; in the request and in the answer of a call."""
    content = request_.SerializeToString()
    assert tells_secret(method, content, b"") == secret
    assert tells_secret(f"/{method}", content, None) == secret
    entry = Entry(1, method, content, b"", "", "", 1, 2, "")
    form = call_form(tells_secret)
    line = form.tell(layout.entry_key("t", "s", 1)[2:], layout.pack_entry(entry))
    told = form.write(line, in_clear=False)
    assert is_withheld(form.read(told)) == secret
    assert b"kettle" not in told or not secret
    assert form.record(form.read(form.write(line, in_clear=True)))[1] == layout.pack_entry(entry)


def test_an_answer_and_what_cannot_be_read():
    """An answer that tells counts as well; what is no message of its method is withheld."""
    item = state_pb2.GetStateResponse()
    item.item.value.text = f"use {KEY}"
    method = "llmspell.v1.StateService/GetState"
    assert tells_secret(method, b"", item.SerializeToString())
    assert tells_secret(method, b"\xff\xff", b"")
    assert not tells_secret("somebody/Else", b"\xff\xff", b"")
