"""Does the gateway write what it must before it answers, and lose nothing in silence?"""

from __future__ import annotations

import asyncio

import pytest
from llmspell.v1 import audit_pb2, state_pb2, tenant_pb2

from services.common.access import METHODS
from services.common.clock import FakeClock
from services.common.context import CallContext
from services.common.door import Arrival, End
from services.common.errors import Reason, ServiceError
from services.common.limits import AUDIT_QUEUE_MAX
from services.gateway.audit import Audit, manages
from services.gateway.audit_names import host_of, resource_of

CREATE = "/llmspell.v1.TenantService/CreateTenant"
SET = "/llmspell.v1.StateService/SetState"
GET = "/llmspell.v1.StateService/GetState"
OPERATOR = CallContext(tenant="", principal="operator", permissions=("*",), any_tenant=True)
WRITER = CallContext(tenant="acme", principal="k1", permissions=("state.write",))


class State:
    """Takes entries, or says why not."""

    def __init__(self):
        self.entries = []
        self.errors = []

    async def call(self, method, request, context, *, timeout_s):
        del method, context, timeout_s
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise ServiceError(error, "no")
        self.entries += audit_pb2.AppendAuditRequest.FromString(request).entries
        return b""

    def told(self):
        """Kinds of calls' entries, without that of the start."""
        kinds = [audit_pb2.AuditKind.Name(entry.kind)[11:].lower() for entry in self.entries]
        return [kind for kind in kinds if kind != "start"]


@pytest.fixture
def state():
    return State()


@pytest.fixture
def audit(state):
    async def find(tenant):
        return None if tenant == "gone" else object()

    return Audit(state, FakeClock(), tenant=find, reads=False)


def arrival(path, context, request=None):
    return Arrival(
        path,
        METHODS[path],
        (),
        "r1",
        context=context,
        peer="ipv4:10.0.0.7:50000",
        message=b"" if request is None else request.SerializeToString(),
    )


def observed(audit, path, context, request=None, *, reason=None):
    error = None if reason is None else ServiceError(reason, "no")
    audit.observe(arrival(path, context, request), End(error, 0.5))


def test_what_manages():
    """Whatever a writer may not do and changes something; its own data does not."""
    managing = {path for path, method in METHODS.items() if manages(method)}
    assert CREATE in managing
    assert "/llmspell.v1.TenantService/CreateApiKey" in managing
    assert "/llmspell.v1.PolicyService/SetPolicy" in managing
    assert "/llmspell.v1.VaultService/RotateMasterKey" in managing
    assert not {SET, GET, "/llmspell.v1.TenantService/ListTenants"} & managing


async def test_nothing_is_changed_without_an_intent(audit, state):
    """Where the log takes none, the handler is not even called."""
    state.errors = [Reason.STORAGE_FULL]
    with pytest.raises(ServiceError) as refused:
        async with audit.place(arrival(CREATE, OPERATOR)):
            pytest.fail("the change was made")
    assert refused.value.reason == Reason.AUDIT_UNAVAILABLE
    assert refused.value.metadata == {"done": "false", "why": "STORAGE_FULL"}


async def test_a_change_without_its_outcome(audit, state):
    """Its caller is told that it was made and is not written; the entry comes when it can."""
    state.errors = [None, Reason.SERVICE_UNAVAILABLE]
    with pytest.raises(ServiceError) as refused:
        async with audit.place(arrival(CREATE, OPERATOR)):
            pass
    assert refused.value.metadata["done"] == "true"
    assert state.told() == ["intent"]
    assert await audit._send_waiting()
    assert state.told() == ["intent", "outcome"]


@pytest.mark.parametrize(
    ("error", "decision", "reason"),
    [
        (ServiceError(Reason.TENANT_EXISTS, "x"), "ALLOWED", "TENANT_EXISTS"),
        (ServiceError(Reason.PERMISSION_DENIED, "x"), "DENIED", "PERMISSION_DENIED"),
        (ValueError("a secret"), "ALLOWED", "INTERNAL"),
    ],
)
async def test_a_change_that_failed(audit, state, error, decision, reason):
    """How it failed is written, and its caller hears that failure."""
    with pytest.raises(type(error)):
        async with audit.place(arrival(CREATE, OPERATOR)):
            raise error
    assert state.told() == ["intent", "outcome"]
    outcome = state.entries[-1]
    assert audit_pb2.AuditDecision.Name(outcome.decision) == f"AUDIT_DECISION_{decision}"
    assert outcome.reason == reason
    assert "secret" not in str(state.entries)


async def test_a_caller_that_went_away(audit, state):
    """It does not wait for the outcome; the log has it all the same."""
    with pytest.raises(asyncio.CancelledError):
        async with audit.place(arrival(CREATE, OPERATOR)):
            raise asyncio.CancelledError
    await audit._send_waiting()
    assert state.entries[-1].reason == "CANCELLED"


