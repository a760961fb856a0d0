"""A script's call: done as the run's caller, for the run's tenant, or refused."""

import dataclasses

import pytest
from llmspell.v1 import state_pb2

from services.common.access import METHODS
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import DEADLINE_SECONDS_MAX
from services.common.tenants import TenantRecord
from services.runtime.bridge import Bridge
from services.runtime.runs import Call

GET, SET = "llmspell.v1.StateService/GetState", "llmspell.v1.StateService/SetState"
WRITER = CallContext(
    tenant="acme",
    principal="k1",
    permissions=("state.read", "state.write", "vector.write"),
    request_id="r1",
)
OPERATOR = dataclasses.replace(
    WRITER, principal="operator", permissions=("*",), any_tenant=True, tenant="acme"
)
ROUTED = ("llmspell.v1.StateService", "llmspell.v1.VectorService", "llmspell.v1.RagService")


class Listener:
    """Stands where the relay stands, and remembers what was to be sent."""

    def __init__(self):
        self.sent = []
        self.error = None

    def routes(self, method):
        return method.service in ROUTED

    async def call(self, method, request, context, *, timeout_s):
        self.sent.append((method.descriptor.name, request, context, timeout_s))
        if self.error is not None:
            raise self.error
        item = state_pb2.Item(key="k", value=state_pb2.Payload(text="v"))
        return state_pb2.GetStateResponse(item=item, revision=7).SerializeToString()


class Known:
    """Stands where the look-up of tenants stands."""

    def __init__(self, *names):
        self.names = names

    async def get(self, tenant_id):
        return TenantRecord(tenant_id, "", 0) if tenant_id in self.names else None


BOTH = Known("acme", "globex")


@pytest.fixture
def relay():
    return Listener()


def bridge(relay, context=WRITER, timeout_s=60.0, tenants=BOTH):
    return Bridge(relay, tenants, context, timeout_s=timeout_s)


def call(method=GET, tenant=None, **args):
    return Call(method=method, tenant=tenant, args=args or {"key": "k"})


async def refused(answering, relay):
    reply = await answering
    assert not reply.ok
    assert relay.sent == []
    return reply.tree


async def test_a_call_is_done_as_the_runs_caller(relay):
    """The message is what the tree says; the context is the run's, unchanged."""
    reply = await bridge(relay)(call())
    assert reply.ok
    assert reply.tree["item"] == {
        "key": "k",
        "value": {"text": "v", "sensitive": False},
        "revision": 0,
    }
    assert reply.tree["revision"] == 7
    ((name, request, context, _),) = relay.sent
    assert name == "GetState"
    assert state_pb2.GetStateRequest.FromString(request).key == "k"
    assert context is WRITER


@pytest.mark.parametrize("context", [WRITER, OPERATOR])
async def test_ones_own_tenant_may_be_named(relay, context):
    """It changes nothing."""
    assert (await bridge(relay, context)(call(tenant="acme"))).ok
    assert relay.sent[0][2] is context


@pytest.mark.parametrize(
    "named", ["globex", "nobody", "", "_system", "Acme", "acme ", "acme\x00", "ac", "acme2", "*"]
)
async def test_no_other_tenant_may_be_named(relay, named):
    """One refusal in the same words whether it exists or not, and nobody is asked."""
    tree = await refused(bridge(relay)(call(tenant=named)), relay)
    assert tree == {
        "code": "PERMISSION_DENIED",
        "reason": "PERMISSION_DENIED",
        "message": "This key may not act for the tenant that was named.",
        "metadata": {},
    }


async def test_the_operators_script_may_name_a_tenant(relay):
    """For that call alone."""
    answer = bridge(relay, OPERATOR)
    assert (await answer(call(tenant="globex"))).ok
    assert (await answer(call())).ok
    first, second = (context for _, _, context, _ in relay.sent)
    assert first == dataclasses.replace(OPERATOR, tenant="globex")
    assert second.tenant == "acme"


async def test_a_row_filter_goes_with_every_call_of_the_run(relay):
    """The rule of the key that started the run holds for what its script does, here and there."""
    ruled = dataclasses.replace(OPERATOR, row_filter=b"rule")
    answer = bridge(relay, ruled)
    assert (await answer(call())).ok
    assert (await answer(call(tenant="globex"))).ok
    assert [context.row_filter for _, _, context, _ in relay.sent] == [b"rule", b"rule"]


