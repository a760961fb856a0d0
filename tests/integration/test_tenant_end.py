"""The end of a tenant: what it had is gone, and a later tenant of its name begins empty."""

from __future__ import annotations

import grpc
import pytest
from llmspell import Client, NotFound, Unauthenticated
from llmspell.v1 import script_pb2, script_pb2_grpc

WRITE_FOR_EVER = """
local n = 0
while true do
  n = n + 1
  State.save("global", "still-here", n)
  if n == 1 then print("writing") end
end
"""

WRITE_A_FILE = {"operation": "write", "path": "mine.txt", "input": "Nobody must read this."}


@pytest.fixture
def operator(deployment):
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


def test_a_deleted_tenant_leaves_nothing_to_its_namesake(deployment, operator):
    """Its key ends at once, its running script is stopped, and the next of its name is empty."""
    operator.create_tenant("short-lived")
    key = operator.create_key("short-lived").key
    metadata = (("authorization", f"Bearer {key}"),)
    with Client(deployment.address, key) as tenant:
        tenant.ingest(["Nobody must find this again."])
        tenant.execute_tool("file-operations", WRITE_A_FILE)
    with grpc.insecure_channel(deployment.address) as channel:
        request = script_pb2.RunScriptRequest(source=WRITE_FOR_EVER)
        run = script_pb2_grpc.ScriptServiceStub(channel).RunScript(request, metadata=metadata)
        next(event for event in run if event.output.data)
        operator.delete_tenant("short-lived")
        with pytest.raises(grpc.RpcError):
            list(run)
    with Client(deployment.address, key) as tenant, pytest.raises(Unauthenticated):
        tenant.get_state("still-here")
    with pytest.raises(NotFound):
        operator.get_tenant("short-lived")
    operator.create_tenant("short-lived")
    with Client(deployment.address, operator.create_key("short-lived").key) as namesake:
        assert list(namesake.list_state()) == []
        assert namesake.retrieve("find this", k=3).hits == ()
        assert namesake.stats().record_count == 0
        left = namesake.execute_tool("file-operations", {"operation": "usage"}).result
        assert (left["files_used"], left["bytes_used"]) == (0, 0)
    operator.delete_tenant("short-lived")


def test_a_script_may_not_write_for_a_tenant_that_is_not_there(deployment, operator):
    """Nor may the operator's own: a grant is for one tenant, whatever a script names."""
    operator.grant_access("acme", reason="a script", roles=["writer"])
    source = 'RAG.ingest({text = "x"}, {tenant_id = "not-there-yet"})'
    metadata = (
        ("authorization", f"Bearer {deployment.operator_key}"),
        ("llmspell-tenant", "acme"),
    )
    with grpc.insecure_channel(deployment.address) as channel:
        request = script_pb2.RunScriptRequest(source=source)
        run = script_pb2_grpc.ScriptServiceStub(channel).RunScript(request, metadata=metadata)
        with pytest.raises(grpc.RpcError, match="may not act for the tenant"):
            list(run)