async def test_which_calls_are_noted(audit, state):
    """Writes and denials are; reads are only where an operator reads a tenant's data."""
    observed(audit, SET, WRITER)
    observed(audit, GET, WRITER)
    observed(audit, GET, WRITER, reason=Reason.PERMISSION_DENIED)
    inside = CallContext(tenant="acme", principal="operator", permissions=("*",), any_tenant=True)
    observed(audit, GET, inside)
    observed(audit, GET, None, reason=Reason.CREDENTIAL_INVALID)
    await audit._send_waiting()
    noted = [
        (entry.principal, entry.method.split("/")[1], entry.reason) for entry in state.entries[1:]
    ]
    assert noted == [
        ("k1", "SetState", ""),
        ("k1", "GetState", "PERMISSION_DENIED"),
        ("operator", "GetState", ""),
        ("", "GetState", "CREDENTIAL_INVALID"),
    ]


async def test_state_is_away(audit, state):
    """Entries wait and come in order, once, when it is back."""
    observed(audit, SET, WRITER, state_pb2.SetStateRequest(key="a"))
    state.errors = [Reason.SERVICE_UNAVAILABLE]
    assert not await audit._send_waiting()
    observed(audit, SET, WRITER, state_pb2.SetStateRequest(key="b"))
    assert await audit._send_waiting()
    assert [entry.resource for entry in state.entries[1:]] == ["key=a", "key=b"]


async def test_too_many_leave_a_gap(audit, state):
    """What came beyond the queue is told as a number; none of it is missing in silence."""
    for number in range(AUDIT_QUEUE_MAX + 100):
        observed(audit, SET, WRITER, state_pb2.SetStateRequest(key=str(number)))
    await audit._send_waiting()
    assert sum(entry.call_count for entry in state.entries[1:]) == AUDIT_QUEUE_MAX + 100
    assert "gap" in state.told()


async def test_what_the_log_will_never_take_is_a_gap(audit, state):
    """Entries that are refused for what they are do not stop those behind them."""
    observed(audit, SET, WRITER)
    state.errors = [None, Reason.FIELD_INVALID]
    await audit._send_waiting()
    _, gap = state.entries
    assert gap.kind == audit_pb2.AUDIT_KIND_GAP
    assert gap.call_count == 1


async def test_calls_that_are_alike_share(audit, state):
    """A flood of the same denial is one entry, with how many and how long together."""
    for _ in range(5):
        observed(audit, GET, WRITER, reason=Reason.PERMISSION_DENIED)
    await audit._send_waiting()
    entry = state.entries[1]
    assert (entry.call_count, entry.elapsed.ToMilliseconds()) == (5, 2500)


async def test_names_of_a_tenant_that_is_gone(audit, state):
    """A late entry brings back nothing that was erased with its tenant."""
    gone = CallContext(tenant="gone", principal="k2", permissions=("state.write",))
    observed(audit, SET, gone, state_pb2.SetStateRequest(key="planted"))
    await audit._send_waiting()
    assert "planted" not in str(state.entries)


SECRET = "sk-" + "Zx9" * 10


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        (SET, state_pb2.SetStateRequest(scope="user:a", key=SECRET)),
        (SET, state_pb2.SetStateRequest(key="k", value=state_pb2.Payload(json=f'"{SECRET}"'))),
        (CREATE, tenant_pb2.CreateTenantRequest(tenant_id="a", display_name=SECRET)),
        (
            "/llmspell.v1.TenantService/RevokeApiKey",
            tenant_pb2.RevokeApiKeyRequest(key_id="llms_0123456789abcdef_" + "Zx9" * 14),
        ),
    ],
)
def test_secrets_never_appear(path, request_):
    """Neither what is carried nor a name with the form of a credential."""
    told = resource_of(METHODS[path], request_.SerializeToString())
    assert "Zx9Zx9" not in told


def test_names_are_plain():
    """Line breaks, cut bytes and lengths do no harm; nested names are found."""
    method = METHODS[SET]
    told = resource_of(
        method, state_pb2.SetStateRequest(key="a\nb" + "x" * 5000).SerializeToString()
    )
    assert "\n" not in told
    assert len(told) < 600
    whole = state_pb2.SetStateRequest(scope="user:a", key="theme").SerializeToString()
    for cut in range(len(whole)):
        resource_of(method, whole[:cut])
    batch = state_pb2.BatchStateRequest(
        writes=[state_pb2.StateWrite(scope="user:a", key="k", delete=True)]
    )
    path = "/llmspell.v1.StateService/BatchState"
    assert resource_of(METHODS[path], batch.SerializeToString()) == "scope=user:a key=k"


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:50000", "10.0.0.7"),
        ("ipv6:%5B::1%5D:50000", "::1"),
        ("unix:/run/x", "unix"),
        ("", ""),
    ],
)
def test_hosts(peer, host):
    """Where a call comes from, without the port, which differs each time."""
    assert host_of(peer) == host