async def test_the_operators_script_may_not_name_a_tenant_that_is_not_there(relay):
    """What it wrote would be found by the next tenant of that name."""
    tree = await refused(bridge(relay, OPERATOR)(call(tenant="nobody")), relay)
    assert (tree["reason"], tree["metadata"]) == ("TENANT_NOT_FOUND", {"tenant_id": "nobody"})


async def test_a_run_that_outlives_its_tenant_is_refused(relay):
    """From its deletion on, though the run was started by a key that was good."""
    tree = await refused(bridge(relay, tenants=Known("globex"))(call(SET)), relay)
    assert tree["reason"] == "TENANT_NOT_FOUND"


@pytest.mark.parametrize(
    "named", ["_system", "_", "", "ACME", "a/b", "a\x00b", "acme\x00session", "a" * 64, "é"]
)
async def test_not_even_the_operators_script_may_name_what_is_no_tenant(relay, named):
    """Neither the system's tenant nor a text that could be taken for two in a key."""
    tree = await refused(bridge(relay, OPERATOR)(call(tenant=named)), relay)
    assert tree["reason"] == "PERMISSION_DENIED"


UNKNOWN = [
    "",
    "/",
    "GetState",
    "StateService/GetState",
    "/llmspell.v1.StateService/GetState",
    "llmspell.v1.StateService/getstate",
    "llmspell.v1.StateService/GetState ",
    "llmspell.v1.StateService/GetState\x00",
    "llmspell.v1.StateService/../StateService/GetState",
    "grpc.health.v1.Health/Check",
    "x" * 100_000,
]
SECRET = "sk-abcdefghijklmnopqrstuvwxyz012345"


@pytest.mark.parametrize("refused_here", [True, False], ids=["here", "by state"])
async def test_an_error_tells_a_script_no_credential(relay, refused_here):
    """Neither message nor metadata has it, whoever refused; the rest of both is told."""
    if not refused_here:
        relay.error = ServiceError(
            Reason.VALUE_NOT_NUMBER, f"{SECRET!r} cannot be added to.", key=SECRET, password="x"
        )
    args = {"key": "k", SECRET: 1} if refused_here else {"key": "k"}
    reply = await bridge(relay)(Call(method=GET, tenant=None, args=args))
    assert not reply.ok
    assert SECRET not in repr(reply.tree)
    assert "[REDACTED]" in reply.tree["message"]
    if refused_here:
        assert reply.tree["metadata"]["field"] == "[REDACTED]"
    else:
        assert reply.tree["metadata"] == {"key": "[REDACTED]", "password": "[REDACTED]"}


NOT_ROUTED = [
    "llmspell.v1.ScriptService/RunScript",
    "llmspell.v1.ScriptService/CheckScript",
    "llmspell.v1.TenantService/CreateApiKey",
    "llmspell.v1.TenantService/WhoAmI",
    "llmspell.v1.ProcessService/GetProcessStatus",
]


@pytest.mark.parametrize("method", UNKNOWN + NOT_ROUTED, ids=range(len(UNKNOWN + NOT_ROUTED)))
@pytest.mark.parametrize("context", [WRITER, OPERATOR], ids=["writer", "operator"])
async def test_what_scripts_cannot_call_is_not_offered(relay, context, method):
    """Unknown, of another process, or a stream: the operator's script cannot either."""
    tree = await refused(bridge(relay, context)(call(method)), relay)
    assert tree["reason"] == "NOT_IMPLEMENTED"
    assert len(tree["message"]) < 200


@pytest.mark.parametrize("name", ["VectorService/ImportVectors", "RagService/ImportDocuments"])
async def test_an_import_is_no_call_of_a_script(relay, name):
    """What takes a stream is UNIMPLEMENTED to a script, by name, whoever started it."""
    tree = await refused(bridge(relay, OPERATOR)(call(f"llmspell.v1.{name}")), relay)
    assert (tree["code"], tree["reason"]) == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")
    assert f"llmspell.v1.{name}" in tree["message"]


async def test_a_stream_is_refused_even_where_it_has_a_route(relay, monkeypatch):
    """A worker has one reply to a call."""
    monkeypatch.setattr(relay, "routes", lambda method: True)
    tree = await refused(bridge(relay)(call("llmspell.v1.ScriptService/RunScript")), relay)
    assert tree["reason"] == "NOT_IMPLEMENTED"


@pytest.mark.parametrize(
    "method",
    [m for m in METHODS.values() if m.service in ROUTED and not m.streams],
    ids=lambda m: m.path,
)
async def test_permissions_are_the_runs(relay, method):
    """Every method with a route is refused to a caller without it, whatever the frame says."""
    context = dataclasses.replace(WRITER, permissions=("self.read",))
    frame = Call(method=method.path[1:], tenant="acme", args={"permissions": ["*"], "tenant": "x"})
    tree = await refused(bridge(relay, context)(frame), relay)
    assert tree["reason"] == "PERMISSION_DENIED"


async def test_a_reader_cannot_write_for_another_tenant_either(relay):
    """The tenant is judged before the permission, and both are."""
    reader = dataclasses.replace(OPERATOR, permissions=("state.read",))
    tree = await refused(bridge(relay, reader)(call(SET, tenant="globex")), relay)
    assert tree["reason"] == "PERMISSION_DENIED"


async def test_purging_is_not_for_scripts_of_a_tenant(relay):
    """No role holds it, so no script can."""
    tree = await refused(bridge(relay)(call("llmspell.v1.StateService/PurgeState")), relay)
    assert tree["reason"] == "PERMISSION_DENIED"


@pytest.mark.parametrize("args", [{"zzz": 1}, {"key": 5}, {"key": []}, {"tenant_id": "globex"}])
async def test_a_malformed_argument_is_named(relay, args):
    """FIELD_INVALID with the field, in Lua's terms."""
    tree = await refused(bridge(relay)(Call(method=GET, tenant=None, args=args)), relay)
    assert tree["code"] == "INVALID_ARGUMENT"
    assert tree["reason"] == "FIELD_INVALID"
    assert tree["metadata"]["field"] == next(iter(args))


def deep(levels, name):
    tree = {"condition": {"field": "a", "exists": True}}
    for _ in range(levels):
        tree = {name: tree} if name == "not" else {name: {"filters": [tree]}}
    return tree


@pytest.mark.parametrize("name", ["not", "all", "any"])
@pytest.mark.parametrize("levels", [3000, 100_000])
async def test_a_bottomless_message_is_refused_and_no_crash(relay, name, levels):
    """What nests deeper than can be written is an error that says so."""
    context = dataclasses.replace(WRITER, permissions=("*",))
    args = {"text": "q", "filter": deep(levels, name)}
    frame = Call(method="llmspell.v1.RagService/RetrieveDocuments", tenant=None, args=args)
    tree = await refused(bridge(relay, context)(frame), relay)
    assert tree["message"] == "the argument is nested too deep."


async def test_text_that_is_no_utf8_is_refused(relay):
    """A lone surrogate is an error of the argument."""
    frame = Call(method=GET, tenant=None, args={"key": "\ud800"})
    tree = await refused(bridge(relay)(frame), relay)
    assert "UTF-8" in tree["message"]


async def test_a_refusal_comes_back_as_a_table(relay):
    """Code, reason, message and metadata, as the service gave them."""
    relay.error = ServiceError(Reason.ITEM_NOT_FOUND, "No item k.", key="k")
    reply = await bridge(relay)(call())
    assert not reply.ok
    assert reply.tree == {
        "code": "NOT_FOUND",
        "reason": "ITEM_NOT_FOUND",
        "message": "No item k.",
        "metadata": {"key": "k"},
    }


async def test_what_is_not_a_refusal_ends_the_run(relay):
    """A fault of ours is no value for a script to look at."""
    relay.error = RuntimeError("hunter2")
    with pytest.raises(RuntimeError):
        await bridge(relay)(call())


@pytest.mark.parametrize(("given", "used"), [(5.0, 5.0), (1e9, DEADLINE_SECONDS_MAX)])
async def test_a_call_has_a_deadline(relay, given, used):
    """The run's, and never more than the limit."""
    await bridge(relay, timeout_s=given)(call())
    assert relay.sent[0][3] == used
